"""The networks, by architecture name.

A new architecture is one file here with its config and its network, and one entry in ``ARCHITECTURES``.
"""

from pathlib import Path

import torch

from ..download.checkpoint_files import CONFIG_FILE, WEIGHTS_FILE
from ..errors import CheckpointInvalid
from ._base import DenoisingAutoencoder, config_from_dict, read_config
from .bottleneck import Bottleneck, BottleneckConfig
from .unet import Unet, UnetConfig

__all__ = [
    "ARCHITECTURES",
    "CONFIG_FILE",
    "WEIGHTS_FILE",
    "Bottleneck",
    "BottleneckConfig",
    "DenoisingAutoencoder",
    "Unet",
    "UnetConfig",
    "check_config_file",
    "config_from_dict",
    "count_parameters",
    "load_model",
    "model_class",
]

ARCHITECTURES: dict[str, type[DenoisingAutoencoder]] = {"unet": Unet, "bottleneck": Bottleneck}


def model_class(config: dict, where: str) -> type[DenoisingAutoencoder]:
    """The class that a config names.

    Raises:
        CheckpointInvalid: The architecture is not one of ours; ``where`` says whose config it is.
    """
    name = config.get("architecture")
    if name is None:
        raise CheckpointInvalid(f"{where} names no architecture of ours: this is not a denoiser checkpoint.")
    if not isinstance(name, str) or name not in ARCHITECTURES:
        raise CheckpointInvalid(
            f"{where} asks for architecture {str(name)[:80]!r}; this version knows {', '.join(sorted(ARCHITECTURES))}."
        )
    return ARCHITECTURES[name]


def check_config_file(folder: str | Path, label: str):
    """The config of a checkpoint folder, checked by type and range: all that can be known before its weights.

    Raises:
        CheckpointInvalid: It does not fit; ``label`` is what the message calls the checkpoint.
    """
    values = read_config(Path(folder), label)
    return model_class(values, f"{label}/{CONFIG_FILE}")._read_config(Path(folder), label)


def count_parameters(config) -> int:
    """How many parameters the network of a config has; none is allocated."""
    with torch.device("meta"):
        model = ARCHITECTURES[config.architecture](config)
    return sum(parameter.numel() for parameter in model.parameters())


def load_model(folder: str | Path, device: str = "cpu", label: str | None = None) -> DenoisingAutoencoder:
    """Load whichever network a checkpoint folder holds, in eval mode.

    Args:
        folder: Holds config.json and model.safetensors.
        device: Where to put it.
        label: What to call it in messages; by default the folder's name.

    Raises:
        CheckpointInvalid: The folder is not exactly a checkpoint of ours; the message says what does not fit.
    """
    folder = Path(folder)
    label = label or folder.name
    return model_class(read_config(folder, label), f"{label}/{CONFIG_FILE}")._load_folder(folder, device, label)

"""The networks, by architecture name.

A new architecture is one file here with its config and its network, and one entry in ``ARCHITECTURES``.
"""

from pathlib import Path

from ..errors import CheckpointInvalid
from ._base import CONFIG_FILE, WEIGHTS_FILE, DenoisingAutoencoder, config_from_dict, read_config
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
    "config_from_dict",
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
    if not isinstance(name, str) or name not in ARCHITECTURES:
        raise CheckpointInvalid(
            f"{where} asks for architecture {str(name)[:80]!r}; this version knows {', '.join(sorted(ARCHITECTURES))}."
        )
    return ARCHITECTURES[name]


def load_model(folder: str | Path, device: str = "cpu") -> DenoisingAutoencoder:
    """Load whichever network a checkpoint folder holds, in eval mode.

    Raises:
        CheckpointInvalid: The folder is not exactly a checkpoint of ours; the message says what does not fit.
    """
    folder = Path(folder)
    config = read_config(folder)
    return model_class(config, f"{folder.name}/{CONFIG_FILE}")._load_folder(folder, device)

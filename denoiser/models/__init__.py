"""The networks, by architecture name.

A new architecture is one file here with its config and its network, and one entry in ``ARCHITECTURES``; other packages
add theirs by :func:`register_architecture`.
"""

import dataclasses
import re
from pathlib import Path
from typing import Any, TypeVar, cast

import safetensors
import safetensors.torch
import torch

from ..download.checkpoint_files import CONFIG_FILE, WEIGHTS_FILE
from ..errors import CheckpointInvalid
from ._base import DenoisingAutoencoder, ModelConfig, check_config, config_from_dict, read_config
from .bottleneck import Bottleneck, BottleneckConfig
from .unet import Unet, UnetConfig

__all__ = [
    "ARCHITECTURES",
    "CONFIG_FILE",
    "WEIGHTS_FILE",
    "Bottleneck",
    "BottleneckConfig",
    "DenoisingAutoencoder",
    "ModelConfig",
    "Unet",
    "UnetConfig",
    "check_config",
    "check_config_file",
    "config_from_dict",
    "count_parameters",
    "holds_weights",
    "load_model",
    "model_class",
    "register_architecture",
]

ARCHITECTURES: dict[str, type[DenoisingAutoencoder]] = {"unet": Unet, "bottleneck": Bottleneck}

_REQUIRED = ("architecture", "channels", "widths", "bias", "blind", "sigma_range", "sigma_units")
_OF_ANOTHER_PACKAGE = re.compile(r"((?:[A-Za-z_]\w*\.)+)[A-Za-z_][\w-]*")
Network = TypeVar("Network", bound=type[DenoisingAutoencoder])


def register_architecture(network: Network) -> Network:
    """Add the network of another package to ``ARCHITECTURES``, as a decorator of its class.

    The default of the field ``architecture`` in its ``Config`` is its name: "package.name", where ``import package``
    registers it. That is what ``from_pretrained`` says where a checkpoint is loaded without it.

    Raises:
        ValueError: The name is of another form or taken by another class, or its config lacks a field of
            :class:`ModelConfig`.
    """
    fields = [field.name for field in dataclasses.fields(cast(Any, network.Config))]
    if fields[:1] != ["architecture"] or not set(_REQUIRED) <= set(fields):
        raise ValueError(
            f"the config of {network.__name__} must have the fields {', '.join(_REQUIRED)}, in front the first"
        )
    name = network.Config().architecture
    if not _OF_ANOTHER_PACKAGE.fullmatch(name):
        raise ValueError(
            f"architecture {name!r} must be of the form 'package.name', where `import package` registers it"
        )
    known = ARCHITECTURES.get(name)
    if known and (known.__module__, known.__qualname__) != (network.__module__, network.__qualname__):
        raise ValueError(f"architecture {name!r} is taken by {known.__module__}.{known.__qualname__}")
    ARCHITECTURES[name] = network
    return network


def model_class(config: dict[str, Any], where: str) -> type[DenoisingAutoencoder]:
    """The network class of a config.

    Raises:
        CheckpointInvalid: The architecture is unknown; the message calls the source of the config ``where``.
    """
    name = config.get("architecture")
    if name is None:
        raise CheckpointInvalid(f"{where} names no architecture of ours: this is not a denoiser checkpoint.")
    if isinstance(name, str) and name not in ARCHITECTURES and (other := _OF_ANOTHER_PACKAGE.fullmatch(name)):
        raise CheckpointInvalid(
            f"{where} asks for architecture {name[:80]!r} of another package: install that package if you trust it, "
            f"and `import {other[1][:-1][:80]}` before the checkpoint is loaded."
        )
    if not isinstance(name, str) or name not in ARCHITECTURES:
        raise CheckpointInvalid(
            f"{where} asks for architecture {str(name)[:80]!r}; this version knows {', '.join(sorted(ARCHITECTURES))}."
        )
    return ARCHITECTURES[name]


def check_config_file(folder: str | Path, label: str) -> ModelConfig:
    """The config of a checkpoint folder, checked by type and range.

    Raises:
        CheckpointInvalid: It is not valid; the message calls the checkpoint ``label``.
    """
    values = read_config(Path(folder), label)
    return model_class(values, f"{label}/{CONFIG_FILE}").config_from_folder(Path(folder), label)


def count_parameters(config: ModelConfig) -> int:
    """The number of parameters of the network of a config, without allocating them."""
    with torch.device("meta"):
        model: torch.nn.Module = ARCHITECTURES[config.architecture](config)
    return sum(parameter.numel() for parameter in model.parameters())


def holds_weights(folder: Path, model: DenoisingAutoencoder) -> bool:
    """Whether a checkpoint folder holds exactly the weights of ``model``."""
    try:
        saved = safetensors.torch.load_file(folder / WEIGHTS_FILE)
    except (safetensors.SafetensorError, OSError):  # cut short or deleted since it was loaded
        return False
    weights = model.state_dict()
    return saved.keys() == weights.keys() and all(
        torch.equal(saved[name].float(), weight.cpu()) for name, weight in weights.items()
    )


def load_model(
    folder: str | Path, device: str | torch.device = "cpu", label: str | None = None
) -> DenoisingAutoencoder:
    """Load the network of a checkpoint folder, of any architecture, in eval mode.

    Args:
        folder: Holds config.json and model.safetensors.
        device: Where to put it.
        label: Its name in messages; by default the folder's.

    Raises:
        CheckpointInvalid: The folder is not a valid checkpoint; the message says what is wrong.
    """
    folder = Path(folder)
    label = label or folder.name
    return model_class(read_config(folder, label), f"{label}/{CONFIG_FILE}").load_folder(folder, device, label)

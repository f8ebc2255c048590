"""Base class of the networks: the contract of ``forward``, padding, and strict, pickle-free loading.

A checkpoint folder holds ``config.json`` (the architecture's name and every field of its config) and
``model.safetensors``. Loading accepts exactly that: an unknown field, a missing or extra tensor, a wrong shape or a
value that is not finite raises :class:`~denoiser.errors.CheckpointInvalid`, which names the file and the problem.
"""

import dataclasses
import json
import os
from pathlib import Path
from typing import Any, Literal, Protocol, Self, cast

import safetensors
import safetensors.torch
import torch
from huggingface_hub import PyTorchModelHubMixin
from torch import nn

from ..download.checkpoint_files import CONFIG_FILE, MAX_CONFIG_BYTES, WEIGHTS_FILE
from ..download.fetch import fetch
from ..errors import CheckpointInvalid, CheckpointNotFound


def draw_weights(weight: torch.Tensor, nonlinearity: Literal["relu", "linear"]) -> None:
    """Fill a convolution's weights by He's normal distribution; those that are on the meta device have no values."""
    if not weight.is_meta:  # torch would import its compiler for them, which takes more than a second
        nn.init.kaiming_normal_(weight, nonlinearity=nonlinearity)


def pad_to_multiple(x: torch.Tensor, multiple: int) -> torch.Tensor:
    """Pad (B, C, H, W) at the bottom and right until H and W are multiples of ``multiple``.

    By reflection; beyond size - 1 of it, by replication: any H, W >= 1 works. One gather for every size, as conditions
    on the size would tie a compiled or exported network to the sizes that it was made with.
    """
    height, width = x.shape[-2:]
    if not torch.compiler.is_compiling() and height % multiple == width % multiple == 0:
        return x  # the same, without a copy
    return _gather(x, *(_mirrored_positions(size, multiple, x.device) for size in (height, width)))


def _mirrored_positions(size: int, multiple: int, device: torch.device) -> torch.Tensor:
    """Where the rows (or columns) of a padded picture come from: 0 .. size - 1, and back from there."""
    padded = ((size - 1) // multiple + 1) * multiple  # in this form torch.export can prove that it is positive
    return (size - 1 - (torch.arange(padded, device=device) - (size - 1)).abs()).clamp(min=0)


def _gather(x: torch.Tensor, rows: torch.Tensor, columns: torch.Tensor) -> torch.Tensor:
    """The rows and columns of (B, C, H, W) at these positions. With the channels last: several times as fast."""
    return x.permute(0, 2, 3, 1).index_select(1, rows).index_select(2, columns).permute(0, 3, 1, 2)


def _crop(x: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """The first rows and columns of (B, C, H, W)."""
    if torch.compiler.is_compiling():  # torch.export cannot prove that a slice lies within the padded size
        return _gather(x, torch.arange(height, device=x.device), torch.arange(width, device=x.device))
    return x[..., :height, :width]


def sigma_map(sigma: float | torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """Noise level as a (B, 1, H, W) map for the pictures ``x`` (B, C, H, W).

    ``sigma`` is a number, a tensor with one value, a (B,) tensor or a (B or 1, 1, H, W) map, in the units of ``x``.
    """
    batch, _, height, width = x.shape
    level = torch.as_tensor(sigma, dtype=x.dtype, device=x.device)
    if level.numel() == 1:
        level = level.reshape(1, 1, 1, 1)
    elif level.shape == (batch,):
        level = level.reshape(batch, 1, 1, 1)
    elif level.ndim != 4 or level.shape[0] not in (1, batch) or level.shape[1:] != (1, height, width):
        raise ValueError(
            f"sigma has shape {tuple(level.shape)}; for pictures of shape {tuple(x.shape)} give a number, "
            f"a tensor of shape ({batch},) or a map of shape ({batch}, 1, {height}, {width})"
        )
    return level.expand(batch, 1, height, width)


class ModelConfig(Protocol):
    """The fields that the config of every architecture has; a config is a frozen dataclass.

    Attributes:
        architecture: Name in ``ARCHITECTURES``; the first field.
        channels: Color channels: 1 or 3.
        widths: Feature channels per level, finest first.
        bias: Whether convolutions have biases.
        blind: Whether the network has no noise-level input.
        sigma_range: Lowest and highest noise standard deviation seen in training, in ``sigma_units``.
        sigma_units: "8-bit": the 0..255 scale.
    """

    @property
    def architecture(self) -> str: ...
    @property
    def channels(self) -> int: ...
    @property
    def widths(self) -> tuple[int, ...]: ...
    @property
    def bias(self) -> bool: ...
    @property
    def blind(self) -> bool: ...
    @property
    def sigma_range(self) -> tuple[float, float]: ...
    @property
    def sigma_units(self) -> str: ...


class DenoisingAutoencoder(nn.Module, PyTorchModelHubMixin, library_name="denoiser"):
    """Base of the networks: ``forward`` is ``decode(encode(x, sigma))`` between padding and cropping.

    Subclasses define ``Config`` (see :class:`ModelConfig`), ``multiple`` (H and W are padded to multiples of it),
    ``encode`` and ``decode``.
    """

    Config: type[ModelConfig]
    config: ModelConfig
    multiple: int
    supports_bfloat16: bool = True

    def encode(self, x: torch.Tensor, level: torch.Tensor | None) -> Any:
        """Padded pictures (B, C, H, W) and noise-level map (B, 1, H, W), None if blind -> what ``decode`` takes."""
        raise NotImplementedError

    def decode(self, encoded: Any) -> torch.Tensor:
        """The output of ``encode`` -> clean pictures (B, C, H, W)."""
        raise NotImplementedError

    def stages(self) -> dict[str, nn.Module]:
        """The parts that a picture goes through, by their names for people; each returns features (B, C, h, w)."""
        return {name.capitalize(): module for name, module in self.named_children()}

    def forward(self, x: torch.Tensor, sigma: float | torch.Tensor | None = None) -> torch.Tensor:
        """Denoise a batch of pictures.

        Args:
            x: Noisy pictures, float (B, C, H, W), nominally in [0, 1]; any H, W >= 1.
            sigma: Standard deviation of the noise on the same [0, 1] scale: a number, a (B,) tensor or a
                (B, 1, H, W) map. ``None`` for blind checkpoints only.

        Returns:
            The clean estimate, same shape and dtype as ``x``, not clamped.

        Raises:
            ValueError: ``x`` or ``sigma`` has the wrong shape, or a noise level is needed and missing.
        """
        if x.ndim != 4 or x.shape[1] != self.config.channels or min(x.shape[2:]) < 1:
            raise ValueError(f"x has shape {tuple(x.shape)}; this network takes (B, {self.config.channels}, H, W)")
        height, width = x.shape[2:]
        level = None
        if not self.config.blind:
            if sigma is None:
                raise ValueError("this checkpoint is conditioned on the noise level: pass sigma (on the scale of x)")
            level = pad_to_multiple(sigma_map(sigma, x), self.multiple)
        padded = pad_to_multiple(x, self.multiple)
        return _crop(self.decode(self.encode(padded, level)), height, width)

    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: str | Path,
        *,
        revision: str | None = None,
        token: str | bool | None = None,
    ) -> Self:
        """Load a network from a folder or a Hub repository; unlike the mixin's own loading, strictly.

        Raises:
            CheckpointInvalid: The files are not exactly a checkpoint of this architecture.
            CheckpointNotFound: There is no such folder or repository.
            CheckpointGated, HubUnreachable: See :mod:`denoiser.download.fetch`.
        """
        name = str(pretrained_model_name_or_path)
        folder = Path(os.path.expanduser(name))
        if not folder.is_dir():
            if isinstance(pretrained_model_name_or_path, Path) or folder.is_absolute():
                raise CheckpointNotFound(f"There is no folder {folder}.")
            folder = fetch(
                name, revision, token=token, check=lambda config: cls.config_from_folder(config.parent, name)
            ).folder
        return cls.load_folder(folder, "cpu", name)

    @classmethod
    def config_from_folder(cls, folder: Path, label: str) -> ModelConfig:
        return config_from_dict(cls.Config, read_config(folder, label), f"{label}/{CONFIG_FILE}")

    @classmethod
    def load_folder(cls, folder: Path, device: str | torch.device, label: str) -> Self:
        """The network in a checkpoint folder, in eval mode; messages call it ``label``."""
        config = cls.config_from_folder(folder, label)
        # Nothing is allocated until the file is known to hold exactly these tensors: a config may state any size.
        with torch.device("meta"):
            model = cls(config)
        check_weights(model, folder / WEIGHTS_FILE, label)
        if {name for name, _ in model.named_buffers()} <= model.state_dict().keys():
            model.to_empty(device="cpu")
        else:  # only its constructor knows what is not saved
            with torch.device("cpu"), torch.random.fork_rng(devices=[]):
                model = cls(config)
        model.float()  # whatever the default dtype is
        load_weights(model, folder / WEIGHTS_FILE, label)
        return model.to(device).eval()


def read_config(folder: Path, label: str) -> dict[str, Any]:
    """The JSON object in the config.json of a checkpoint folder; messages call the checkpoint ``label``."""
    path = folder / CONFIG_FILE
    if not path.is_file():
        nested = f" That of this run is {label}/checkpoint." if (folder / "checkpoint" / CONFIG_FILE).is_file() else ""
        raise CheckpointInvalid(f"{label} has no {CONFIG_FILE}: it is not a denoiser checkpoint.{nested}")
    if path.stat().st_size > MAX_CONFIG_BYTES:
        raise CheckpointInvalid(f"{label}/{CONFIG_FILE} is over {MAX_CONFIG_BYTES} bytes: it is not one of ours.")
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise CheckpointInvalid(f"{label}/{CONFIG_FILE} is not valid JSON: {error}") from error
    if not isinstance(config, dict):
        raise CheckpointInvalid(f"{label}/{CONFIG_FILE} must hold a JSON object.")
    return config


def config_from_dict(config_type: type[ModelConfig], values: dict[str, Any], where: str) -> ModelConfig:
    """A config dataclass from JSON values; messages call their source ``where``.

    Raises:
        CheckpointInvalid: A field is unknown, missing, of another type or out of range.
    """
    expected = config_type().architecture
    if values.get("architecture") != expected:
        raise CheckpointInvalid(f"{where}: architecture is {str(values.get('architecture'))[:80]!r}, not {expected!r}.")
    known = {field.name for field in dataclasses.fields(cast(Any, config_type))}
    missing, extra = sorted(known - values.keys()), sorted(values.keys() - known)
    if missing or extra:
        raise CheckpointInvalid(f"{where}: missing fields {missing}, unknown fields {str(extra)[:300]}.")
    # JSON has no tuples, and a frozen config should stay hashable.
    values = {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}
    try:
        return config_type(**values)
    except (TypeError, ValueError) as error:
        raise CheckpointInvalid(f"{where}: {str(error)[:300]}") from error


def check_weights(model: nn.Module, path: Path, label: str) -> None:
    """Compare the header of a safetensors file with ``model``: the same tensors and shapes, floating point."""
    where = f"{label}/{WEIGHTS_FILE}"
    if not path.is_file():
        raise CheckpointInvalid(f"{where} is missing. Only safetensors weights are read; a pickle is never opened.")
    wanted = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
            shapes = {name: tuple(tensor.get_shape()) for name, tensor in slices.items()}
            kinds = {name: tensor.get_dtype() for name, tensor in slices.items()}
    except (safetensors.SafetensorError, ValueError, OSError) as error:
        raise CheckpointInvalid(
            f"{where} is cut short, or not a safetensors file: {getattr(error, 'strerror', None) or error}"
        ) from error
    missing, extra = sorted(wanted.keys() - shapes.keys()), sorted(shapes.keys() - wanted.keys())
    if missing or extra:
        raise CheckpointInvalid(f"{where}: missing tensors {missing[:5]}, unexpected tensors {str(extra[:5])[:300]}.")
    for name, shape in wanted.items():
        if shapes[name] != shape:
            raise CheckpointInvalid(f"{where}: {name} has shape {shapes[name]}, expected {shape}.")
        if kinds[name] not in ("F32", "F16", "BF16"):
            raise CheckpointInvalid(f"{where}: {name} holds {kinds[name]} values; only F32, F16 and BF16 are read.")


def load_weights(model: nn.Module, path: Path, label: str) -> None:
    """Load a safetensors file that :func:`check_weights` passed; every value must be finite."""
    tensors = safetensors.torch.load_file(path)
    for name, tensor in tensors.items():
        if not torch.isfinite(tensor).all():
            raise CheckpointInvalid(
                f"{label}/{WEIGHTS_FILE}: {name} holds values that are not finite: NaN or infinity."
            )
    model.load_state_dict(tensors, strict=True)  # bfloat16 storage is widened to the parameters' float32


def check_config(config: ModelConfig, *, integers: dict[str, tuple[int, int]]) -> None:
    """Check the fields of :class:`ModelConfig` and the given integer ranges, before any tensor is allocated.

    ``integers`` maps a field (one integer or a tuple of them) to its inclusive range.
    """
    for name, (low, high) in integers.items():
        value = getattr(config, name)
        items = value if isinstance(value, tuple) else (value,)
        if not items or not all(type(item) is int and low <= item <= high for item in items):
            raise ValueError(f"{name} must be made of integers from {low} to {high}, got {value!r}")
    if config.channels not in (1, 3):
        raise ValueError(f"channels must be 1 or 3, got {config.channels!r}")
    for name in ("bias", "blind"):
        if not isinstance(getattr(config, name), bool):
            raise ValueError(f"{name} must be true or false, got {getattr(config, name)!r}")
    levels = config.sigma_range
    if (
        not isinstance(levels, tuple)
        or len(levels) != 2
        or not all(type(level) in (int, float) for level in levels)
        or not 0 <= levels[0] < levels[1] <= 255
    ):
        raise ValueError(f"sigma_range must be two rising numbers within 0..255, got {levels!r}")
    if config.sigma_units != "8-bit":
        raise ValueError(f"sigma_units must be '8-bit' (0..255), got {config.sigma_units!r}")

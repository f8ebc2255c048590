"""A training configuration: YAML in, frozen dataclasses out, every mistake named before any work is done."""

import dataclasses
import types
import typing
from dataclasses import dataclass, field
from pathlib import Path

import torch
import torch.nn.functional as F
import yaml

from denoiser.errors import CheckpointInvalid
from denoiser.models import DenoisingAutoencoder, config_from_dict, model_class


def charbonnier(restored: torch.Tensor, clean: torch.Tensor) -> torch.Tensor:
    """A smooth L1: sqrt(error^2 + 0.001^2). Charbonnier et al., ICIP 1994."""
    return ((restored - clean) ** 2 + 1e-6).sqrt().mean()


def log_mse(restored: torch.Tensor, clean: torch.Tensor) -> torch.Tensor:
    """The mean over crops of the log of their mean squared error: PSNR itself, so that every noise level counts alike.

    As in Chen et al., "Simple Baselines for Image Restoration", ECCV 2022. The 1e-5 keeps crops without noise, whose
    error is all but none, from outweighing the rest.
    """
    return (((restored - clean) ** 2).mean((1, 2, 3)) + 1e-5).log().mean()


LOSSES = {"l1": F.l1_loss, "mse": F.mse_loss, "charbonnier": charbonnier, "log_mse": log_mse}


class ConfigError(ValueError):
    """The configuration cannot be used; the message names the field and what is wrong with it."""


@dataclass(frozen=True)
class Data:
    """How crops are drawn.

    Attributes:
        scale: Range of the random down-scaling.
        copies: Sizes per photograph.
        candidates: Random crops from which the one with the most texture is kept.
        gray: Share of the crops made grey, noise included (colour networks).
        permute: Share of the crops whose colour channels are shuffled.
        flat: Share of the crops replaced by flat areas of any colour.
        clip: Share of the noisy crops clipped to [0, 1], as in files. For blind networks; for those that are told the
            level :func:`denoiser.clipping.undo_clipping` does it.
        subsampled: Share of the sizes that go through JPEG with chroma subsampling (4:2:0), as nearly all photographs
            that people have did: there colour holds no detail finer than two pixels.
        validation: Share of the photographs held out.
        held_out: Names of photographs that are held out besides, for kinds that the share may miss.
    """

    scale: tuple[float, float] = (0.36, 0.75)
    copies: int = 3
    candidates: int = 2
    gray: float = 0.1
    permute: float = 0.0
    flat: float = 0.0
    clip: float = 0.0
    subsampled: float = 0.0
    validation: float = 0.02
    held_out: tuple[str, ...] = ()

    def __post_init__(self):
        _require(len(self.scale) == 2 and 0 < self.scale[0] <= self.scale[1] <= 1, "scale must rise within (0, 1]")
        _require(self.copies >= 1 and self.candidates >= 1, "copies and candidates must be at least 1")
        for name in ("gray", "permute", "flat", "clip", "subsampled"):
            _require(0 <= getattr(self, name) <= 1, f"{name} must be a share in [0, 1]")
        _require(0 < self.validation < 1, "validation must be a share between 0 and 1")


@dataclass(frozen=True)
class Stage:
    """A part of the run.

    Attributes:
        until: Share of the budget at which it ends.
        patch: Side of the crops, pixels.
        batch: Crops per step, over all processes.
        loss: A name in ``LOSSES``.
        distil: Share of the loss that is taken against the teacher's output (``--teacher``) instead of the clean crops.
            Hinton et al., "Distilling the Knowledge in a Neural Network", 2015, https://arxiv.org/abs/1503.02531
    """

    until: float
    patch: int
    batch: int
    loss: str = "l1"
    distil: float = 0.0

    def __post_init__(self):
        _require(0 < self.until <= 1, "until must be a share of the budget in (0, 1]")
        _require(self.patch >= 16 and self.batch >= 1, "patch must be at least 16 and batch at least 1")
        _require(0 <= self.distil <= 1, "distil must be a share in [0, 1]")
        _require(self.loss in LOSSES, f"loss must be {', '.join(LOSSES)}, not {self.loss!r}")


@dataclass(frozen=True)
class Optimizer:
    """What moves the weights: linear warm-up, a cosine to zero, clipped gradients, averaged weights.

    Attributes:
        kind: "adamw", or "muon" for the convolutions, with AdamW for what is left: biases, and a U-Net's first and
            last layer.
        rate: Peak rate.
        ends_rate: Under muon, the peak rate of what AdamW trains.
        warmup: Steps.
        branches: Under muon, train each kernel as if a 1x1 convolution ran beside it (:class:`train.optim.Muon`).
        weight_decay: Per step, times the rate; under muon of what it trains only.
        clip: Largest gradient norm.
        ema: Decay of the weights' exponential moving average.
    """

    kind: str = "adamw"
    rate: float = 8e-4
    ends_rate: float = 8e-4
    branches: bool = False
    warmup: int = 200
    weight_decay: float = 0.0
    clip: float = 1.0
    ema: float = 0.999

    def __post_init__(self):
        _require(self.kind in ("adamw", "muon"), f"kind must be adamw or muon, not {self.kind!r}")
        _require(0 < self.rate < 1 and 0 < self.ends_rate < 1, "rate and ends_rate must be between 0 and 1")
        _require(self.warmup >= 0 and self.weight_decay >= 0 and self.clip > 0, "warmup, weight_decay, clip are sizes")
        _require(0 <= self.ema < 1, "ema must be in [0, 1)")


@dataclass(frozen=True)
class Budget:
    """When training ends: after minutes of training, or after steps. The schedule ends there too."""

    minutes: float | None = None
    steps: int | None = None

    def __post_init__(self):
        _require((self.minutes is None) != (self.steps is None), "give either minutes or steps")
        _require((self.minutes or self.steps or 0) > 0, "the budget must be positive")


@dataclass(frozen=True)
class Config:
    """The whole run.

    Attributes:
        model: The network's config, as config.json will hold it.
        noise: What is mixed in training, see :class:`train.degrade.Mixture`; by default Gaussian noise over the
            network's ``sigma_range``.
        bfloat16: Compute in bfloat16 (autocast); the weights stay float32.
        storage: What the checkpoint's weights are rounded to: "float32", or "bfloat16" for half the size.
    """

    model: dict
    stages: tuple[Stage, ...]
    budget: Budget
    noise: tuple[dict, ...] = ()
    data: Data = field(default_factory=Data)
    optimizer: Optimizer = field(default_factory=Optimizer)
    seed: int = 0
    bfloat16: bool = True
    compile: bool = False
    storage: str = "float32"

    def __post_init__(self):
        _require(self.seed >= 0, "seed must not be negative")
        _require(
            not self.data.clip or bool(self.model.get("blind")),
            "data.clip is for blind networks: for those told the level, clipping is undone afterwards",
        )
        _require(self.storage in ("float32", "bfloat16"), f"storage must be float32 or bfloat16, not {self.storage!r}")
        shares = [stage.until for stage in self.stages]
        _require(bool(shares) and shares == sorted(shares) and shares[-1] == 1, "the stages' until must rise to 1.0")

    def build_model(self) -> DenoisingAutoencoder:
        """A new network with random weights."""
        try:
            model_type = model_class(self.model, "model")
            defaults = dataclasses.asdict(model_type.Config())
            return model_type(config_from_dict(model_type.Config, defaults | self.model, "model"))
        except CheckpointInvalid as error:
            raise ConfigError(str(error)) from error


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise ConfigError(message)


def _build(kind, value, where: str):
    """``value`` (from YAML) as ``kind``: a dataclass, tuple, optional or plain type."""
    if dataclasses.is_dataclass(kind):
        if not isinstance(value, dict):
            raise ConfigError(f"{where} must be a mapping, got {value!r}")
        hints = typing.get_type_hints(kind)
        if unknown := sorted(value.keys() - hints.keys()):
            raise ConfigError(f"{where}: unknown {', '.join(map(str, unknown))}; there are: {', '.join(hints)}")
        try:
            return kind(**{name: _build(hints[name], item, f"{where}.{name}") for name, item in value.items()})
        except ConfigError as error:
            raise ConfigError(str(error) if str(error).startswith(where) else f"{where}: {error}") from error
        except TypeError as error:
            raise ConfigError(f"{where}: {str(error).split('__init__() ')[-1]}") from error
    if typing.get_origin(kind) is tuple:
        if not isinstance(value, list):
            raise ConfigError(f"{where} must be a list, got {value!r}")
        item = typing.get_args(kind)[0]
        return tuple(_build(item, one, f"{where}[{i}]") for i, one in enumerate(value))
    if isinstance(kind, types.UnionType):
        return None if value is None else _build(typing.get_args(kind)[0], value, where)
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise ConfigError(f"{where} must be a {kind.__name__}, got {value!r}")
    return value


def load_config(path: Path) -> Config:
    """Read a YAML file.

    Raises:
        ConfigError: It is missing, not YAML, or holds an unknown or impossible value.
    """
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{path} is not valid YAML: {error}") from error
    config = _build(Config, values, path.name)
    config.build_model()
    return config

"""A training configuration: YAML in, frozen dataclasses out, every mistake named before any work is done."""

import contextlib
import dataclasses
import math
import types
import typing
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from denoiser.errors import CheckpointInvalid
from denoiser.models import DenoisingAutoencoder, config_from_dict, model_class
from denoiser.self_supervised import OBJECTIVES, Objective

from .losses import LOSSES


class ConfigError(ValueError):
    """The configuration cannot be used; the message names the field and what is wrong with it."""


@dataclass(frozen=True)
class Data:
    """How crops are drawn, and which photographs are held out for validation.

    Attributes:
        scale: Range of the random down-scaling.
        copies: Sizes per photograph.
        candidates: Random crops from which the one with the most texture is kept.
        grayscale: Share of the crops made gray, noise included (color networks).
        permute_channels: Share of the crops whose color channels are shuffled.
        flat: Share of the crops replaced by flat areas of any color.
        drawings: Share of the crops replaced by drawings, see :mod:`train.data.drawings`; some get no noise.
            For blind networks, which else take them for noise.
        clip: Share of the noisy crops clipped to [0, 1], as in files. For blind networks; for those that are given the
            level :func:`denoiser.analysis.clipping.undo_clipping` does it.
        quantize: Share of the noisy crops rounded to 8 bits, as in files: at a level or two of noise that matters.
        chroma_subsampling: Share of the sizes that go through JPEG with chroma subsampling (4:2:0), as nearly all
            photographs that people have did: there color holds no detail finer than two pixels.
        held_out: Names of photographs held out for validation, by group; or the name of a YAML file beside the
            configuration that lists them.
        validation_share: Share of the photographs held out where none of those is among them.
        window: Stream a data set on the Hub that is larger than the disk, this many photographs at a time; 0 reads all
            of them first.
        window_steps: Steps for which a window is used.
    """

    scale: tuple[float, float] = (0.36, 1.0)
    copies: int = 3
    candidates: int = 2
    grayscale: float = 0.1
    permute_channels: float = 0.0
    flat: float = 0.0
    drawings: float = 0.0
    clip: float = 0.0
    quantize: float = 0.0
    chroma_subsampling: float = 0.0
    held_out: dict = field(default_factory=dict)
    validation_share: float = 0.02
    window: int = 0
    window_steps: int = 1000

    def __post_init__(self):
        _require(len(self.scale) == 2 and 0 < self.scale[0] <= self.scale[1] <= 1, "scale must rise within (0, 1]")
        _require(1 <= self.copies <= 100 and 1 <= self.candidates <= 100, "copies and candidates must be within 1..100")
        _require(self.window >= 0 and self.window_steps >= 1, "window must be at least 0, window_steps at least 1")
        for name in ("grayscale", "permute_channels", "flat", "drawings", "clip", "quantize", "chroma_subsampling"):
            _require(0 <= getattr(self, name) <= 1, f"{name} must be a share in [0, 1]")
        _require(0 < self.validation_share < 1, "validation_share must be a share between 0 and 1")
        for group, names in self.held_out.items():
            good = isinstance(names, list) and all(isinstance(name, str) for name in names)
            _require(isinstance(group, str) and good, f"held_out.{group} must be a list of file names, got {names!r}")


@dataclass(frozen=True)
class Stage:
    """A part of the run.

    Attributes:
        until: Share of the budget at which it ends.
        patch: Side of the crops, pixels.
        batch: Crops per step, over all processes.
        loss: A name in ``LOSSES``.
        distill: Share of the loss that is taken against the teacher's output (``--teacher``), not the clean crops.
            Hinton et al., "Distilling the Knowledge in a Neural Network", 2015, https://arxiv.org/abs/1503.02531
    """

    until: float
    patch: int
    batch: int
    loss: str = "l1"
    distill: float = 0.0

    def __post_init__(self):
        _require(0 < self.until <= 1, "until must be a share of the budget in (0, 1]")
        _require(16 <= self.patch <= 4096, "patch must be within 16..4096")
        _require(1 <= self.batch <= 65536, "batch must be within 1..65536")
        _require(0 <= self.distill <= 1, "distill must be a share in [0, 1]")
        _require(self.loss in LOSSES, f"loss must be {', '.join(LOSSES)}, not {self.loss!r}")


@dataclass(frozen=True)
class Optimizer:
    """What moves the weights: a learning rate that warms up, stays, and decays; clipped gradients, averaged weights.

    Attributes:
        kind: "adamw", or "muon" for the convolutions, with AdamW for what is left: biases, and a U-Net's first and
            last layer.
        rate: Learning rate between warm-up and decay.
        ends_rate: Under muon, that of what AdamW trains.
        center_update: Under muon, train each kernel as if a 1x1 convolution ran beside it (:class:`train.optim.Muon`).
        warmup: Steps in which the rate rises.
        decay: Last share of the budget, in which the rate falls to zero.
        weight_decay: Per step, times the rate; under muon of what it trains only.
        clip: Largest gradient norm.
        ema: Decay of the weights' exponential moving average.
    """

    kind: str = "adamw"
    rate: float = 8e-4
    ends_rate: float = 8e-4
    center_update: bool = False
    warmup: int = 200
    decay: float = 0.25
    weight_decay: float = 0.0
    clip: float = 1.0
    ema: float = 0.999

    def __post_init__(self):
        _require(self.kind in ("adamw", "muon"), f"kind must be adamw or muon, not {self.kind!r}")
        _require(0 < self.rate < 1 and 0 < self.ends_rate < 1, "rate and ends_rate must be between 0 and 1")
        _require(self.warmup >= 0, "warmup must be at least 0")
        _require(0 <= self.weight_decay < math.inf, "weight_decay must be at least 0, and finite")
        _require(self.clip > 0, "clip must be positive")
        _require(0 < self.decay <= 1, "decay must be a share of the budget in (0, 1]")
        _require(0 <= self.ema < 1, "ema must be in [0, 1)")


@dataclass(frozen=True)
class Budget:
    """When training ends: after minutes of training, or after steps. The rate is at zero then."""

    minutes: float | None = None
    steps: int | None = None

    def progress(self, step: int, seconds: float) -> float:
        """Share of the budget that is used."""
        return step / self.steps if self.steps else seconds / (self.minutes * 60)

    def __post_init__(self):
        _require((self.minutes is None) != (self.steps is None), "give either minutes or steps")
        _require(0 < (self.minutes or self.steps or 0) < 1e12, "the budget must be positive, and finite")


@dataclass(frozen=True)
class Config:
    """The whole run.

    Attributes:
        model: The network's config, as config.json will hold it. Without ``architecture``, that of ``--init``, with
            the fields that are given here.
        noise: What is mixed in training, see :class:`train.data.mixture.NoiseMixture`; by default Gaussian noise over
            the network's ``sigma_range``.
        objective: How to learn from noisy pictures alone (``--noisy`` without ``--clean``): ``kind`` is a name in
            :data:`denoiser.self_supervised.OBJECTIVES`, the rest its parameters. Of ``data`` only ``held_out`` and
            ``validation_share`` count then: noisy pictures are neither scaled nor changed.
        bfloat16: Compute in bfloat16 (autocast); the weights stay float32.
        checkpoint_dtype: What the checkpoint's weights are rounded to: "float32", or "bfloat16" for half the size.
    """

    stages: tuple[Stage, ...]
    budget: Budget
    model: dict = field(default_factory=dict)
    noise: tuple[dict, ...] = ()
    objective: dict | None = None
    data: Data = field(default_factory=Data)
    optimizer: Optimizer = field(default_factory=Optimizer)
    seed: int = 0
    bfloat16: bool = True
    compile: bool = False
    checkpoint_dtype: str = "float32"

    def __post_init__(self):
        _require(self.seed >= 0, "seed must not be negative")
        _require(self.seed < 2**32, "seed must be below 2^32")
        _require(
            not self.data.clip or bool(self.model.get("blind")),
            "data.clip is for blind networks: for those given the level, clipping is undone afterwards",
        )
        _require(
            self.checkpoint_dtype in ("float32", "bfloat16"),
            f"checkpoint_dtype must be float32 or bfloat16, not {self.checkpoint_dtype!r}",
        )
        if objective := self.build_objective():
            _require(not self.noise, "with an objective the pictures bring their own noise: leave `noise` out")
            for stage in self.stages:
                _require(
                    stage.loss == "mse", "with an objective every stage has `loss: mse`: that is what it is proved for"
                )
                _require(not stage.distill, "with an objective there is nothing to distill")
            _require(
                not (objective.float32 and self.bfloat16),
                f"{objective.label} needs `bfloat16: false`: its differences are below the rounding of bfloat16",
            )
        shares = [stage.until for stage in self.stages]
        _require(bool(shares) and shares == sorted(shares) and shares[-1] == 1, "the stages' until must rise to 1.0")

    def build_objective(self) -> Objective | None:
        """The method of learning from noisy pictures alone, if the configuration has one."""
        if self.objective is None:
            return None
        parameters = dict(self.objective)
        kind = parameters.pop("kind", None)
        _require(
            isinstance(kind, str) and kind in OBJECTIVES,
            f"objective: unknown kind {kind!r}; there are: {', '.join(OBJECTIVES)}",
        )
        try:
            return _build(OBJECTIVES[kind], parameters, "objective")
        except ConfigError:
            raise
        except ValueError as error:
            raise ConfigError(f"objective: {error}") from error

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
        hints, names = typing.get_type_hints(kind), [field.name for field in dataclasses.fields(kind)]
        if unknown := sorted(map(str, value.keys() - set(names))):
            raise ConfigError(f"{where}: unknown {', '.join(unknown)}; there are: {', '.join(names)}")
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
    if kind is float and isinstance(value, int | str) and not isinstance(value, bool):
        with contextlib.suppress(ValueError, OverflowError):
            value = float(value)  # YAML 1.1 reads 1e-3 as text
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise ConfigError(f"{where} must be a {kind.__name__}, got {value!r}")
    return value


def load_config(path: Path) -> Config:
    """Read a YAML file.

    Raises:
        ConfigError: It is missing, not YAML, or holds an unknown or impossible value.
    """
    values = _read_yaml(path)
    data = values.get("data") if isinstance(values, dict) else None
    if isinstance(data, dict) and isinstance(name := data.get("held_out"), str):
        values["data"] = data | {"held_out": _read_yaml(path.parent / name)}
    config = _build(Config, values, path.name)
    if "architecture" in config.model:
        config.build_model()
    return config


class _Loader(yaml.SafeLoader):
    """As yaml.safe_load, which of a key that comes twice takes the last one silently."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False):
        keys = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode) and key.value != "<<"]
        if twice := [key for key in keys if keys.count(key) > 1]:
            raise yaml.constructor.ConstructorError(None, None, f"{twice[0]} is there twice", node.start_mark)
        return super().construct_mapping(node, deep)


def _read_yaml(path: Path):
    try:
        return yaml.load(path.read_text(encoding="utf-8"), _Loader)
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is not text in UTF-8: {error}") from error
    except (yaml.YAMLError, RecursionError) as error:
        raise ConfigError(f"{path} is not valid YAML: {error}") from error

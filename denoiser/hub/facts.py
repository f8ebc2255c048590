"""Facts about a checkpoint, for people who choose one: from its files, its card or the Hub's listing."""

import dataclasses
import datetime
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from ..download.checkpoint_files import CARD_FILE, WEIGHTS_FILE
from ..models import ModelConfig, check_config_file, count_parameters
from .checkpoints import Checkpoint
from .evaluation_files import read_psnr

MAX_METADATA_CHARACTERS, MAX_METADATA_DEPTH = 20_000, 20


@dataclass(frozen=True)
class Facts:
    """What is known of a checkpoint; unknown values are None or "".

    Attributes:
        name: The argument of ``from_pretrained``.
        architecture: As in config.json.
        parameters: Their number.
        megabytes: Size of the weights file.
        channels: 1 for gray, 3 for color.
        sigma_range: Noise levels of the training, 8-bit units.
        blind: Whether it has no noise-level input.
        psnr: Pairs of data set with conditions and PSNR in dB, from the card.
        license: From the card.
        last_modified: ISO date.
        revision: The commit on the Hub.
        activation_bytes: Bytes of activations per pixel, an estimate.
    """

    name: str
    architecture: str = ""
    parameters: int | None = None
    megabytes: float | None = None
    channels: int | None = None
    sigma_range: tuple[float, float] | None = None
    blind: bool = False
    psnr: tuple[tuple[str, float], ...] = ()
    license: str = ""
    last_modified: str = ""
    revision: str | None = None
    activation_bytes: float = 0.0


def facts_of(found: Checkpoint) -> Facts:
    """The facts of a checkpoint on disk: from its config, the size of its weights and its card.

    Raises:
        CheckpointInvalid: Its config is not valid.
    """
    config = check_config_file(found.folder, found.name)
    card = read_metadata(found.folder / CARD_FILE)
    known = facts_from_metadata(found.name, card)
    return dataclasses.replace(
        known,
        architecture=config.architecture,
        parameters=count_parameters(config),
        megabytes=(found.folder / WEIGHTS_FILE).stat().st_size / 1e6,
        channels=config.channels,
        sigma_range=config.sigma_range,
        blind=config.blind,
        last_modified=found.last_modified or known.last_modified,
        revision=found.revision,
        activation_bytes=_activation_bytes(config),
    )


def _activation_bytes(config: ModelConfig) -> float:
    """Bytes of activations per pixel: about four float32 tensors of a level's width at each level."""
    sides = [getattr(config, "unshuffle", 1) * 2**level for level in range(len(config.widths))]
    return sum(16 * width / side**2 for width, side in zip(config.widths, sides))


def _split_card(path: Path) -> tuple[str, str]:
    """The YAML block at the top of a card, and the text below it; "" for a missing one."""
    if not path.is_file():
        return "", ""
    text = path.read_text(encoding="utf-8", errors="replace").replace("\r\n", "\n")
    if not text.startswith("---\n"):
        return "", text
    block, fence, body = text[4:].partition("\n---\n")
    return (block, body) if fence else ("", text)


def read_metadata(card: Path) -> dict[str, Any]:
    """The YAML block at the top of a card; {} if there is none or it is not readable.

    A card is untrusted: one with aliases, which can expand beyond the memory, or with deep nesting, which is slow to
    parse, counts as unreadable.
    """
    block, _ = _split_card(card)
    if not 0 < len(block) <= MAX_METADATA_CHARACTERS:
        return {}
    try:
        depth = 0
        for event in yaml.parse(block, Loader=yaml.SafeLoader):  # an iterator: a deep one is abandoned early
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if depth > MAX_METADATA_DEPTH or isinstance(event, yaml.AliasEvent):
                return {}
        values = yaml.safe_load(block)
    except (yaml.YAMLError, ValueError, RecursionError):
        return {}
    return values if isinstance(values, dict) else {}


def read_card(found: Checkpoint) -> str:
    """The text of a checkpoint's card, without the YAML block; "" if there is none."""
    return _split_card(found.folder / CARD_FILE)[1].strip()


def facts_from_metadata(name: str, metadata: dict[str, Any]) -> Facts:
    """The facts in a card's metadata; it is untrusted, so every value is checked and an invalid one is dropped."""
    ours = metadata.get("denoiser")
    ours = ours if isinstance(ours, dict) else {}
    sigma_range = ours.get("sigma_range")
    if not (isinstance(sigma_range, list) and len(sigma_range) == 2 and all(map(_is_number, sigma_range))):
        sigma_range = None
    license_name, architecture, trained = metadata.get("license"), ours.get("architecture"), ours.get("trained")
    parameters, channels = ours.get("parameters"), ours.get("channels")
    return Facts(
        name,
        architecture=architecture[:40] if isinstance(architecture, str) else "",
        parameters=parameters if type(parameters) is int and 0 < parameters < 10**12 else None,
        channels=channels if channels in (1, 3) else None,
        sigma_range=(sigma_range[0], sigma_range[1]) if sigma_range else None,
        blind=ours.get("blind") is True,
        psnr=_psnr(metadata.get("model-index")),
        license=license_name[:60] if isinstance(license_name, str) else "",
        last_modified=str(trained)[:10] if isinstance(trained, str | datetime.date) else "",
    )


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e9  # nor infinite, nor NaN


def _psnr(index: Any) -> tuple[tuple[str, float], ...]:
    """The PSNR values in a card's model-index."""
    rows = []
    try:
        for result in index[0]["results"]:
            dataset = result["dataset"]
            names = [dataset.get(key) for key in ("name", "config")]
            where = ", ".join(name[:40] for name in names if isinstance(name, str))
            rows += [
                (where, float(metric["value"]))
                for metric in result["metrics"]
                if metric["type"] == "psnr" and _is_number(metric["value"])
            ]
    except (TypeError, KeyError, IndexError, AttributeError):
        pass  # no measurements, or of another form
    return tuple(rows[:50])


def facts_from_listing(name: str, item: dict[str, Any]) -> Facts:
    """The facts in the Hub's JSON about a repository, without a download."""
    card, tensors = item.get("cardData"), item.get("safetensors")
    metadata = dict(card) if isinstance(card, dict) else {}
    metadata.setdefault("model-index", item.get("model-index"))
    known = facts_from_metadata(name, metadata)
    return dataclasses.replace(
        known,
        psnr=known.psnr or tuple(read_psnr(item.get("evalResults"))[:50]),
        parameters=known.parameters or (tensors.get("total") if isinstance(tensors, dict) else None),
        last_modified=str(item.get("lastModified") or known.last_modified)[:10],
        revision=item.get("sha"),
    )

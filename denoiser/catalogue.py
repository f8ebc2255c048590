"""What there is to choose from: the bundled checkpoints, and what the Hub lists, each with its facts.

The Hub is asked in the background; whoever looks takes what is known by then and is never kept waiting.
"""

import dataclasses
import functools
import math
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import huggingface_hub

from ._download import CARD_FILE, WEIGHTS_FILE, reason, typed_errors
from ._hub import Checkpoint, bundled_checkpoints, find_checkpoint, parse_name
from .errors import DenoiserError
from .models import check_config_file, count_parameters

TAG = "denoising-autoencoder"
"""What every checkpoint's card is tagged with."""
PATIENCE = 8.0
"""Seconds after which a listing counts as failed, though it may still arrive."""
FRESH = 600.0
"""Seconds for which a listing is good."""
LIMIT = 40
"""Most repositories taken from each place that is listed."""


@dataclass(frozen=True)
class Facts:
    """What a person choosing a checkpoint wants to know; what is not known is None or "".

    Attributes:
        name: What ``from_pretrained`` takes.
        architecture: As config.json names it.
        parameters: Their number.
        megabytes: Size of the weights' file.
        channels: 1 for a grey network, 3 for colour.
        sigma_range: Noise levels trained for, 8-bit units.
        blind: Whether it needs no noise level.
        psnr: Measured, from the card: (data set and conditions, PSNR in dB) pairs.
        licence: From the card.
        changed: ISO date of the last change.
        revision: The Hub's commit.
        bundled: Whether it came with this package.
    """

    name: str
    architecture: str = ""
    parameters: int | None = None
    megabytes: float | None = None
    channels: int | None = None
    sigma_range: tuple[float, float] | None = None
    blind: bool = False
    psnr: tuple[tuple[str, float], ...] = ()
    licence: str = ""
    changed: str = ""
    revision: str | None = None
    bundled: bool = False


def facts_of(found: Checkpoint) -> Facts:
    """The facts of a checkpoint on disk, from its config, its weights' size and its card.

    Raises:
        CheckpointInvalid: Its config does not fit.
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
        changed=found.changed or known.changed,
        revision=found.revision,
        bundled=found.name in bundled_checkpoints(),
    )


def read_metadata(card: Path) -> dict:
    """The YAML block on top of a card; {} if there is none that can be read."""
    try:
        values = huggingface_hub.metadata_load(card)
    except Exception:  # a card is anyone's text; whatever is wrong with it, the checkpoint works
        return {}
    return values if isinstance(values, dict) else {}


def read_card(found: Checkpoint) -> str:
    """The text of a checkpoint's card, without the YAML block; "" if there is none."""
    path = found.folder / CARD_FILE
    if not path.is_file():
        return ""
    try:
        return huggingface_hub.ModelCard(
            path.read_text(encoding="utf-8", errors="replace"), ignore_metadata_errors=True
        ).text.strip()
    except Exception:
        return ""


def facts_from_metadata(name: str, metadata: dict) -> Facts:
    """What a card's metadata says; it is anyone's text, so every value is checked and what does not fit is dropped."""
    ours = metadata.get("denoiser")
    ours = ours if isinstance(ours, dict) else {}
    low_high = ours.get("sigma_range")
    fits = isinstance(low_high, list) and len(low_high) == 2 and all(_number(level) for level in low_high)
    licence, architecture, trained = metadata.get("license"), ours.get("architecture"), ours.get("trained")
    parameters, channels = ours.get("parameters"), ours.get("channels")
    return Facts(
        name,
        architecture=architecture[:40] if isinstance(architecture, str) else "",
        parameters=parameters if type(parameters) is int and 0 < parameters < 10**12 else None,
        channels=channels if channels in (1, 3) else None,
        sigma_range=tuple(low_high) if fits else None,
        blind=ours.get("blind") is True,
        psnr=_psnr(metadata.get("model-index")),
        licence=licence[:60] if isinstance(licence, str) else "",
        changed=str(trained)[:10] if trained else "",
    )


def _number(value: object) -> bool:
    return type(value) in (int, float) and math.isfinite(value)


def _psnr(index: object) -> tuple[tuple[str, float], ...]:
    """The PSNR rows of a card's model-index."""
    rows = []
    try:
        for result in index[0]["results"]:
            dataset = result["dataset"]
            where = f"{dataset.get('name', '')}, {dataset.get('config', '')}".strip(", ")[:80]
            rows += [
                (where, float(metric["value"]))
                for metric in result["metrics"]
                if metric["type"] == "psnr" and _number(metric["value"])
            ]
    except (TypeError, KeyError, IndexError, AttributeError):
        pass  # no measurements, or not in this form
    return tuple(rows[:50])


_bundled_facts = functools.cache(lambda name: facts_of(find_checkpoint(name)))


@dataclass
class Catalogue:
    """The checkpoints on offer.

    Attributes:
        names: Hub repositories to offer in any case ("user/name" or "user/name@revision").
        author: Offer what this account has on the Hub under the tag.
        collection: Offer the models of this collection of the Hub (its slug).
        tag: Offer what carries this tag, whoever it is from; "" for none.
        status: How the last listing went, for people to read.
    """

    names: tuple[str, ...] = ()
    author: str = ""
    collection: str = ""
    tag: str = TAG
    status: str = ""
    _listed: dict[str, Facts] = field(default_factory=dict)
    _pulled: dict[str, Facts] = field(default_factory=dict)
    _worker: threading.Thread | None = None
    _asked_at: float = -math.inf

    def entries(self) -> list[Facts]:
        """Everything known now: bundled, then those asked for by name, then what the Hub listed, then pulled ones."""
        found = {name: _bundled_facts(name) for name in bundled_checkpoints()}
        for name in self.names:
            found.setdefault(name, Facts(name))
        found |= {name: facts for name, facts in self._listed.items() if name not in found or name in self.names}
        return list((found | self._pulled).values())

    def add(self, facts: Facts) -> None:
        """Offer a checkpoint that someone pulled; the oldest of many goes."""
        self._pulled = dict(list((self._pulled | {facts.name: facts}).items())[-LIMIT:])

    @property
    def listing(self) -> bool:
        """Whether the Hub is being asked right now."""
        return bool(self._worker and self._worker.is_alive()) and time.monotonic() - self._asked_at < PATIENCE

    def refresh(self) -> None:
        """Ask the Hub in the background, if that was not done lately; returns at once."""
        if huggingface_hub.constants.HF_HUB_OFFLINE:
            self.status = "Offline mode: bundled and cached checkpoints only."
            return
        alive = self._worker and self._worker.is_alive()
        if not alive and time.monotonic() - self._asked_at > FRESH:
            self._asked_at = time.monotonic()
            self._worker = threading.Thread(target=self._list, daemon=True)
            self._worker.start()
        elif alive and not self.listing:
            self.status = "The Hub was too slow to answer: bundled and cached checkpoints only, for now."

    def _list(self) -> None:
        found: dict[str, Facts] = {}
        try:
            with typed_errors("the list of checkpoints"):
                for info in self._infos():
                    if not (info.private or info.disabled):
                        found[info.id] = _facts_of_info(info)
        except (DenoiserError, ValueError) as error:
            cause = error.__cause__ or error
            self.status = f"The Hub was {reason(cause)}: bundled and cached checkpoints only, for now."
            return
        self._listed, self.status = found, f"The menu holds {len(found)} from the Hub." if found else ""

    def _infos(self) -> Iterable[huggingface_hub.ModelInfo]:
        # Anonymously: what is listed is shown to everyone.
        api = huggingface_hub.HfApi(token=False)
        # A listing is retried for half a minute; a first look without retries tells whether to begin.
        address = f"{huggingface_hub.constants.ENDPOINT}/api/models"
        huggingface_hub.get_session().get(address, params={"limit": 1}, timeout=PATIENCE).raise_for_status()
        expand = ["cardData", "disabled", "gated", "lastModified", "model-index", "private", "safetensors", "sha"]
        for name in self.names:
            repo_id, revision = parse_name(name)
            try:
                with typed_errors(repo_id, revision):
                    info = api.model_info(repo_id, revision=revision, expand=expand, timeout=PATIENCE)
            except DenoiserError:
                continue  # it stays on offer by its name; choosing it says what is wrong
            info.id = name
            yield info
        if self.collection:
            for item in api.get_collection(self.collection).items[:LIMIT]:
                if item.item_type == "model":
                    yield api.model_info(item.item_id, expand=expand, timeout=PATIENCE)
        if self.author:
            yield from api.list_models(author=self.author, filter=TAG, expand=expand, limit=LIMIT)
        if self.tag:
            yield from api.list_models(filter=self.tag, expand=expand, sort="downloads", limit=LIMIT)


def _facts_of_info(info: huggingface_hub.ModelInfo) -> Facts:
    """The facts that the Hub's listing gives without anything being fetched."""
    metadata = info.card_data.to_dict() if info.card_data else {}
    metadata.setdefault("model-index", info.model_index)
    known = facts_from_metadata(info.id, metadata)
    return dataclasses.replace(
        known,
        parameters=known.parameters or (info.safetensors.total if info.safetensors else None),
        changed=info.last_modified.date().isoformat() if info.last_modified else known.changed,
        revision=info.sha,
    )

"""What there is to choose from: the bundled checkpoints, and what the Hub lists, each with its facts.

The Hub is asked in the background; whoever looks takes what is known by then and is never kept waiting.
"""

import dataclasses
import datetime
import functools
import math
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

import huggingface_hub
import yaml

from ..download.checkpoint_files import CARD_FILE, WEIGHTS_FILE
from ..download.client_errors import failure_reason, translate_errors
from ..errors import CheckpointNotFound, HubUnreachable
from ..models import check_config_file, count_parameters
from .checkpoints import Checkpoint, bundled_checkpoints, find_bundled, parse_name

TAG = "denoising-autoencoder"
"""What every checkpoint's card is tagged with."""
PATIENCE = 8.0
"""Seconds after which a listing counts as failed, though it may still arrive."""
FRESH = 600.0
"""Seconds for which a listing is good."""
LIMIT = 40
"""Most repositories taken from each place that is listed."""


METADATA_CHARACTERS, METADATA_DEPTH = 20_000, 20


@dataclass(frozen=True)
class Facts:
    """What a person choosing a checkpoint wants to know; what is not known is None or "".

    Attributes:
        name: What ``from_pretrained`` takes.
        architecture: As config.json names it.
        parameters: Their number.
        megabytes: Size of the weights' file.
        channels: 1 for a gray network, 3 for color.
        sigma_range: Noise levels trained for, 8-bit units.
        blind: Whether it needs no noise level.
        psnr: Measured, from the card: (data set and conditions, PSNR in dB) pairs.
        license: From the card.
        changed: ISO date of the last change.
        revision: The Hub's commit.
        activations: Bytes of features per pixel, roughly.
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
    changed: str = ""
    revision: str | None = None
    activations: float = 0.0


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
        activations=_activations(config),
    )


def _activations(config) -> float:
    """Bytes of features per pixel: at each level about four float32 tensors of its width."""
    sides = [getattr(config, "unshuffle", 1) * 2**level for level in range(len(config.widths))]
    return sum(16 * width / side**2 for width, side in zip(config.widths, sides))


def _split_card(path: Path) -> tuple[str, str]:
    """The YAML block on top of a card, and the text below it; "" for what is not there."""
    if not path.is_file():
        return "", ""
    text = path.read_text(encoding="utf-8", errors="replace").replace("\r\n", "\n")
    if not text.startswith("---\n"):
        return "", text
    block, fence, below = text[4:].partition("\n---\n")
    return (block, below) if fence else ("", text)


def read_metadata(card: Path) -> dict:
    """The YAML block on top of a card; {} if there is none that can be read.

    A card is anyone's text: one with aliases, which can stand for more than memory holds, or nested deeply, which takes
    long to read, counts as unreadable.
    """
    block, _ = _split_card(card)
    if not 0 < len(block) <= METADATA_CHARACTERS:
        return {}
    try:
        depth = 0
        for event in yaml.parse(block, Loader=yaml.SafeLoader):  # lazily: a deep one is given up early
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if depth > METADATA_DEPTH or isinstance(event, yaml.AliasEvent):
                return {}
        values = yaml.safe_load(block)
    except (yaml.YAMLError, ValueError, RecursionError):
        return {}
    return values if isinstance(values, dict) else {}


def read_card(found: Checkpoint) -> str:
    """The text of a checkpoint's card, without the YAML block; "" if there is none."""
    return _split_card(found.folder / CARD_FILE)[1].strip()


def facts_from_metadata(name: str, metadata: dict) -> Facts:
    """What a card's metadata says; it is anyone's text, so every value is checked and what does not fit is dropped."""
    ours = metadata.get("denoiser")
    ours = ours if isinstance(ours, dict) else {}
    low_high = ours.get("sigma_range")
    fits = isinstance(low_high, list) and len(low_high) == 2 and all(_number(level) for level in low_high)
    license_name, architecture, trained = metadata.get("license"), ours.get("architecture"), ours.get("trained")
    parameters, channels = ours.get("parameters"), ours.get("channels")
    return Facts(
        name,
        architecture=architecture[:40] if isinstance(architecture, str) else "",
        parameters=parameters if type(parameters) is int and 0 < parameters < 10**12 else None,
        channels=channels if channels in (1, 3) else None,
        sigma_range=tuple(low_high) if fits else None,
        blind=ours.get("blind") is True,
        psnr=_psnr(metadata.get("model-index")),
        license=license_name[:60] if isinstance(license_name, str) else "",
        changed=str(trained)[:10] if isinstance(trained, str | datetime.date) else "",
    )


def _number(value: object) -> bool:
    return type(value) in (int, float) and abs(value) < 1e9  # neither infinite nor not a number


def _psnr(index: object) -> tuple[tuple[str, float], ...]:
    """The PSNR rows of a card's model-index."""
    rows = []
    try:
        for result in index[0]["results"]:
            dataset = result["dataset"]
            names = [dataset.get(key) for key in ("name", "config")]
            where = ", ".join(name[:40] for name in names if isinstance(name, str))
            rows += [
                (where, float(metric["value"]))
                for metric in result["metrics"]
                if metric["type"] == "psnr" and _number(metric["value"])
            ]
    except (TypeError, KeyError, IndexError, AttributeError):
        pass  # no measurements, or not in this form
    return tuple(rows[:50])


_bundled_facts = functools.cache(lambda name: facts_of(find_bundled(name)))


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
        if time.monotonic() - self._asked_at > FRESH:  # a listing that hangs since then is given up
            self._asked_at = time.monotonic()
            self._worker = threading.Thread(target=self._list, daemon=True)
            self._worker.start()
        elif self._worker and self._worker.is_alive() and not self.listing:
            self.status = "The Hub was too slow to answer: bundled and cached checkpoints only, for now."

    def _list(self) -> None:
        found: dict[str, Facts] = {}
        problems, answered = [], False
        for place, items in self._places():
            try:
                with translate_errors(place):
                    for name, item in items:
                        if not (item.get("private") or item.get("disabled")):
                            found[name] = _facts_of_item(name, item)
                answered = True
            except Exception as error:  # what the other places list is on offer all the same
                if isinstance(error, HubUnreachable) and not answered:
                    self.status = f"The Hub was {failure_reason(error)}: bundled and cached checkpoints only, for now."
                    return
                problems.append(place)
        self._listed = found
        self.status = f"The menu holds {len(found)} from the Hub." if found else ""
        if problems:
            self.status += f" Not listed: {', '.join(problems)}."

    def _places(self) -> Iterable[tuple[str, Iterable[tuple[str, dict]]]]:
        """What is listed: names for people, each with the names of checkpoints and what the Hub's JSON says of them.

        Anonymously, as what is listed is shown to everyone; without the client's retries, which take half a minute;
        and not by its own classes, which one repository's odd card can make refuse the whole list.
        """
        root = f"{huggingface_hub.constants.ENDPOINT}/api"
        details = ["cardData", "disabled", "lastModified", "model-index", "private", "safetensors", "sha"]

        def ask(address: str, **parameters):
            headers = huggingface_hub.utils.build_hf_headers(token=False)
            answer = huggingface_hub.get_session().get(
                f"{root}/{address}", params=parameters, headers=headers, timeout=PATIENCE
            )
            if answer.status_code in (401, 403, 404):
                raise CheckpointNotFound(f"The Hub shows nobody {address}.")
            answer.raise_for_status()
            return answer.json()

        def models(**parameters):
            for item in ask("models", expand=details, limit=LIMIT, **parameters)[:LIMIT]:
                yield item["id"], item

        def named(name: str):
            repo_id, revision = parse_name(name)
            yield name, ask(f"models/{repo_id}" + (f"/revision/{quote(revision, safe='')}" if revision else ""))

        def collected():
            for item in ask(f"collections/{self.collection}")["items"][:LIMIT]:
                if item["type"] == "model":
                    yield from named(item["id"])

        if self.tag:
            yield f"the tag {self.tag}", models(filter=self.tag, sort="downloads")
        if self.author:
            yield self.author, models(author=self.author, filter=TAG)
        if self.collection:
            yield f"the collection {self.collection}", collected()
        for name in self.names:
            yield name, named(name)


def _facts_of_item(name: str, item: dict) -> Facts:
    """The facts in what the Hub's JSON says of a repository; nothing is fetched."""
    card, tensors = item.get("cardData"), item.get("safetensors")
    metadata = dict(card) if isinstance(card, dict) else {}
    metadata.setdefault("model-index", item.get("model-index"))
    known = facts_from_metadata(name, metadata)
    return dataclasses.replace(
        known,
        parameters=known.parameters or (tensors.get("total") if isinstance(tensors, dict) else None),
        changed=str(item.get("lastModified") or known.changed)[:10],
        revision=item.get("sha"),
    )

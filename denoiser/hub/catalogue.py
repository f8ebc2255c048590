"""The available checkpoints: bundled ones and those that the Hub lists, each with its facts.

The Hub is asked in the background; reading the catalogue never waits for it.
"""

import dataclasses
import functools
import math
import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

import huggingface_hub

from ..download.client_errors import failure_reason, translate_errors
from ..errors import CheckpointNotFound, HubUnreachable
from .checkpoints import bundled_checkpoints, find_bundled, parse_name
from .facts import Facts, facts_from_listing, facts_of

TAG = "denoising-autoencoder"
"""The tag of the card of every checkpoint."""
TIMEOUT = 8.0
"""Seconds after which a listing counts as failed, though its answer may still arrive."""
MAX_AGE = 600.0
"""Seconds after which the Hub is asked again."""
MAX_LISTED = 40
"""Repositories taken from each place that is listed, at most."""

_bundled_facts = functools.cache(lambda name: facts_of(find_bundled(name)))


@dataclass
class Catalogue:
    """The available checkpoints.

    Attributes:
        names: Hub repositories that are always listed ("user/name" or "user/name@revision").
        author: List the checkpoints of this account on the Hub, those with the tag.
        collection: List the models of this collection on the Hub (its slug).
        tag: List all repositories with this tag, of any account; "" for none.
        status: A sentence about the last listing.
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
        """All known checkpoints: bundled ones, then ``names``, then listed ones, then pulled ones."""
        found = {name: _bundled_facts(name) for name in bundled_checkpoints()}
        for name in self.names:
            found.setdefault(name, Facts(name))
        found |= {name: facts for name, facts in self._listed.items() if name not in found or name in self.names}
        return list((found | self._pulled).values())

    def add(self, facts: Facts) -> None:
        """Add a checkpoint that a visitor pulled; beyond ``MAX_LISTED`` the oldest is dropped."""
        if listed := self._listed.get(facts.name):  # the Hub may know figures that its card does not give
            facts = dataclasses.replace(facts, psnr=facts.psnr or listed.psnr)
        self._pulled = dict(list((self._pulled | {facts.name: facts}).items())[-MAX_LISTED:])

    @property
    def listing(self) -> bool:
        """Whether the Hub is being asked."""
        return bool(self._worker and self._worker.is_alive()) and time.monotonic() - self._asked_at < TIMEOUT

    def refresh(self) -> None:
        """Ask the Hub in the background unless that was done recently; returns at once."""
        if huggingface_hub.constants.HF_HUB_OFFLINE:
            self.status = "Offline mode: bundled and cached checkpoints only."
            return
        if time.monotonic() - self._asked_at > MAX_AGE:  # a listing that has not returned since is abandoned
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
                            found[name] = facts_from_listing(name, item)
                answered = True
            except Exception as error:  # the listings of the other places stay
                if isinstance(error, HubUnreachable) and not answered:
                    self.status = f"The Hub was {failure_reason(error)}: bundled and cached checkpoints only, for now."
                    return
                problems.append(place)
        self._listed = found
        self.status = f"The menu holds {len(found)} from the Hub." if found else ""
        if problems:
            self.status += f" Not listed: {', '.join(problems)}."

    def _places(self) -> Iterable[tuple[str, Iterable[tuple[str, dict]]]]:
        """The places that are listed: a name for people, and pairs of checkpoint name and the Hub's JSON about it.

        Requests are anonymous, as the listing is shown to everyone. They bypass the client's retries, which take half
        a minute, and its classes, which one invalid card can make reject the whole list.
        """
        root = f"{huggingface_hub.constants.ENDPOINT}/api"
        details = ["cardData", "disabled", "evalResults", "lastModified", "model-index", "private"]
        details += ["safetensors", "sha"]

        def ask(address: str, **parameters: Any) -> Any:
            headers = huggingface_hub.utils.build_hf_headers(token=False)
            answer = huggingface_hub.get_session().get(
                f"{root}/{address}", params=parameters, headers=headers, timeout=TIMEOUT
            )
            if answer.status_code in (401, 403, 404):
                raise CheckpointNotFound(f"The Hub has no public {address}.")
            answer.raise_for_status()
            return answer.json()

        def models(**parameters: Any) -> Iterator[tuple[str, dict]]:
            for item in ask("models", expand=details, limit=MAX_LISTED, **parameters)[:MAX_LISTED]:
                yield item["id"], item

        def named(name: str) -> Iterator[tuple[str, dict]]:
            repo_id, revision = parse_name(name)
            yield name, ask(f"models/{repo_id}" + (f"/revision/{quote(revision, safe='')}" if revision else ""))

        def collected() -> Iterator[tuple[str, dict]]:
            for item in ask(f"collections/{self.collection}")["items"][:MAX_LISTED]:
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

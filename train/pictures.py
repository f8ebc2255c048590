"""The pictures of a run: what it trains on, and what it is validated on."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import torch

from denoiser.download.client_errors import is_network_error

from .config import ConfigError
from .data.photographs import Photographs
from .data.sources import DEFAULT_GROUP, Source, split_held_out
from .data.stream import PhotographStream
from .plan import Plan
from .validation import Validation, center_crops, validation_noises


@dataclass(frozen=True)
class Pictures:
    """What :func:`read_pictures` read.

    Attributes:
        training: What is trained on.
        held_out: What is not.
        photographs: The pixels of the former; of a stream those of a window.
        validation: The crops of the latter.
        unreadable: Why some of the latter could not be used.
    """

    training: list[Source]
    held_out: set[Source]
    photographs: Photographs | PhotographStream
    validation: Validation
    unreadable: list[str]


def read_pictures(plan: Plan, device: torch.device, first: Callable[[], AbstractContextManager]) -> Pictures:
    """Split the pictures of a plan, and read both parts.

    Args:
        plan: The run.
        device: Where the photographs shall lie.
        first: A context in which one process of a machine goes first, so that the others find the cache filled.

    Raises:
        ConfigError: No picture can be used.
    """
    if plan.config.data.window:
        return _read_stream(plan, device)
    training, held_out, crops, unreadable = split_pictures(
        plan, lambda sources: center_crops(sources, plan.model.config.channels, plan.partners)
    )
    if not crops:
        raise ConfigError(f"none of the pictures could be used; the first: {unreadable[0]}")
    with first():
        partners = [plan.partners[source] for source in training if plan.paired]
        photographs = _photographs(plan, training, device, partners, plan.options.cache)
    if not len(photographs):
        raise ConfigError(f"none of the pictures could be used; the first: {photographs.skipped[0]}")
    validation = Validation(crops, validation_noises(plan.config, plan.mixture, plan.paired))
    return Pictures(training, held_out, photographs, validation, unreadable)


def split_pictures(
    plan: Plan, read_crops: Callable[[list], tuple[list, list[str]]]
) -> tuple[list, set, dict[str, list], list[str]]:
    """(training, held out, crops of the latter by group, why some of the latter could not be used).

    Args:
        plan: The run.
        read_crops: Reads the crops of some pictures, and says which could not be used.

    Raises:
        ConfigError: All pictures are held out.
    """
    unreadable: list[str] = []

    def read(groups: dict[str, list]) -> dict[str, list]:
        found = {group: read_crops(sources) for group, sources in groups.items()}
        unreadable.extend(reason for _, skipped in found.values() for reason in skipped)
        return {group: crops for group, (crops, _) in found.items() if crops}

    training, groups = split_held_out(plan.sources, plan.config.data.validation_share, plan.config.data.held_out)
    if not training:
        named = sum(map(len, groups.values()))
        raise ConfigError(f"data.held_out names all {named} pictures; none is left to train on")
    crops, spare = read(groups), list(training)
    while not crops and spare:  # of a handful of pictures the one held out may be broken: take the next
        source = spare.pop(0)
        training = spare or [source]  # the last one is both, as a single picture is
        groups = {next(iter(groups)): [source]}
        crops = read(groups)
    return training, {source for sources in groups.values() for source in sources}, crops, unreadable


def _photographs(
    plan: Plan, sources: list[Source], device: torch.device, partners: list[Source], cache: Path | None
) -> Photographs:
    data = plan.config.data
    return Photographs(
        sources,
        plan.model.config.channels,
        data.scale,
        data.copies,
        max(stage.patch for stage in plan.config.stages),
        device,
        plan.config.seed,
        partners,
        cache,
        data.chroma_subsampling,
    )


def _read_stream(plan: Plan, device: torch.device) -> Pictures:
    """The first window of a stream, and the pictures before it, which are held out."""
    data, state = plan.config.data, (plan.state or {}).get("stream")
    try:
        stream = PhotographStream(
            plan.options.data[0],
            data.window,
            data.window_steps,
            lambda sources: _photographs(plan, sources, device, [], None),
            state,
        )
    except Exception as error:
        if not isinstance(error, OSError) and not is_network_error(error):
            raise
        raise ConfigError(str(error)) from error
    crops, unreadable = center_crops(stream.held_out, plan.model.config.channels)
    if not crops or not len(stream.photographs):
        raise ConfigError(f"none of the pictures could be used; the first: {(unreadable or ['none'])[0]}")
    validation = Validation({DEFAULT_GROUP: crops}, validation_noises(plan.config, plan.mixture, False))
    return Pictures([], set(stream.held_out), stream, validation, unreadable)

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
    channels, paired = plan.model.config.channels, plan.paired
    training, groups = split_pictures(plan)
    unreadable: list[str] = []

    def read(sources: list[Source]) -> list:
        crops, skipped = center_crops(sources, channels, [plan.partners[source] for source in sources if paired])
        unreadable.extend(skipped)
        return crops

    crops = {group: found for group, sources in groups.items() if (found := read(sources))}
    while not crops and len(training) > 1:  # of a handful of pictures the one held out may be broken: take the next
        group, held_out = next(iter(groups)), training.pop(0)
        groups = {group: [held_out]}
        crops = {group: found} if (found := read([held_out])) else {}
    if not crops:
        raise ConfigError(f"none of the pictures could be used; the first: {unreadable[0]}")
    with first():
        partners = [plan.partners[source] for source in training if paired]
        photographs = _photographs(plan, training, device, partners, plan.options.cache)
    if not len(photographs):
        raise ConfigError(f"none of the pictures could be used; the first: {photographs.skipped[0]}")
    validation = Validation(crops, validation_noises(plan.config, plan.mixture, paired))
    held_out = {source for sources in groups.values() for source in sources}
    return Pictures(training, held_out, photographs, validation, unreadable)


def split_pictures(plan: Plan) -> tuple[list[Source], dict[str, list[Source]]]:
    """(training, held out by group).

    Raises:
        ConfigError: All pictures are held out.
    """
    training, groups = split_held_out(plan.sources, plan.config.data.validation_share, plan.config.data.held_out)
    if not training:
        named = sum(map(len, groups.values()))
        raise ConfigError(f"data.held_out names all {named} pictures; none is left to train on")
    return training, groups


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

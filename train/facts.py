"""The facts of a run: printed at its start, and written to run.json at its end, from which the card is made."""

import dataclasses
import sys
from collections import Counter
from pathlib import Path

from denoiser.analysis.noise_correlation import SHARED
from denoiser.hub.card import describe
from denoiser.models import DenoisingAutoencoder

from . import report
from .data.sources import HUB_PREFIX
from .pictures import Pictures
from .plan import Plan
from .step import has_compiler


def run_facts(plan: Plan, pictures: Pictures, model: DenoisingAutoencoder, processes: int) -> dict:
    """The content of run.json, except the run's length."""
    places = [*plan.options.data, *plan.options.clean, *plan.options.noisy]
    training, photographs, lineage = pictures.training, pictures.photographs, plan.lineage
    used = Counter(source.name for source in training) - Counter(photographs.unused)
    return {
        "config": dataclasses.asdict(plan.config),
        **describe(model),
        "data": {
            "training": used.total(),  # of a stream none is known
            "held_out": len(pictures.validation.crops),
            "apart": not set(training) & pictures.held_out,
            "megapixels": photographs.pixels.shape[0] / 1e6,
            "licenses": report.count_licenses([source.path for source in training], list(used.elements())),
            "places": [place if place.startswith(HUB_PREFIX) else Path(place).resolve().name for place in places],
            "paired": plan.paired,
            "streamed": plan.config.data.window,
        },
        **{name: lineage[name] for name in ("init", "init_run", "init_card")},
        "teacher": plan.teacher and lineage["teacher_weights"] | {"parameters": describe(plan.teacher)["parameters"]},
        "commit": ", then ".join(lineage["commits"]),
        "machine": ", then ".join(lineage["machines"]),
        "processes": processes,
    }


def print_summary(plan: Plan, pictures: Pictures, facts: dict) -> None:
    """Print a summary of the run, and which pictures and settings are not used."""
    for line in pictures.photographs.skipped + pictures.unreadable:
        print(f"skipped {line}", file=sys.stderr)
    named = {name for names in plan.config.data.held_out.values() for name in names}
    if absent := named - {source.name for source in pictures.held_out}:
        print(f"data.held_out: not in --data, so not held out: {', '.join(sorted(absent))}", file=sys.stderr)
    window = plan.config.data.window
    photographs = f"{window} photographs at a time" if window else f"{facts['data']['training']} photographs"
    print(
        f"{photographs}, {facts['data']['megapixels']:.0f} MP; "
        f"{facts['data']['held_out']} held out; {facts['parameters'] / 1e6:.2f} M parameters; {facts['machine']}, "
        f"{facts['processes']} process(es)"
    )
    if plan.config.compile and not has_compiler():
        print("warning: torch.compile needs a C++ compiler (g++), which is not here: the run is slower without")
    if plan.objective:
        print(f"noisy pictures alone, by {plan.objective.label}. It assumes: {plan.objective.assumption}")
        if plan.objective.needs_independent_pixels and pictures.photographs.correlation > SHARED:
            shared = f"neighboring pixels share their noise (correlation {pictures.photographs.correlation:.2f})"
            print(f"warning: {shared}: it will stay. Use noise2void with `structure`, or noise2noise")
    if plan.paired and plan.config.noise:
        print("the pairs bring their own noise: the configuration's `noise` is not used")
    gaussian = not plan.paired and all(noise["kind"] == "gaussian" for noise in plan.config.noise)
    if not (plan.model.config.blind or gaussian):
        print("this network needs the noise level, which is estimated in use: `blind: true` may serve better")
    if state := plan.state:
        print(f"resuming {plan.options.output} at step {state['step']}, {state['seconds'] / 60:.1f} minutes in")

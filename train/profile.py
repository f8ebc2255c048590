"""Where the time of a training step goes."""

import torch
from torch.profiler import ProfilerActivity, profile, schedule

PHASES = ("draw", "forward", "backward", "optimizer")
"""The labels of a step's parts: ``Trainer`` gives the first, ``TrainingStep`` the others, by ``record_function``."""
SKIPPED, MEASURED = 5, 20
"""Steps before the measurement, in which caches fill, and steps of it."""


def step_profiler(device: torch.device) -> profile:
    """A profiler that prints a table once it has seen enough steps; call its ``step`` after each."""
    activities = [ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * (device.type == "cuda")
    steps = schedule(wait=SKIPPED, warmup=1, active=MEASURED, repeat=1)
    return profile(activities=activities, schedule=steps, on_trace_ready=lambda done: print(phase_table(done)))


def phase_table(done: profile) -> str:
    """Milliseconds a step and share of each phase; on a GPU also those of its kernels."""
    found = {event.key: event for event in done.key_averages() if event.key in PHASES}
    total = sum(event.cpu_time_total for event in found.values())
    gpu = any(event.device_time_total for event in found.values())
    head = ["phase", "ms", "share", *["ms on the GPU"] * gpu]
    lines = [head, ["---"] * len(head)]
    for name in PHASES:
        if event := found.get(name):
            milliseconds = event.cpu_time_total / MEASURED / 1e3
            cells = [name, f"{milliseconds:.1f}", f"{event.cpu_time_total / total:.0%}"]
            lines.append(cells + [f"{event.device_time_total / MEASURED / 1e3:.1f}"] * gpu)
    table = "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
    return f"\nA step, mean of {MEASURED}:\n{table}"

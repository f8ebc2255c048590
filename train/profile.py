"""Where the time of a training step goes."""

import torch
from torch.profiler import ProfilerActivity, profile, schedule

PHASES = ("draw", "forward", "backward", "optimizer")
"""The labels that ``Trainer`` gives the parts of a step, with ``torch.profiler.record_function``."""
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
    lines = [f"\nof {MEASURED} steps, each:", "| phase | ms | share | ms on the GPU |", "| --- | --- | --- | --- |"]
    for name in PHASES:
        if event := found.get(name):
            gpu = f"{event.device_time_total / MEASURED / 1e3:.1f}" if event.device_time_total else "-"
            milliseconds, share = event.cpu_time_total / MEASURED / 1e3, event.cpu_time_total / total
            lines.append(f"| {name} | {milliseconds:.1f} | {share:.0%} | {gpu} |")
    return "\n".join(lines)

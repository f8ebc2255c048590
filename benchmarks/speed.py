"""Time of the checkpoints, and its ratio to that of networks of published shapes, interleaved in one process.

    python -m benchmarks.speed
    python -m benchmarks.speed color-small runs/mine/checkpoint --size 768 --runs 15

The baseline has FFDNet's shape (Zhang et al., TIP 2018): 12 convolutions 3x3 of 96 channels with ReLU on the 2x
unshuffled color picture, 15 of 64 for a gray one, ReLU and convolution in one pass as in ours. A time ratio is ours /
baseline: same dtype, threads and picture, medians of runs that take turns, so that a busy machine slows both.
"""

import argparse
import itertools
import random
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from tqdm import tqdm

from denoiser import Denoiser, DenoiserError, bundled_checkpoints
from denoiser.models import Unet, UnetConfig
from denoiser.models._fused import conv_relu
from train.evaluate import machine

from .results import positive

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


class PlainCnn(nn.Module):
    """Plain 3x3 convolutions with ReLU between them, on the unshuffled picture (and the noise level, FFDNet's way)."""

    def __init__(self, channels: int, width: int, depth: int, unshuffle: int):
        super().__init__()
        self.unshuffle = unshuffle
        planes = channels * unshuffle**2
        widths = [planes + (unshuffle > 1), *[width] * (depth - 1), planes]
        self.layers = nn.ModuleList(nn.Conv2d(a, b, 3, padding=1) for a, b in itertools.pairwise(widths))

    def forward(self, x: torch.Tensor, sigma: float) -> torch.Tensor:
        """Pictures (B, C, H, W), H and W even, and a noise level -> the same shape."""
        features = F.pixel_unshuffle(x, self.unshuffle)
        if self.unshuffle > 1:
            level = features.new_full((len(x), 1, *features.shape[2:]), sigma)
            features = torch.cat([features, level], 1)
        *inner, last = self.layers
        for conv in inner:
            features = conv_relu(conv, features)
        return F.pixel_shuffle(last(features), self.unshuffle)


def baseline(channels: int) -> nn.Module:
    """A network of FFDNet's shape."""
    return PlainCnn(3, 96, 12, 2) if channels == 3 else PlainCnn(1, 64, 15, 2)


def published_networks(channels: int) -> dict[str, nn.Module]:
    """Networks of published shapes: DnCNN (Zhang et al., TIP 2017), DRUNet (Zhang et al., TPAMI 2021)."""
    config = UnetConfig(channels=channels, widths=(64, 128, 256, 512), blocks=(4, 4, 4, 4), unshuffle=1)
    return {"DnCNN": PlainCnn(channels, 64, 20, 1), "DRUNet": Unet(config)}


@torch.inference_mode()
def measure(networks: dict[Any, Callable], channels: int, dtype: torch.dtype, size: int, runs: int) -> dict[Any, float]:
    """Median seconds a megapixel of each network, taking turns in random order after one warm-up round."""
    x = torch.rand(1, channels, size, size).contiguous(memory_format=torch.channels_last)
    times: dict[Any, list[float]] = {name: [] for name in networks}
    order = random.Random(0)
    with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
        for _ in tqdm(range(runs + 1), f"{size} x {size}, {str(dtype).removeprefix('torch.')}", leave=False):
            # In another order each round: what ran before leaves the caches and the clock speed as it needed them.
            for name in order.sample(list(networks), len(networks)):
                started = time.perf_counter()
                networks[name](x, 0.1)
                times[name].append(time.perf_counter() - started)
    return {name: statistics.median(taken[1:]) / (size * size / 1e6) for name, taken in times.items()}


def compare(
    denoisers: dict[str, Denoiser], size: int = 512, runs: int = 9, others: bool = False
) -> dict[str, dict[str, tuple[float, float]]]:
    """For each checkpoint and dtype: seconds a megapixel, and the ratio to the baseline of its kind.

    With ``others``, the other published shapes (color) are measured along and reported under their names.
    """
    results: dict[str, dict[str, tuple[float, float]]] = {}
    for channels in (3, 1):
        networks = {name: d.model for name, d in denoisers.items() if d.model.config.channels == channels}
        if not networks:
            continue
        networks |= {"FFDNet": baseline(channels)} | (published_networks(channels) if others and channels == 3 else {})
        networks = {name: network.eval().to(memory_format=torch.channels_last) for name, network in networks.items()}
        for label, dtype in DTYPES.items():
            seconds = measure(networks, channels, dtype, size, runs)
            for name, value in seconds.items():
                key = f"{name} (gray)" if channels == 1 and name == "FFDNet" else name
                results.setdefault(key, {})[label] = (value, value / seconds["FFDNet"])
    return results


def table(results: dict[str, dict[str, tuple[float, float]]]) -> str:
    """The results as Markdown."""
    lines = ["| network | " + " | ".join(f"{label}, s/MP | ratio" for label in DTYPES) + " |"]
    lines.append("| --- |" + " --- |" * (2 * len(DTYPES)))
    for name, row in results.items():
        cells = " | ".join(f"{row[label][0]:.2f} | {row[label][1]:.2f}" for label in DTYPES)
        lines.append(f"| {name} | {cells} |")
    return "\n".join(lines)


def load(names: list[str]) -> dict[str, Denoiser]:
    """The checkpoints to measure, on the processor."""
    return {name: Denoiser.from_pretrained(name, device="cpu") for name in names}


def main() -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.speed", description="Time the checkpoints.")
    parser.add_argument("checkpoints", nargs="*", help="default: all bundled ones")
    parser.add_argument("--size", type=int, default=512, help="side of the picture (default 512)")
    parser.add_argument("--runs", type=positive, default=9, help="runs per network (default 9)")
    parser.add_argument("--others", action="store_true", help="also networks of DnCNN's and DRUNet's shape")
    options = parser.parse_args()
    if options.size < 16 or options.size % 16:
        parser.error(f"--size must be a multiple of 16, got {options.size}")
    try:
        denoisers = load(options.checkpoints or bundled_checkpoints())
    except DenoiserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"{machine(torch.device('cpu'))}, {options.size} x {options.size}, median of {options.runs} runs\n")
    print(table(compare(denoisers, options.size, options.runs, options.others)))
    return 0


if __name__ == "__main__":
    sys.exit(main())

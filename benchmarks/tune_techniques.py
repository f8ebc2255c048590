"""The constants of the techniques' rules, tuned on held-out photographs.

    python -m benchmarks.tune_techniques --data photographs

``--data`` holds the photographs of ``train/held_out.yaml`` (others are left out if any of those are there): of each the
middle, with Gaussian noise of each level. One parameter after the other, the rest by their present rules, takes each
value of a grid; the rule base + slope * sigma is the line on that grid with the highest mean PSNR, without a slope
unless one gains 0.05 dB. What is printed goes into ``denoiser/techniques/registry.py``.
"""

import argparse
import itertools
import sys
from dataclasses import replace

import numpy as np
from tqdm import tqdm

from denoiser import DenoiserError, add_noise
from denoiser.analysis.metrics import psnr
from denoiser.techniques import TECHNIQUES, Parameter, Technique
from train.data.sources import find_images
from train.validation import center_crops

from .results import positive
from .weak_noise import held_out

SIGMAS = (5, 15, 25, 50, 75)
VALUES = 12
"""Values of a grid."""
WORTH = 0.05
"""What a slope has to gain, dB."""


def grid(parameter: Parameter) -> np.ndarray:
    """The values to try."""
    values = {parameter.nearest(value) for value in np.geomspace(parameter.low, parameter.high, VALUES)}
    return np.array(sorted(values))


def curves(technique: Technique, parameter: Parameter, crops: list[np.ndarray]) -> np.ndarray:
    """Mean PSNR (sigmas, values) of each value of a parameter at each noise level."""
    found = np.zeros((len(SIGMAS), len(grid(parameter))))
    for (row, sigma), (column, value) in itertools.product(enumerate(SIGMAS), enumerate(grid(parameter))):
        for seed, clean in enumerate(crops):
            noisy = add_noise(clean, "gaussian", seed, sigma=sigma)
            restored = technique.denoise(noisy, sigma, **{parameter.name: float(value)})
            found[row, column] += psnr(clean, restored.clip(0, 1)) / len(crops)
    return found


def best_line(parameter: Parameter, measured: np.ndarray) -> Parameter:
    """The parameter with the rule of the highest mean PSNR."""
    values = grid(parameter)

    def quality(rule: Parameter) -> float:
        return float(np.mean([np.interp(rule.at(sigma), values, row) for sigma, row in zip(SIGMAS, measured)]))

    constant = max((replace(parameter, base=float(value), slope=0.0) for value in values), key=quality)
    ends = itertools.product(values, values)
    reach = SIGMAS[-1] - SIGMAS[0]
    lines = []
    for first, last in ends:
        slope = float(last - first) / reach
        lines.append(replace(parameter, base=float(first) - slope * SIGMAS[0], slope=slope))
    line = max(lines, key=quality)
    return line if quality(line) > quality(constant) + WORTH else constant


def tune(technique: Technique, crops: list[np.ndarray], passes: int = 2) -> Technique:
    """The technique with tuned rules."""
    for _ in range(passes if len(technique.parameters) > 1 else 1):
        for index in range(len(technique.parameters)):
            parameter = technique.parameters[index]
            tuned = best_line(parameter, curves(technique, parameter, crops))
            rules = (*technique.parameters[:index], tuned, *technique.parameters[index + 1 :])
            technique = replace(technique, parameters=rules)
    return technique


def main(arguments: list[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.tune_techniques", description="The techniques' rules.")
    parser.add_argument("--data", nargs="+", required=True, help="photographs: folders or tar files")
    parser.add_argument("--only", nargs="+", choices=list(TECHNIQUES), default=list(TECHNIQUES))
    parser.add_argument("--every", type=positive, default=1, help="take every n-th picture")
    parser.add_argument("--crop", type=int, default=128, help="side of the crops (default 128)")
    options = parser.parse_args(arguments)
    try:
        sources = held_out(find_images(options.data))[:: options.every]
        crops = [crop / np.float32(255) for crop in center_crops(sources, 3, size=options.crop)[0]]
        print(f"{len(crops)} crops of {options.crop} pixels; sigma {', '.join(map(str, SIGMAS))}", flush=True)
        for name in tqdm(options.only, leave=False):
            for parameter in tune(TECHNIQUES[name], crops).parameters:
                print(f"{name}: {parameter.name} = {parameter.base:.4g} + {parameter.slope:.4g} sigma", flush=True)
    except (DenoiserError, OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())

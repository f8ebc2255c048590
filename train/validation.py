"""Validation on held-out crops in named groups: a mean over mostly smooth pictures would hide changes on sharp ones."""

import math
import shutil
import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from denoiser import Denoiser
from denoiser.analysis.metrics import psnr
from denoiser.noise import add_noise

from .config import Config
from .data.mixture import NoiseMixture
from .data.sources import Source, read_copies, read_pair, skip_reason

SIGMAS = (15, 25, 50)
CROP = 256

Noise = tuple[str, dict[str, float]] | None
"""Kind and parameters; None for pairs, which have their own."""


def middle(pixels: np.ndarray, size: int) -> np.ndarray:
    """The middle of pixels (H, W, C), at most ``size`` a side."""
    top, left = (max(0, (side - size) // 2) for side in pixels.shape[:2])
    return pixels[top : top + size, left : left + size]


def read_each(sources: list, read: Callable) -> tuple[list, list[str]]:
    """What ``read`` makes of each picture, and which could not be used, and why."""
    found, skipped = [], []
    for source in sources:
        try:
            found.append(read(source))
        except (OSError, ValueError) as error:
            skipped.append(skip_reason(source, error))
    return found, skipped


def center_crops(
    sources: list[Source], channels: int, partners: Mapping[Source, Source] | None = None, size: int = CROP
) -> tuple[list[np.ndarray], list[str]]:
    """The middle of each picture as it is, not shrunk, uint8 (size, size, C); of pairs (size, size, 2 C).

    ``partners`` holds the noisy picture of each clean one. The second list says which could not be used, and why.
    """

    def read(source: Source) -> np.ndarray:
        if partner := partners and partners.get(source):
            image = read_pair(source, partner, channels, 16)
        else:
            image = read_copies(source, channels, [1.0], size)[0]
        return np.ascontiguousarray(middle(image, size))

    return read_each(sources, read)


def validation_noises(config: Config, mixture: NoiseMixture, paired: bool) -> dict[str, Noise]:
    """What the crops get, by name: the pairs' own noise, Gaussian levels, or the mixture's midpoints."""
    if paired:
        return {"real": None}
    if config.noise and any(component["kind"] != "gaussian" for component in config.noise):
        return mixture.midpoints()
    return {str(sigma): ("gaussian", {"sigma": sigma}) for sigma in SIGMAS}


@dataclass(frozen=True)
class Validation:
    """Held-out crops by group, and the noises they are validated under.

    Attributes:
        groups: uint8 crops (H, W, C) by group; of pairs (H, W, 2 C), clean first.
        noises: By name.
    """

    groups: dict[str, list[np.ndarray]]
    noises: dict[str, Noise]

    @property
    def crops(self) -> list[np.ndarray]:
        """The crops of all groups, one after the other."""
        return [crop for crops in self.groups.values() for crop in crops]

    def measure(self, model) -> dict[str, dict[str, float]]:
        """Mean PSNR of each group under each noise, dB; the level is given where the noise is Gaussian."""
        denoiser = Denoiser(model, device=str(next(model.parameters()).device))
        results = {}
        for name, noise in self.noises.items():
            scores = iter([_score(denoiser, crop, noise, seed) for seed, crop in enumerate(self.crops)])
            results[name] = {
                group: statistics.fmean(next(scores) for _ in crops) for group, crops in self.groups.items()
            }
        return results

    def find_worst(self, model) -> tuple[np.ndarray, Noise]:
        """The crop with the lowest PSNR under the middle one of the noises, and that noise."""
        denoiser = Denoiser(model, device=str(next(model.parameters()).device))
        noise = list(self.noises.values())[len(self.noises) // 2]
        scores = [_score(denoiser, crop, noise, seed) for seed, crop in enumerate(self.crops)]
        return self.crops[int(np.argmin(scores))], noise

    def write(self, folder: Path, paired: bool) -> list[str]:
        """Write the crops as files, so that ``train.evaluate`` can measure them again; returns its arguments."""
        shutil.rmtree(folder, ignore_errors=True)  # of an earlier run, with other pictures held out
        folders = [folder / "clean", folder / "noisy"] if paired else [folder]
        names = [group for group, crops in self.groups.items() for _ in crops]
        for index, (group, crop) in enumerate(zip(names, self.crops)):
            for place, part in zip(folders, np.split(crop, len(folders), axis=2)):
                place.mkdir(parents=True, exist_ok=True)
                Image.fromarray(part.squeeze()).save(place / f"{index:03d}-{group}.png")
        return ["--data", str(folders[0]), *(["--noisy", str(folders[1])] if paired else [])]


def _score(denoiser: Denoiser, crop: np.ndarray, noise: Noise, seed: int) -> float:
    planes = crop.astype(np.float32) / 255
    if noise is None:
        clean, noisy = np.split(planes, 2, axis=2)
    else:
        clean, noisy = planes, add_noise(planes, noise[0], seed=seed, **noise[1])
        noisy = noisy.clip(-8, 8)  # what lies beyond, a pixel in a million, would be refused
    sigma = noise[1]["sigma"] if noise and noise[0] == "gaussian" else None
    return psnr(clean, np.rint(denoiser(noisy, sigma).clip(0, 1) * 255) / 255)


def group_means(results: dict[str, dict[str, float]]) -> dict[str, float]:
    """The mean over the groups under each noise, as the log has it."""
    return {f"psnr_{name}": statistics.fmean(groups.values()) for name, groups in results.items()}


def overall_psnr(results: dict[str, dict[str, float]]) -> float:
    """The mean PSNR over noises and groups, dB; minus infinity if it is not finite (pairs without noise)."""
    mean = statistics.fmean(group_means(results).values())
    return mean if math.isfinite(mean) else -math.inf

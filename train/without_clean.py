"""Runs on noisy pictures alone: what they train on, and how they are scored without a clean picture."""

import functools
import math
import statistics
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from denoiser.analysis.noise_correlation import SHARED
from denoiser.analysis.noise_model import PoissonGaussian
from denoiser.hub.card_without_clean import NO_ERROR
from denoiser.self_supervised import Objective, Sure, score

from .config import ConfigError
from .data.noisy import NoisyPictures, Scene, Shot, read_shots
from .evaluate import EVALUATION_FILE
from .pictures import Pictures, split_pictures
from .plan import Plan
from .report import SAMPLES_FILE, SAMPLES_SIDE, write_facts
from .state import write_atomically, write_text
from .validation import CROP, middle, overall_psnr, read_each

CERTAIN = 16
"""Standard deviations below zero that are no chance: four, and four times that where neighboring pixels share noise."""


@dataclass(frozen=True)
class NoisyValidation:
    """Held-out noisy crops, scored by the method's own measure.

    Attributes:
        objective: The method.
        name: Its name in ``OBJECTIVES``.
        groups: By group, the middle of each scene as the network gets it: pixels (1, shots * C, H, W), level (1,).
    """

    objective: Objective
    name: str
    groups: dict[str, list[tuple[torch.Tensor, torch.Tensor]]]

    @property
    def crops(self) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """The crops of all groups, one after the other."""
        return [crop for crops in self.groups.values() for crop in crops]

    def measure(self, model) -> dict[str, dict[str, float]]:
        """10 log10(1 / error) of each group, dB, under the method's name; ``model`` None: of the input itself.

        An error below what chance alone makes of none counts as that.
        """
        errors = self._errors(model)
        return {
            self.name: {
                group: score(max(statistics.fmean(errors[group]), self._chance([group]))) for group in self.groups
            }
        }

    def is_impossible(self, model) -> bool:
        """Whether the error over all crops is below zero by more than chance allows."""
        errors = [error for errors in self._errors(model).values() for error in errors]
        return statistics.fmean(errors) < -CERTAIN * self._chance(list(self.groups))

    @torch.no_grad()
    def _errors(self, model) -> dict[str, list[float]]:
        """The squared error of each crop, by group."""
        device = next(model.parameters()).device if model else torch.device("cpu")

        def network(noisy: torch.Tensor, level: torch.Tensor) -> torch.Tensor:
            return model(noisy, None if model.config.blind else level) if model else noisy

        errors: dict[str, list[float]] = {group: [] for group in self.groups}
        for group, crops in self.groups.items():
            for seed, crop in enumerate(crops):
                generator = torch.Generator(device).manual_seed(seed)
                noisy, level = (part.to(device) for part in crop)
                errors[group].append(float(self.objective.error(network, noisy, level, generator)))
        return errors

    @functools.cached_property
    def _noise(self) -> dict[str, list[float]]:
        """The squared error of each crop as it is."""
        return self._errors(None)

    def _chance(self, groups: list[str]) -> float:
        """The standard deviation of the error of groups without any, of Gaussian noise independent between pixels."""
        values = sum(noisy.numel() for group in groups for noisy, _ in self.groups[group]) / self.objective.shots
        return statistics.fmean(error for group in groups for error in self._noise[group]) * math.sqrt(2 / values)

    @torch.no_grad()
    def draw(self, run: Path, model) -> None:
        """Noisy, denoised and difference of the middle of the last two crops, as bright as there is room for."""
        device, channels = next(model.parameters()).device, model.config.channels
        rows = []
        for noisy, level in self.crops[-2:]:
            noisy = noisy[:, :channels].to(device)
            restored = model(noisy, None if model.config.blind else level.to(device))
            white = max(float(torch.quantile(noisy.flatten()[: 1 << 20], 0.995)), 1e-6)
            spread = max(float((noisy - restored).abs().mean()) * 6, 1e-6)
            parts = torch.cat([noisy / white, restored / white, 0.5 + (noisy - restored) / spread])
            parts = (parts.clamp(0, 1) * 255).round().byte().permute(0, 2, 3, 1).cpu().numpy()
            rows.append(np.concatenate([middle(part, SAMPLES_SIDE) for part in parts], axis=1))
        width = min(row.shape[1] for row in rows)
        strip = Image.fromarray(np.concatenate([row[:, :width] for row in rows], axis=0).squeeze())
        write_atomically(run / SAMPLES_FILE, lambda path: strip.save(path, format="png"))


def read_noisy_pictures(plan: Plan, device: torch.device) -> Pictures:
    """Split the scenes of a plan, and read both parts.

    Raises:
        ConfigError: No picture can be used, or neighboring pixels share noise whose level would have to be estimated.
    """
    objective, network = plan.objective, plan.model.config
    known = _known_noise(objective)
    patch = max(stage.patch for stage in plan.config.stages)

    def read(scene: Scene) -> list[Shot]:
        return read_shots(scene, network.channels, patch, network.blind, known)

    def read_crop(scene: Scene) -> tuple[torch.Tensor, torch.Tensor]:
        found = read(scene)
        crops = [torch.from_numpy(middle(shot.pixels, CROP).copy()) for shot in found[: objective.shots]]
        parts = [crop.permute(2, 0, 1)[None] / (255 if crop.dtype == torch.uint8 else 1) for crop in crops]
        return torch.cat(parts, dim=1), torch.tensor([found[0].level])

    training, held_out, crops, unreadable = split_pictures(plan, lambda scenes: read_each(scenes, read_crop))
    pictures = NoisyPictures(training, read, device)
    if not len(pictures) or not crops:
        raise ConfigError(f"none of the pictures could be used; the first: {[*pictures.skipped, *unreadable][0]}")
    if isinstance(objective, Sure) and known is None and pictures.correlation > SHARED:
        raise ConfigError(
            f"neighboring pixels share the noise of these pictures (correlation {pictures.correlation:.2f}), so that "
            "sure cannot estimate its level: give objective.sigma, or use noise2void with `structure`, or noise2noise"
        )
    validation = NoisyValidation(objective, plan.config.objective["kind"], crops)
    return Pictures(training, held_out, pictures, validation, unreadable)


def write_outcome(run: Path, facts: dict, plan: Plan, pictures: Pictures, model) -> float:
    """run.json with the method and its scores, and no measurements against clean pictures.

    Returns:
        By how much the method's score is above that of the noisy picture as it is, dB.
    """
    kind, objective = pictures.validation.name, plan.objective
    measured = pictures.validation.measure(model)
    after, before = overall_psnr(measured), overall_psnr(pictures.validation.measure(None))
    impossible = pictures.validation.is_impossible(model)
    correlation = pictures.photographs.correlation
    about = {
        "kind": kind,
        "label": objective.label,
        "source": objective.source,
        "assumption": objective.assumption,
        "correlation": round(correlation, 2),
        "doubtful": objective.needs_independent_pixels and correlation > SHARED,
        "impossible": impossible,
        "score": round(after, 2),
        "noisy_score": round(before, 2),
    }
    write_facts(run, facts | {"self_supervised": about})
    if not (run / EVALUATION_FILE).exists():
        write_text(run / EVALUATION_FILE, "[]\n")
    print(f"held-out crops by {objective.label}'s own measure: {before:.2f} dB as they are, {after:.2f} dB denoised")
    if impossible:
        print(f"warning: {NO_ERROR.format(**about)}")
    return after - before


def _known_noise(objective: Objective) -> float | PoissonGaussian | None:
    """The noise that the objective was told."""
    if not isinstance(objective, Sure) or objective.sigma is None:
        return None
    return PoissonGaussian(objective.gain, objective.sigma) if objective.gain else objective.sigma

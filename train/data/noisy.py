"""Noisy pictures without clean ones: scenes of one or several shots, as a network gets them in use."""

import dataclasses
import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import torch
from tqdm import tqdm

from denoiser.analysis.noise_correlation import neighbor_correlation
from denoiser.analysis.noise_model import PoissonGaussian
from denoiser.analysis.signal_dependence import estimate_noise
from denoiser.images.picture import Picture, read_frames
from denoiser.network_input import NetworkInput

from .photographs import random_places
from .sources import Source, find_images, skip_reason

LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601, as PIL's convert("L")
MAX_STACK = 1_000_000_000
"""Pixels of all pages of a file together."""


@dataclass(frozen=True)
class Scene(Source):
    """Noisy shots of one scene: files, whose pages count as shots too.

    Attributes:
        files: The pictures; of a method that needs one shot always a single file, whose pages are scenes of their own.
        shots: How many shots the method needs.
    """

    files: tuple[Source, ...] = ()
    shots: int = 1

    def stamp(self) -> tuple[int, int]:
        """Size in bytes of all files, and when the last one was changed."""
        sizes, times = zip(*(file.stamp() for file in self.files))
        return sum(sizes), max(times)


@dataclass(frozen=True)
class Shot:
    """A noisy picture as the network gets it.

    Attributes:
        pixels: (H, W, C): uint8 if that loses nothing, else float32 with white at 1.
        level: Standard deviation of the noise, on the scale where white is 1.
        correlation: Of the noise of neighboring pixels, -1..1.
    """

    pixels: np.ndarray
    level: float
    correlation: float


def find_scenes(places: Iterable[str | Path], shots: int) -> list[Scene]:
    """The scenes in folders, tar files and Hub data sets, by name.

    Where a method needs several ``shots``, the pictures in a sub-folder are those of one scene, and so are the pages of
    a file; else each picture stands for itself.

    Raises:
        FileNotFoundError, ValueError: See :func:`find_images`.
    """
    sources = find_images(places)
    if shots == 1:
        return [Scene(source.path, source.name, source.offset, source.size, (source,)) for source in sources]
    roots = {Path(place).resolve() for place in places}
    scenes: dict[Path, list[Source]] = {}
    for source in sources:
        alone = source.size >= 0 or source.path.parent.resolve() in roots
        scenes.setdefault(source.path if alone else source.path.parent, []).append(source)
    return [Scene(path, path.name, files=tuple(files), shots=shots) for path, files in sorted(scenes.items())]


def read_shots(
    scene: Scene, channels: int, smallest: int, blind: bool, known: float | PoissonGaussian | None = None
) -> list[Shot]:
    """The shots of a scene, never resized: that would change the noise.

    Args:
        scene: What to read.
        channels: Of the network.
        smallest: Shorter side that is needed.
        blind: Whether the network takes no noise level: then it is given none in use, and noise that depends on the
            signal is recognized there even if its level is known here.
        known: The noise, where it is known: its level in 8-bit units or its model. Noise that depends on the signal is
            brought to one level, as :class:`denoiser.Denoiser` does.

    Raises:
        ValueError: They are too small, differ in size, or are too few.
        OSError: They cannot be read.
    """
    pictures = [page for file in scene.files for page in read_pages(file)]
    if len(pictures) < scene.shots:
        raise ValueError(
            f"{scene.name} is one shot, and noise2noise needs several of each scene: put those of a scene into a "
            "sub-folder of its own, or into one TIFF as pages; or use neighbor2neighbor, which needs one"
        )
    sizes = {picture.pixels.shape[:2] for picture in pictures}
    if scene.shots > 1 and len(sizes) > 1:
        raise ValueError(f"the shots of {scene.name} differ in size: {sorted(sizes)}")
    if (height_width := min(sizes, key=min)) and min(height_width) < smallest:
        height, width = height_width
        raise ValueError(f"{scene.name}: {width}x{height} is smaller than the crops ({smallest})")
    return [_prepare(picture, channels, blind, known) for picture in pictures]


def _prepare(picture: Picture, channels: int, blind: bool, known: float | PoissonGaussian | None) -> Shot:
    eight_bits = picture.maximum == 255
    pixels = picture.pixels
    if pixels.shape[2] != channels:
        eight_bits = eight_bits and channels == 3
        pixels = pixels.repeat(3, axis=2) if channels == 3 else (pixels @ LUMA)[..., None]
    converted = dataclasses.replace(picture, pixels=pixels, alpha=None)
    noise = estimate_noise(converted) if known is None or blind else known
    if known is not None and not (isinstance(noise, PoissonGaussian) and noise.depends_on_signal):
        noise = known
    given = NetworkInput(converted, noise)
    prepared = given.stabilize(pixels)
    if eight_bits and prepared is pixels:
        pixels = np.rint(pixels * 255).astype(np.uint8)
    else:
        pixels = np.ascontiguousarray(prepared, dtype=np.float32)
    return Shot(pixels, float(np.mean(given.level)), neighbor_correlation(picture.pixels))


def read_pages(source: Source) -> list[Picture]:
    """The picture in a file, or those on its pages, in their own depth.

    Raises:
        ImageUnreadable, ImageTooLarge: See :func:`denoiser.images.picture.read`.
    """
    return [Picture.from_frame(frame, source.name) for frame in read_frames(source.open(), MAX_STACK)]


class NoisyPictures:
    """All shots of all scenes in one tensor, and random crops of them.

    Args:
        scenes: The pictures. Unreadable ones are skipped; ``skipped`` says why, ``unused`` names them.
        read: Reads the shots of a scene, see :func:`read_shots`.
        device: Where the tensor lies.

    Attributes:
        pixels: (pixels, C): uint8 if all pictures have 8 bits, else float32 with white at 1.
        correlation: Of the noise of neighboring pixels, the median over the shots.

    Without a single usable picture its length is 0.
    """

    def __init__(self, scenes: list[Scene], read: Callable[[Scene], list[Shot]], device: torch.device):
        skipped: list[tuple[str, str]] = []

        def read_scene(scene: Scene) -> list[Shot]:
            try:
                return read(scene)
            except (OSError, ValueError) as error:
                skipped.append((scene.name, skip_reason(scene, error)))
                return []

        with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:  # each holds whole pictures
            found = list(tqdm(pool.map(read_scene, scenes), "reading noisy pictures", len(scenes)))
        shots = [shot for scene in found for shot in scene]
        self.skipped: list[str] = [reason for _, reason in skipped]
        self.unused: list[str] = [name for name, _ in skipped]
        self.correlation = float(np.median([shot.correlation for shot in shots])) if shots else 0.0
        counts = [len(scene) for scene in found for _ in scene]
        first = [start for start, scene in zip(np.cumsum([0, *map(len, found)]).tolist(), found) for _ in scene]
        sizes = np.array([shot.pixels.shape[:2] for shot in shots], dtype=np.int64).reshape(-1, 2)
        flat = [shot.pixels.reshape(-1, shot.pixels.shape[2]) for shot in shots]
        if any(pixels.dtype != np.uint8 for pixels in flat):
            flat = [pixels / np.float32(255) if pixels.dtype == np.uint8 else pixels for pixels in flat]
        self.pixels = torch.from_numpy(np.concatenate(flat) if flat else np.empty((0, 0), np.uint8)).to(device)
        self._white = 255 if self.pixels.dtype == torch.uint8 else 1
        self._sizes = torch.from_numpy(sizes).to(device)
        self._offsets = torch.from_numpy(np.cumsum([0, *sizes.prod(1)])[:-1]).to(device)
        self._levels = torch.tensor([shot.level for shot in shots], device=device)
        self._scenes = torch.tensor([first, counts], device=device)

    def __len__(self) -> int:
        return len(self._sizes)

    def at(self, step: int) -> Self:
        """What a step draws from: all of them, at every step."""
        return self

    def crops(
        self, batch: int, patch: int, shots: int, turns: bool, generator: torch.Generator
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Random crops with random flips and, if ``turns``, quarter turns.

        Returns:
            Float (batch, shots * C, patch, patch) with white at 1: with two ``shots`` the same place in two of a scene;
            and the noise level of each crop (batch,) on that scale.
        """
        which, index = random_places(self._sizes, self._offsets, batch, patch, generator, turns)
        planes = self.pixels[index]
        if shots == 2:
            first, count = self._scenes[:, which]
            further = torch.rand(batch, generator=generator, device=index.device) * (count - 1)
            other = first + (which - first + 1 + further.long().clamp_(max=(count - 2).clamp(min=0))) % count
            shift = self._offsets[other] - self._offsets[which]
            planes = torch.cat([planes, self.pixels[index + shift[:, None, None]]], dim=-1)
        return planes.permute(0, 3, 1, 2).float().div_(self._white), self._levels[which]

"""Photographs for training: read once, kept as one uint8 tensor, cropped by indexing.

All photographs, each at a few random sizes, lie end to end in one (pixels, channels) tensor. A batch of crops is then
a single gather whose indices already hold the random place, flip and rotation, the same code on a CPU and, with the
tensor in its memory, on a GPU.
"""

import hashlib
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from tqdm import tqdm

EXTENSIONS = {".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp"}
ROLE = re.compile(r"[_-](gt|clean|mean|noise|noisy|real)$", re.IGNORECASE)


def find_images(folders: list[Path]) -> list[Path]:
    """Every picture below the folders, sorted by name within each.

    Raises:
        FileNotFoundError: A folder does not exist, or there is no picture in any of them.
    """
    found: list[Path] = []
    for folder in folders:
        if not folder.is_dir():
            raise FileNotFoundError(f"--data {folder}: there is no such folder")
        found += sorted(path for path in folder.rglob("*") if path.suffix.lower() in EXTENSIONS)
    if not found:
        raise FileNotFoundError(f"no pictures ({', '.join(sorted(EXTENSIONS))}) in {', '.join(map(str, folders))}")
    return found


def match_pairs(clean_folders: list[Path], noisy_folder: Path) -> tuple[list[Path], list[Path]]:
    """(clean, noisy) files of the same name, whatever their extension.

    An ending that only says which of the two a file is (``01_gt.png`` and ``01_noise.png``) does not count as name.

    Raises:
        FileNotFoundError: A clean picture has no noisy one, or the other way round; the message names some.
    """
    clean = {ROLE.sub("", path.stem): path for path in find_images(clean_folders)}
    noisy = {ROLE.sub("", path.stem): path for path in find_images([noisy_folder])}
    if alone := sorted(clean.keys() ^ noisy.keys()):
        raise FileNotFoundError(f"{len(alone)} pictures have no partner of the same name, such as {alone[0]}")
    return [clean[name] for name in sorted(clean)], [noisy[name] for name in sorted(clean)]


def split_by_name(paths: list[Path], fraction: float) -> tuple[list[Path], list[Path]]:
    """(training, validation). A file's name alone decides, so the split survives other files coming and going."""
    held_out = {
        path for path in paths if int(hashlib.sha256(path.name.encode()).hexdigest()[:8], 16) < fraction * 16**8
    }
    if not held_out or len(held_out) == len(paths):  # a handful of pictures: the last one by hash is better than none
        held_out = {max(paths, key=lambda path: hashlib.sha256(path.name.encode()).hexdigest())}
    if len(paths) == 1:
        return paths, paths
    return [path for path in paths if path not in held_out], [path for path in paths if path in held_out]


def _read(path: Path, channels: int, scales: list[float], smallest: int) -> list[np.ndarray]:
    """One photograph as uint8 (H, W, C) at each scale, its shorter side never below ``smallest``."""
    with Image.open(path) as opened:
        image = opened.convert("L" if channels == 1 else "RGB")
    copies = []
    for scale in scales:
        scale = max(scale, smallest / min(image.size))
        size = tuple(max(smallest, round(side * scale)) for side in image.size)
        copies.append(np.asarray(image.resize(size, Image.Resampling.BICUBIC)).reshape(size[1], size[0], channels))
    return copies


class Photographs:
    """Photographs at random sizes in one tensor, and random crops of them.

    Args:
        paths: Picture files. Unreadable ones are skipped and listed in ``skipped``.
        channels: 3 or 1.
        scale: Range of the random down-scaling. Shrinking sharpens: photographs are smoother at the pixel level than
            the classic test pictures.
        copies: Sizes per photograph; the range is cut in that many parts and one size is drawn from each.
        smallest: Shorter side of the smallest copy; the patch size.
        device: Where the tensor lies.
        seed: Of the sizes.
    """

    def __init__(
        self,
        paths: list[Path],
        channels: int,
        scale: tuple[float, float],
        copies: int,
        smallest: int,
        device: torch.device,
        seed: int = 0,
    ):
        edges = np.linspace(*scale, copies + 1)
        draws = np.random.default_rng(seed).uniform(edges[:-1], edges[1:], (len(paths), copies))
        self.skipped: list[str] = []

        def read(job):
            path, scales = job
            try:
                return _read(path, channels, scales, smallest)
            except (OSError, ValueError, Image.DecompressionBombError) as error:
                self.skipped.append(f"{path}: {error}")
                return []

        with ThreadPoolExecutor(4) as pool:
            jobs = pool.map(read, zip(paths, draws.tolist()))
            images = [copy for several in tqdm(jobs, "reading photographs", len(paths)) for copy in several]
        if not images:
            raise ValueError(f"none of the {len(paths)} pictures could be read; the first: {self.skipped[0]}")
        sizes = np.array([image.shape[:2] for image in images], dtype=np.int64)
        offsets = np.concatenate([[0], np.cumsum(sizes.prod(1))[:-1]])
        flat = np.empty((int(sizes.prod(1).sum()), channels), dtype=np.uint8)
        for image, offset in zip(images, offsets):
            flat[offset : offset + image.shape[0] * image.shape[1]] = image.reshape(-1, channels)
        self.pixels = torch.from_numpy(flat).to(device)
        self.sizes = torch.from_numpy(sizes).to(device)
        self.offsets = torch.from_numpy(offsets).to(device)

    def __len__(self) -> int:
        return len(self.offsets)

    def crops(self, batch: int, patch: int, candidates: int, generator: torch.Generator) -> torch.Tensor:
        """Random crops with random flips and quarter turns, float (batch, C, patch, patch) in [0, 1].

        Of ``candidates`` random crops each, the one with the most texture (mean absolute difference of neighbouring
        pixels) is kept: flat sky teaches little.
        """
        device, count = self.pixels.device, batch * candidates

        def uniform() -> torch.Tensor:
            return torch.rand(count, generator=generator, device=device)

        which = (uniform() * len(self)).long().clamp_(max=len(self) - 1)
        height, width = self.sizes[which].unbind(1)
        top = (uniform() * (height - patch + 1)).long().clamp_(min=0)
        left = (uniform() * (width - patch + 1)).long().clamp_(min=0)
        flip_y, flip_x, turn = (uniform() < 0.5 for _ in range(3))

        steps = torch.arange(patch, device=device).expand(count, patch)
        rows = torch.where(flip_y[:, None], patch - 1 - steps, steps)
        columns = torch.where(flip_x[:, None], patch - 1 - steps, steps)
        # Index of pixel (i, j) of the crop; a turn swaps which of i and j walks along the rows of the photograph.
        row_step, column_step = (rows + top[:, None]) * width[:, None], columns + left[:, None]
        straight = row_step[:, :, None] + column_step[:, None, :]
        turned = row_step[:, None, :] + column_step[:, :, None]
        index = torch.where(turn[:, None, None], turned, straight) + self.offsets[which][:, None, None]
        crops = self.pixels[index]  # (count, patch, patch, C)
        if candidates > 1:
            luma = crops.float().mean(-1)
            texture = (luma[:, 1:] - luma[:, :-1]).abs().mean((1, 2)) + (luma[:, :, 1:] - luma[:, :, :-1]).abs().mean(
                (1, 2)
            )
            best = texture.view(batch, candidates).argmax(1) + torch.arange(batch, device=device) * candidates
            crops = crops[best]
        return crops.permute(0, 3, 1, 2).float().div_(255)  # channels_last in memory


def validation_pictures(paths: list[Path], channels: int, size: int = 256) -> list[torch.Tensor]:
    """The middle size x size of each photograph at half its size, float (1, C, size, size) in [0, 1]."""
    pictures = []
    for path in paths:
        try:
            image = _read(path, channels, [0.5], size)[0]
        except (OSError, ValueError, Image.DecompressionBombError):
            continue
        top, left = (image.shape[0] - size) // 2, (image.shape[1] - size) // 2
        crop = torch.from_numpy(image[top : top + size, left : left + size].copy())
        pictures.append(crop.permute(2, 0, 1)[None].float() / 255)
    return pictures

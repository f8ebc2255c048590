"""Photographs for training: read once, kept as one uint8 tensor, cropped by indexing.

All photographs, each at a few random sizes, lie end to end in one (pixels, channels) tensor. A batch of crops is then
a single gather whose indices already hold the random place, flip and turn: the same code on a CPU and, with the tensor
in its memory, on a GPU. What was decoded once is kept in a cache on disk for later runs.
"""

import hashlib
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Self

import numpy as np
import torch
from tqdm import tqdm

from .cache import cached
from .sources import Source, read_copies, read_pair, skip_reason

TABLE_VERSION = 2
"""Of the cache's table; a change leaves earlier caches unused."""


class Photographs:
    """Photographs at random sizes (or noisy/clean pairs as they are) in one tensor, and random crops of them.

    Args:
        sources: The pictures. Unreadable ones are skipped; ``skipped`` says why, ``unused`` names them.
        channels: 3 or 1.
        scale: Range of the random down-scaling. Shrinking sharpens: photographs are smoother at the pixel level than
            the classic test pictures.
        copies: Sizes per photograph; the range is cut in that many parts and one size is drawn from each.
        smallest: Shorter side of the smallest copy; the largest patch.
        device: Where the tensor lies.
        seed: Of the sizes.
        noisy: The noisy pictures of pairs; then nothing is scaled, and crops have 2 C channels, clean first.
        cache: Folder for the decoded pictures, where the last few choices are kept; None keeps them in memory alone.
        chroma_subsampling: Share of the copies with chroma subsampling, see :func:`subsample_chroma`.

    Without a single usable picture its length is 0.
    """

    def __init__(
        self,
        sources: list[Source],
        channels: int,
        scale: tuple[float, float],
        copies: int,
        smallest: int,
        device: torch.device,
        seed: int = 0,
        noisy: list[Source] | None = None,
        cache: Path | None = None,
        chroma_subsampling: float = 0.0,
    ):
        def decode() -> tuple[list[np.ndarray], list[tuple[str, str]], bool]:
            edges = np.linspace(*scale, copies + 1)
            random = np.random.default_rng(seed)
            draws = random.uniform(edges[:-1], edges[1:], (len(sources), copies)).tolist()
            stored = (random.uniform(size=(len(sources), copies)) < chroma_subsampling).tolist()
            skipped, temporary = [], []

            def decode_one(index: int) -> list[np.ndarray]:
                try:
                    if noisy:
                        return [read_pair(sources[index], noisy[index], channels, smallest)]
                    return read_copies(sources[index], channels, draws[index], smallest, stored[index])
                except (OSError, ValueError) as error:
                    skipped.append((sources[index].name, skip_reason(sources[index], error)))
                    if getattr(error, "errno", None):  # of the disk, not of the picture: another day it may be read
                        temporary.append(index)
                    return []

            with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:  # each holds a whole photograph
                jobs = tqdm(pool.map(decode_one, range(len(sources))), "reading photographs", len(sources))
                return [copy for several in jobs for copy in several], skipped, not temporary

        # Whatever decides the pixels is in the key, the files' sizes and times included.
        stats = [(str(source.path), source.offset, *source.stamp()) for source in sources + (noisy or [])]
        decides = TABLE_VERSION, stats, channels, scale, copies, smallest, seed, bool(noisy), chroma_subsampling
        key = hashlib.sha256(repr(decides).encode()).hexdigest()
        pixels, table = cached(cache and cache / key[:24], decode)
        self.skipped: list[str] = [reason for _, reason in table["skipped"]]
        self.unused: list[str] = [name for name, _ in table["skipped"]]
        sizes = np.array(table["sizes"], dtype=np.int64).reshape(-1, 2)
        self.pixels = torch.from_numpy(pixels).to(device)
        self.sizes = torch.from_numpy(sizes).to(device)
        self.offsets = torch.from_numpy(np.concatenate([[0], np.cumsum(sizes.prod(1))[:-1]])).to(device)

    def __len__(self) -> int:
        return len(self.sizes)

    def at(self, step: int) -> Self:
        """What a step draws from: all of them, at every step."""
        return self

    def crops(self, batch: int, patch: int, candidates: int, generator: torch.Generator) -> torch.Tensor:
        """Random crops with random flips and quarter turns, float (batch, C, patch, patch) in [0, 1].

        Of ``candidates`` random crops each, the one with the most texture (mean absolute difference of neighboring
        pixels) is kept: flat sky teaches little.
        """
        _, index = random_places(self.sizes, self.offsets, batch * candidates, patch, generator)
        crops = self.pixels[index]  # (crops, patch, patch, C)
        if candidates > 1:
            luma = crops.float().mean(-1)
            rough = (luma[:, 1:] - luma[:, :-1]).abs().mean((1, 2)) + (luma[:, :, 1:] - luma[:, :, :-1]).abs().mean(
                (1, 2)
            )
            best = rough.view(-1, candidates).argmax(1)
            crops = crops[best + torch.arange(len(best), device=best.device) * candidates]
        return crops.permute(0, 3, 1, 2).float().div_(255)  # channels_last in memory


def random_places(
    sizes: torch.Tensor, offsets: torch.Tensor, count: int, patch: int, generator: torch.Generator, turns: bool = True
) -> tuple[torch.Tensor, torch.Tensor]:
    """Random crops with random flips and, if ``turns``, quarter turns, of pictures that lie end to end.

    Args:
        sizes: Height and width of each picture (N, 2).
        offsets: Where each begins (N,), pixels.
        count: Number of crops.
        patch: Their side.
        generator: On the device of ``sizes``.
        turns: Whether crops may be turned.

    Returns:
        The picture of each crop (count,), and the places of its pixels (count, patch, patch).
    """
    device = sizes.device

    def uniform() -> torch.Tensor:
        return torch.rand(count, generator=generator, device=device)

    which = (uniform() * len(sizes)).long().clamp_(max=len(sizes) - 1)
    height, width = sizes[which].unbind(1)
    top = (uniform() * (height - patch + 1)).long().clamp_(min=0)
    left = (uniform() * (width - patch + 1)).long().clamp_(min=0)
    flip_y, flip_x, turn = (uniform() < 0.5 for _ in range(3))

    steps = torch.arange(patch, device=device).expand(count, patch)
    rows = torch.where(flip_y[:, None], patch - 1 - steps, steps)
    columns = torch.where(flip_x[:, None], patch - 1 - steps, steps)
    # Index of pixel (i, j) of the crop; a turn swaps which of i and j walks along the rows of the picture.
    row_step, column_step = (rows + top[:, None]) * width[:, None], columns + left[:, None]
    straight = row_step[:, :, None] + column_step[:, None, :]
    if turns:
        turned = row_step[:, None, :] + column_step[:, :, None]
        straight = torch.where(turn[:, None, None], turned, straight)
    return which, straight + offsets[which][:, None, None]

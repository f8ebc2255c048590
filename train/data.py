"""Photographs for training: read once, kept as one uint8 tensor, cropped by indexing.

All photographs, each at a few random sizes, lie end to end in one (pixels, channels) tensor. A batch of crops is then
a single gather whose indices already hold the random place, flip and turn: the same code on a CPU and, with the tensor
in its memory, on a GPU. What was decoded once is kept in a cache on disk for later runs.
"""

import hashlib
import io
import os
import re
import tarfile
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import huggingface_hub
import numpy as np
import torch
from PIL import Image
from tqdm import tqdm

from denoiser._download import is_network_error
from denoiser.image import damage_reported, read

from .cache import cached

EXTENSIONS = {".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp"}
ROLE = re.compile(r"[_-](gt|clean|mean|noise|noisy|real)$", re.IGNORECASE)
TABLE_FORM = 2
"""What a cache's table is like; a change makes the caches before it unused."""
SMALLEST = 16
"""Shorter side of the smallest photograph that is enlarged to the size of a crop; what is thinner is left out."""
HUB_PREFIX = "hf://datasets/"


@dataclass(frozen=True)
class Source:
    """A picture in a file, or in a tar file without compression: there ``offset`` and ``size`` say where."""

    path: Path
    name: str
    offset: int = 0
    size: int = -1

    def stamp(self) -> tuple[int, int]:
        """Size in bytes, and when the file was changed last; (-1, 0) of a link to what is gone."""
        try:
            status = self.path.stat()
        except OSError:
            return -1, 0
        return (self.size if self.size >= 0 else status.st_size), status.st_mtime_ns

    def read(self, channels: int) -> Image.Image:
        """The picture in 8 bits, RGB or L (16-bit grey is rounded), turned as its EXIF says.

        Raises:
            ImageUnreadable, ImageTooLarge: See :func:`denoiser.image.read`.
        """
        if self.size < 0:
            picture = read(self.path)
        else:
            with open(self.path, "rb") as tar:
                tar.seek(self.offset)
                content = io.BytesIO(tar.read(self.size))
            with damage_reported(self.name), Image.open(content) as opened:
                picture = read(opened)
        pixels = np.rint(np.clip(picture.pixels, 0, 1) * 255).astype(np.uint8)
        image = Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)
        return image.convert("L" if channels == 1 else "RGB")


def find_images(places: Iterable[str | Path]) -> list[Source]:
    """Every picture in folders, tar files and Hub datasets ("hf://datasets/user/name"), by name within each.

    Raises:
        FileNotFoundError: A place does not exist, or there is no picture in any of them.
        ValueError: A tar file is compressed or damaged.
    """
    found: list[Source] = []
    for place in places:
        if str(place).startswith(HUB_PREFIX):
            found += _in_folder(_download(str(place)))
        elif Path(place).is_dir():
            found += _in_folder(Path(place))
        elif Path(place).is_file():
            found += _in_tar(Path(place))
        else:
            raise FileNotFoundError(f"{place}: there is no such folder, tar file or {HUB_PREFIX}user/name")
    if not found:
        raise FileNotFoundError(f"no pictures ({', '.join(sorted(EXTENSIONS))}) in {', '.join(map(str, places))}")
    return found


def _is_picture(name: str) -> bool:
    return Path(name).suffix.lower() in EXTENSIONS and not Path(name).name.startswith(".")


def _in_folder(folder: Path) -> list[Source]:
    sources = [Source(path, path.name) for path in sorted(folder.rglob("*")) if _is_picture(path.name)]
    for tar in sorted(folder.rglob("*.tar")):
        sources += _in_tar(tar)
    return sources


def _in_tar(path: Path) -> list[Source]:
    try:
        with tarfile.open(path, "r:") as tar:
            members = [member for member in tar if member.isfile() and _is_picture(member.name)]
    except tarfile.TarError as error:
        raise ValueError(f"{path} is not an uncompressed tar file: {error}") from error
    sources = [Source(path, Path(member.name).name, member.offset_data, member.size) for member in members]
    return sorted(sources, key=lambda source: source.name)


def _download(address: str) -> Path:
    repo_id = address.removeprefix(HUB_PREFIX)
    patterns = [f"*{case(end)}" for end in (*EXTENSIONS, ".tar", ".tsv") for case in (str.lower, str.upper)]
    try:
        return Path(huggingface_hub.snapshot_download(repo_id, repo_type="dataset", allow_patterns=patterns))
    except Exception as error:
        known = huggingface_hub.errors.HfHubHTTPError, huggingface_hub.errors.HFValidationError, OSError
        if not isinstance(error, known) and not is_network_error(error):
            raise
        raise FileNotFoundError(f"{address} cannot be downloaded: {type(error).__name__}: {error}") from error


def match_pairs(clean_places: Iterable, noisy_places: Iterable) -> tuple[list[Source], list[Source]]:
    """(clean, noisy) pictures of the same name, whatever their extension.

    An ending that only says which of the two a file is (``01_gt.png`` and ``01_noise.png``) does not count as name.

    Raises:
        FileNotFoundError: A clean picture has no noisy one, or the other way round; the message names one.
        ValueError: Two clean or two noisy pictures have the same name.
    """

    def by_name(places: Iterable) -> dict[str, Source]:
        named: dict[str, Source] = {}
        for source in find_images(places):
            name = ROLE.sub("", Path(source.name).stem)
            if name in named:
                raise ValueError(f"{named[name].path} and {source.path}: both pictures are called {name}; rename one")
            named[name] = source
        return named

    clean, noisy = by_name(clean_places), by_name(noisy_places)
    if alone := sorted(clean.keys() ^ noisy.keys()):
        raise FileNotFoundError(f"{len(alone)} pictures have no partner of the same name, such as {alone[0]}")
    return [clean[name] for name in sorted(clean)], [noisy[name] for name in sorted(clean)]


def fingerprint(sources: list[Source]) -> str:
    """The same for the same pictures, wherever they lie: a hash of their names and sizes."""
    sizes = sorted((source.name, source.stamp()[0]) for source in sources)
    return hashlib.sha256(repr(sizes).encode()).hexdigest()[:16]


def split_by_name(
    sources: list[Source], fraction: float, held_out: Iterable[str] = ()
) -> tuple[list[Source], list[Source]]:
    """(training, validation). A picture's name alone decides, so the split survives others coming and going.

    ``held_out``: names for validation besides the share that is drawn.
    """
    named = set(held_out)

    def draw(source: Source) -> float:
        if source.name in named:
            return 0.0
        return int(hashlib.sha256(source.name.encode()).hexdigest()[:8], 16) / 16**8

    if len(sources) == 1:
        return sources, sources
    edge = fraction
    if not any(draw(source) < edge for source in sources) or all(draw(source) < edge for source in sources):
        edge = np.nextafter(min(map(draw, sources)), 1)  # of a handful of pictures, one is held out
    return [source for source in sources if draw(source) >= edge], [source for source in sources if draw(source) < edge]


def through_jpeg(image: Image.Image, quality: int = 95) -> Image.Image:
    """As cameras and the web store it: a JPEG whose colour has half the resolution (chroma subsampling 4:2:0)."""
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality, subsampling="4:2:0")
    return Image.open(file).convert(image.mode)


def read_copies(
    source: Source, channels: int, scales: list[float], smallest: int, subsampled: tuple[bool, ...] = ()
) -> list[np.ndarray]:
    """One photograph as uint8 (H, W, C) at each scale, its shorter side never below ``smallest``.

    ``subsampled`` says which copies go through JPEG with chroma subsampling; none if it is empty.
    """
    image = source.read(channels)
    if min(image.size) < SMALLEST:
        raise ValueError(f"{image.width}x{image.height} is too small to learn from")
    copies = []
    for index, scale in enumerate(scales):
        scale = max(scale, smallest / min(image.size))
        size = tuple(max(smallest, round(side * scale)) for side in image.size)
        resized = image if size == image.size else image.resize(size, Image.Resampling.BICUBIC)
        if subsampled and subsampled[index]:
            resized = through_jpeg(resized)
        copies.append(np.asarray(resized).reshape(size[1], size[0], channels))
    return copies


def read_pair(clean: Source, noisy: Source, channels: int, smallest: int) -> np.ndarray:
    """A pair as one uint8 (H, W, 2 C), clean first; never resized: that would change the noise."""
    planes = [read_copies(source, channels, [1.0], 1)[0] for source in (clean, noisy)]
    if planes[0].shape != planes[1].shape:
        raise ValueError(f"the pair differs in size: {planes[0].shape[:2]}, {planes[1].shape[:2]}")
    if min(planes[0].shape[:2]) < smallest:
        raise ValueError(f"{planes[0].shape[1]}x{planes[0].shape[0]} is smaller than the crops ({smallest})")
    return np.concatenate(planes, axis=2)


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
        subsampled: Share of the copies that go through JPEG with chroma subsampling, see :func:`through_jpeg`.

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
        subsampled: float = 0.0,
    ):
        def decode() -> tuple[list[np.ndarray], list[tuple[str, str]], bool]:
            edges = np.linspace(*scale, copies + 1)
            random = np.random.default_rng(seed)
            draws = random.uniform(edges[:-1], edges[1:], (len(sources), copies)).tolist()
            stored = (random.uniform(size=(len(sources), copies)) < subsampled).tolist()
            skipped, passing = [], []

            def decode_one(index: int) -> list[np.ndarray]:
                try:
                    if noisy:
                        return [read_pair(sources[index], noisy[index], channels, smallest)]
                    return read_copies(sources[index], channels, draws[index], smallest, stored[index])
                except (OSError, ValueError) as error:
                    skipped.append((sources[index].name, _reason(sources[index], error)))
                    if getattr(error, "errno", None):  # of the disk, not of the picture: another day it may be read
                        passing.append(index)
                    return []

            with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:  # each holds a whole photograph
                jobs = tqdm(pool.map(decode_one, range(len(sources))), "reading photographs", len(sources))
                return [copy for several in jobs for copy in several], skipped, not passing

        # Whatever decides the pixels is in the key, the files' sizes and times included.
        stats = [(str(source.path), source.offset, *source.stamp()) for source in sources + (noisy or [])]
        decides = TABLE_FORM, stats, channels, scale, copies, smallest, seed, bool(noisy), subsampled
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

    def crops(self, batch: int, patch: int, candidates: int, generator: torch.Generator) -> torch.Tensor:
        """Random crops with random flips and quarter turns, float (batch, C, patch, patch) in [0, 1].

        Of ``candidates`` random crops each, the one with the most texture (mean absolute difference of neighbouring
        pixels) is kept: flat sky teaches little.
        """
        device = self.pixels.device

        def uniform() -> torch.Tensor:
            return torch.rand(batch * candidates, generator=generator, device=device)

        which = (uniform() * len(self)).long().clamp_(max=len(self) - 1)
        height, width = self.sizes[which].unbind(1)
        top = (uniform() * (height - patch + 1)).long().clamp_(min=0)
        left = (uniform() * (width - patch + 1)).long().clamp_(min=0)
        flip_y, flip_x, turn = (uniform() < 0.5 for _ in range(3))

        steps = torch.arange(patch, device=device).expand(len(which), patch)
        rows = torch.where(flip_y[:, None], patch - 1 - steps, steps)
        columns = torch.where(flip_x[:, None], patch - 1 - steps, steps)
        # Index of pixel (i, j) of the crop; a turn swaps which of i and j walks along the rows of the photograph.
        row_step, column_step = (rows + top[:, None]) * width[:, None], columns + left[:, None]
        straight = row_step[:, :, None] + column_step[:, None, :]
        turned = row_step[:, None, :] + column_step[:, :, None]
        index = torch.where(turn[:, None, None], turned, straight) + self.offsets[which][:, None, None]
        crops = self.pixels[index]  # (crops, patch, patch, C)
        if candidates > 1:
            luma = crops.float().mean(-1)
            rough = (luma[:, 1:] - luma[:, :-1]).abs().mean((1, 2)) + (luma[:, :, 1:] - luma[:, :, :-1]).abs().mean(
                (1, 2)
            )
            best = rough.view(-1, candidates).argmax(1)
            crops = crops[best + torch.arange(len(best), device=device) * candidates]
        return crops.permute(0, 3, 1, 2).float().div_(255)  # channels_last in memory


def validation_pictures(
    sources: list[Source], channels: int, noisy: list[Source] | None = None, size: int = 256
) -> tuple[list[np.ndarray], list[str]]:
    """The middle of each held-out photograph at half its size, uint8 (size, size, C); pairs (.., 2 C) unscaled.

    The second list says which could not be used, and why.
    """
    pictures, skipped = [], []
    for index, source in enumerate(sources):
        try:
            if noisy:
                image = read_pair(source, noisy[index], channels, 16)
            else:
                image = read_copies(source, channels, [0.5], size)[0]
        except (OSError, ValueError) as error:
            skipped.append(_reason(source, error))
            continue
        top, left = (max(0, (side - size) // 2) for side in image.shape[:2])
        pictures.append(np.ascontiguousarray(image[top : top + size, left : left + size]))
    return pictures, skipped


def _reason(source: Source, error: Exception) -> str:
    return str(error) if source.name in str(error) else f"{source.name}: {error}"

"""Where pictures come from: folders, tar files and Hub data sets; pairs by name; which are held out."""

import hashlib
import io
import os
import re
import tarfile
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import huggingface_hub
import numpy as np
from PIL import Image

from denoiser.download.client_errors import is_network_error
from denoiser.hub.card_text import HUB_PREFIX
from denoiser.images.codecs import EXTENSIONS
from denoiser.images.picture import read

ROLE = re.compile(r"[_-](gt|clean|mean|noise|noisy|real)$", re.IGNORECASE)
MIN_SIDE = 16
"""Shorter side of the smallest photograph that is used; it is enlarged to the size of a crop."""
DEFAULT_GROUP = "photographs"
"""The group of pictures that are held out by share."""


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

    def open(self) -> Path | io.BytesIO:
        """The file, for :func:`denoiser.images.picture.read`: its path, or its bytes in a tar file with its name."""
        if self.size < 0:
            return self.path
        with open(self.path, "rb") as tar:
            tar.seek(self.offset)
            return named(tar.read(self.size), self.name)

    def read(self, channels: int) -> Image.Image:
        """The picture in 8 bits, RGB or L (16-bit gray is rounded), turned as its EXIF says.

        Raises:
            ImageUnreadable, ImageTooLarge: See :func:`denoiser.images.picture.read`.
        """
        picture = read(self.open())
        pixels = np.rint(np.clip(picture.pixels, 0, 1) * 255).astype(np.uint8)
        image = Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)
        return image.convert("L" if channels == 1 else "RGB")


def named(content: bytes, name: str) -> io.BytesIO:
    """The bytes of a file, with its name, which messages give."""
    file = io.BytesIO(content)
    file.name = name
    return file


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


def _name(path: Path) -> str:
    """A picture's name; a Mac writes letters with accents as two characters, other systems as one."""
    return unicodedata.normalize("NFC", path.name)


def _in_folder(folder: Path) -> list[Source]:
    sources = [Source(path, _name(path)) for path in sorted(folder.rglob("*")) if _is_picture(path.name)]
    for tar in sorted(folder.rglob("*.tar")):
        sources += _in_tar(tar)
    return sources


def _in_tar(path: Path) -> list[Source]:
    try:
        with tarfile.open(path, "r:") as tar:
            members = [member for member in tar if member.isfile() and _is_picture(member.name)]
    except tarfile.TarError as error:
        raise ValueError(f"{path} is not an uncompressed tar file: {error}") from error
    sources = [Source(path, _name(Path(member.name)), member.offset_data, member.size) for member in members]
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


def split_held_out(
    sources: list[Source], share: float, groups: Mapping[str, Iterable[str]]
) -> tuple[list[Source], dict[str, list[Source]]]:
    """(training, held out by group). A picture's name alone decides, so the split survives others coming and going.

    Args:
        sources: All pictures.
        share: What part is held out, as one group, where none of the named ones is there.
        groups: Names of the pictures to hold out, by group.
    """
    named = {group: [source for source in sources if source.name in set(names)] for group, names in groups.items()}
    named = {group: members for group, members in named.items() if members}
    if named:
        held_out = {source for members in named.values() for source in members}
        return [source for source in sources if source not in held_out], named
    if len(sources) == 1:
        return sources, {DEFAULT_GROUP: sources}

    def hashed(source: Source) -> float:
        return int(hashlib.sha256(os.fsencode(source.name)).hexdigest()[:8], 16) / 16**8

    edge = share
    if not any(hashed(source) < edge for source in sources) or all(hashed(source) < edge for source in sources):
        edge = np.nextafter(min(map(hashed, sources)), 1)  # of a handful of pictures, one is held out
    training = [source for source in sources if hashed(source) >= edge]
    return training, {DEFAULT_GROUP: [source for source in sources if hashed(source) < edge]}


def subsample_chroma(image: Image.Image, quality: int = 95) -> Image.Image:
    """The picture through a JPEG with 4:2:0 chroma subsampling, as cameras and the web store it."""
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality, subsampling="4:2:0")
    return Image.open(file).convert(image.mode)


def read_copies(
    source: Source, channels: int, scales: list[float], smallest: int, subsample: tuple[bool, ...] = ()
) -> list[np.ndarray]:
    """One photograph as uint8 (H, W, C) at each scale, its shorter side never below ``smallest``.

    ``subsample`` says which copies go through JPEG with chroma subsampling; none if it is empty.
    """
    image = source.read(channels)
    if min(image.size) < MIN_SIDE:
        raise ValueError(f"{image.width}x{image.height} is too small to learn from")
    copies = []
    for index, scale in enumerate(scales):
        scale = max(scale, smallest / min(image.size))
        size = tuple(max(smallest, round(side * scale)) for side in image.size)
        resized = image if size == image.size else image.resize(size, Image.Resampling.BICUBIC)
        if subsample and subsample[index]:
            resized = subsample_chroma(resized)
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


def skip_reason(source: Source, error: Exception) -> str:
    """Why a picture was skipped, with its name."""
    return str(error) if source.name in str(error) else f"{source.name}: {error}"

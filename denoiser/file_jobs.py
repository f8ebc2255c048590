"""The files of the command line: which pictures there are, what each becomes, reading and writing them."""

import glob
import io
import os
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from .images.codecs import EXTENSIONS, READ_EXTENSIONS, WRITTEN, check_format, prepare, write_frames
from .images.frame import Frame
from .images.picture import read_frames

STREAM = "-"
"""Standard input or output."""
MAX_NAME = 255
"""Length of a file's name that file systems take, bytes."""


@dataclass(frozen=True)
class Job:
    """One picture file.

    Attributes:
        source: The file; None is standard input.
        target: What it becomes; None is standard output.
        alternatives: What may be written where the target's format cannot hold the picture.
    """

    source: Path | None
    target: Path | None
    alternatives: tuple[Path, ...] = ()

    def exists(self) -> bool:
        """Whether its output is there, also in another format."""
        # Of a name that is too long os.path says that there is none.
        return self.target is not None and any(map(os.path.exists, (self.target, *self.alternatives)))


def plan_jobs(inputs: Sequence[str], output: str, extension: str | None = None) -> list[Job]:
    """The input and output file of each picture.

    Args:
        inputs: Files, folders, wildcards that the shell left alone (as on Windows), or ``STREAM``.
        output: A file, a folder, or ``STREAM``. Several pictures need a folder, which may be new.
        extension: Of the results; by default that of the input in a folder.

    Raises:
        ValueError: Two pictures have the same output, an output is an input or has an unknown format, or there are no
            pictures.
    """
    sources: list[Path | None] = []
    for one in inputs:
        if not one:
            raise ValueError("the name of a picture is empty")
        matches = [] if one == STREAM or os.path.exists(one) else sorted(glob.glob(one))
        sources += [None] if one == STREAM else map(Path, matches or [one])
    several = len(sources) > 1 or any(source and os.path.isdir(source) for source in sources)
    folder = Path(output)
    if output == STREAM:
        if several:
            raise ValueError("standard output takes one picture; several need a folder")
        return [Job(sources[0], None, () if extension else _alternatives(Path("picture.png")))]
    _check_length(folder)
    into_folder = several or folder.is_dir() or output.endswith(("/", os.sep))
    if into_folder and folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder} is a file; several pictures need a folder")
    if into_folder and None in sources:
        raise ValueError("standard input has no name: give a file as the output")
    if not into_folder:
        if extension and WRITTEN.get(folder.suffix.lower()) != WRITTEN[extension]:
            raise ValueError(f"{folder} does not end in {extension}, as --format asks for")
        if sources[0] and not os.path.exists(sources[0]) and folder.suffix.lower() not in WRITTEN:
            raise ValueError(f"there is no {sources[0]}")  # a folder, had its name been right
        check_format(folder)
        jobs = [Job(sources[0], folder)]
    else:
        pictures = [(path, folder / name) for source in sources if source for path, name in _pictures(source, folder)]
        jobs = name_results(list(dict.fromkeys(pictures)), extension)  # one may be named, and in a folder too
    if not jobs:
        raise ValueError(f"there are no pictures ({', '.join(READ_EXTENSIONS)}) in {', '.join(inputs)}")
    check_outputs(jobs, {job.source.resolve() for job in jobs if job.source})
    return jobs


def name_results(pictures: Sequence[tuple[Path, Path]], extension: str | None = None) -> list[Job]:
    """Jobs for pictures in a folder.

    Args:
        pictures: Files, and where each goes under its own name.
        extension: Of the results; by default each keeps its own, or takes an alternative.
    """
    targets = [target.with_name(_stem(target) + extension) if extension else target for _, target in pictures]
    names = Counter(target.with_name(_stem(target)) for target in targets)
    return [
        Job(path, target, () if extension else _alternatives(target, names[target.with_name(_stem(target))] > 1))
        for (path, _), target in zip(pictures, targets)
    ]


def _pictures(source: Path, output: Path) -> list[tuple[Path, Path]]:
    """Each picture of a file or folder, and its name in the output folder, which is left out itself."""
    if not source.is_dir():
        return [(source, Path(source.name))]
    found = sorted(path for path in source.rglob("*") if path.suffix.lower() in READ_EXTENSIONS and path.is_file())
    # macOS puts ._a.jpg beside a.jpg, and file managers keep .thumbnails.
    found = [path for path in found if not any(part.startswith(".") for part in path.relative_to(source).parts)]
    inside = output.resolve()
    within = source.resolve() in inside.parents
    return [
        (path, path.relative_to(source)) for path in found if not (within and path.resolve().is_relative_to(inside))
    ]


def check_outputs(jobs: list[Job], originals: set[Path]) -> None:
    """Raise ValueError if two jobs have the same output, or an output is one of the original files."""
    taken: dict[Path, Path | None] = {}
    for job in jobs:
        assert job.target
        for path in (job.target, *job.alternatives):
            resolved = path.resolve()
            if resolved in originals:
                raise ValueError(f"{path} is an input: it would be overwritten. Choose another output.")
            if resolved in taken:
                raise ValueError(
                    f"{taken[resolved]} and {job.source} would both become {path}; denoise them in two calls"
                )
            taken[resolved] = job.source


def read_source(job: Job, page: int | None, extension: str | None, overwrite: bool) -> tuple[list[Frame], Path, str]:
    """Read a job's picture, and decide what file it becomes, before anything is computed.

    Args:
        job: Whose picture it is.
        page: The only page to read; None reads all.
        extension: Of standard output; by default PNG, or TIFF where PNG cannot hold it.
        overwrite: Whether files may be replaced.

    Returns:
        Its frames, the file to write (of standard output, its name) and what there is to say about it or "".

    Raises:
        DenoiserError: It cannot be read.
        ValueError: The file's format cannot hold the picture, its name is too long, or the file exists.
    """
    if job.target:
        _check_length(job.target)
        if os.path.lexists(job.target) and not overwrite:
            raise ValueError(f"{job.target} exists; --overwrite replaces it")
        folder = next(one for one in job.target.absolute().parents if one.exists())
        if not folder.is_dir() or not os.access(folder, os.W_OK):
            raise ValueError(f"nothing can be written to {folder}; choose another output")
    frames = read_frames(job.source or io.BytesIO(sys.stdin.buffer.read()), page=page)
    target = job.target or Path(f"picture{extension or '.png'}")
    path, note = _choose_target(target, frames, job.alternatives, overwrite or job.target is None)
    _check_length(path)
    prepare(path, frames)
    return frames, path, note


def _check_length(path: Path) -> None:
    """Raise ValueError if the name of a file is longer than file systems take."""
    length = len(os.fsencode(path.name))
    if length > MAX_NAME:
        raise ValueError(f"the name {path.name[:20]}... is too long: {length} bytes, of {MAX_NAME} at most")


def write_result(frames: list[Frame], path: Path, to_stream: bool) -> str:
    """Write a result, to standard output in the format of ``path`` if ``to_stream``; returns what was written.

    Raises:
        OSError: It cannot be written.
    """
    where = STREAM if to_stream else str(path)
    try:
        if not to_stream:
            write_frames(frames, path)
            return where
        with tempfile.TemporaryDirectory() as folder:
            write_frames(frames, Path(folder) / path.name)
            sys.stdout.buffer.write((Path(folder) / path.name).read_bytes())
            sys.stdout.buffer.flush()
    except OSError as error:  # numpy, which writes TIFF, does not say that a disk is full
        raise OSError(f"{where} cannot be written ({error.strerror or 'is the disk full?'})") from error
    return where


def _choose_target(
    target: Path, frames: list[Frame], alternatives: tuple[Path, ...], overwrite: bool
) -> tuple[Path, str]:
    """The file to write, an alternative where the target cannot hold the picture, and what to say about that."""
    try:
        check_format(target, frames)
        return target, ""
    except ValueError as error:
        for other in alternatives:
            if _can_hold(other, frames):
                if other.exists() and not overwrite:
                    raise ValueError(f"{other} exists; --overwrite replaces it") from error
                reason = f"{error}; " if target.suffix.lower() in EXTENSIONS else ""
                return other, f"{target.name}: {reason}written as {other}"
        raise


def _alternatives(target: Path, keep_ending: bool = False) -> tuple[Path, ...]:
    """The same name as PNG and as TIFF; behind its ending ("a.gif.png") where another picture has the name "a"."""
    stem = target.name if keep_ending else _stem(target)
    return tuple(other for end in (".png", ".tif") if (other := target.with_name(stem + end)) != target)


def _stem(target: Path) -> str:
    """The name without the ending of a picture: "v1.2" has none."""
    return target.stem if target.suffix.lower() in READ_EXTENSIONS else target.name


def _can_hold(target: Path, frames: list[Frame]) -> bool:
    try:
        check_format(target, frames)
    except ValueError:
        return False
    return True

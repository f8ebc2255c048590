"""The files of the command line: which pictures there are, what each becomes, reading and writing them."""

import glob
import io
import logging
import os
import stat
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from .images.codecs import EXTENSIONS, READ_EXTENSIONS, WRITTEN, check_format, prepare, write_frames
from .images.frame import Frame
from .images.picture import read_frames

_logger = logging.getLogger(__name__)

STREAM = "-"
"""Standard input or output."""
MAX_NAME = 255
"""Length of a file's name that file systems take, bytes; on Windows units of two bytes."""


class OutputExists(ValueError):
    """What a picture becomes is there."""


@dataclass(frozen=True)
class Job:
    """One picture file.

    Attributes:
        source: The file; None is standard input.
        target: What it becomes; None is standard output.
        alternatives: What may be written where the target's format cannot hold the picture.
        problem: Why nothing can be read, if that is known.
    """

    source: Path | None
    target: Path | None
    alternatives: tuple[Path, ...] = ()
    problem: str = ""

    @property
    def outputs(self) -> tuple[Path, ...]:
        """What it becomes, whatever the picture is. A file with the name of another alternative may be of another one:
        "a.png" of "a.png" and not of "a.jpg"."""
        if self.target is None:
            return ()
        return (self.target, *(() if self.target.suffix.lower() in WRITTEN else self.alternatives))

    def exists(self) -> bool:
        """Whether its output is there."""
        return any(map(os.path.exists, self.outputs))  # of a name that is too long os.path says that there is none


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
    if not output:
        raise ValueError("the name of the output is empty")
    if "://" in output:
        raise ValueError(f"{output} is an address: name a file or a folder")
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
        jobs, unreadable = [Job(sources[0], folder)], []
    else:
        pictures: dict[tuple[Path, Path], tuple[Path, Path]] = {}  # one may be named, and in a folder too
        unreadable: list[Job] = []
        for source in filter(None, sources):
            path = None
            for path, problem in _pictures(source, folder):
                name = path.relative_to(source) if path != source else path.name
                if problem:
                    unreadable.append(Job(path, folder / name, problem=problem))
                else:
                    pictures.setdefault((_resolve(path), folder / name), (path, folder / name))
            if path is None:
                _logger.warning("there are no pictures in %s", source)
        jobs = name_results(list(pictures.values()), extension)
    if not jobs and not unreadable:
        raise ValueError(f"there are no pictures ({', '.join(READ_EXTENSIONS)}) in {', '.join(inputs)}")
    check_outputs(jobs, {_resolve(job.source) for job in jobs if job.source})
    return jobs + unreadable


def _resolve(path: Path) -> Path:
    """The file itself; of a link that leads to itself the link."""
    try:
        return path.resolve()
    except (OSError, RuntimeError):
        return path.absolute()


def _file_id(path: Path) -> tuple[int, int] | None:
    """What tells a file from all others, whichever way leads to it: "a.JPG" may be "A.jpg", a folder mounted twice.

    None of a file with several names: to replace one leaves the others.
    """
    try:
        status = path.stat()
    except OSError:
        return None
    return (status.st_dev, status.st_ino) if status.st_nlink == 1 else None


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


def _pictures(source: Path, output: Path) -> Iterator[tuple[Path, str]]:
    """Each picture of a file or folder but those in the output folder, and why it cannot be read, if it is a folder."""
    if not source.is_dir():
        yield source, ""
        return
    inside = _resolve(output)
    within = _resolve(source) in inside.parents
    for path, problem in walk(source):
        if path.suffix.lower() not in READ_EXTENSIONS and not problem:
            continue
        if not (within and _resolve(path).is_relative_to(inside)):
            yield path, problem


def walk(folder: Path) -> Iterator[tuple[Path, str]]:
    """The files of a folder and its subfolders, sorted, and what cannot be read of them, with the reason.

    Links to folders are not followed: they can lead round in a circle. Names that begin with a dot are left out: macOS
    puts ._a.jpg beside a.jpg, and file managers keep .thumbnails.
    """
    found: list[tuple[Path, str]] = []

    def report(error: OSError) -> None:
        found.append((Path(error.filename), f"it cannot be read: {error.strerror}"))

    for where, folders, names in os.walk(folder, onerror=report):
        folders[:] = [name for name in folders if not name.startswith(".")]
        paths = (Path(where, name) for name in names if not name.startswith("."))
        for path in paths:
            try:
                if stat.S_ISREG(path.stat().st_mode):
                    found.append((path, ""))
            except OSError as error:  # in a folder that can be listed only, or a link to what is not there
                if path.suffix.lower() in READ_EXTENSIONS:
                    report(error)
    yield from sorted(found)


def check_outputs(jobs: list[Job], originals: set[Path]) -> None:
    """Raise ValueError if two jobs have the same output, or an output is one of the original files."""
    files = {_file_id(path) for path in originals} - {None}
    taken: dict[Path, Path | None] = {}
    for job in jobs:
        assert job.target
        for path in (job.target, *job.alternatives):
            resolved = _resolve(path)
            if resolved in originals or _file_id(path) in files:
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
        OutputExists: The file exists.
        ValueError: The file's format cannot hold the picture, or its name is too long.
        OSError: It is a folder that cannot be read.
    """
    if job.problem:
        raise OSError(job.problem)
    if job.target:
        _check_length(job.target)
        if os.path.lexists(job.target) and not overwrite:
            raise OutputExists(f"{job.target} exists; --overwrite replaces it")
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
    is_windows = os.name == "nt"
    length = len(path.name.encode("utf-16-le", "surrogatepass")) // 2 if is_windows else len(os.fsencode(path.name))
    if length > MAX_NAME:
        units = "characters" if is_windows else "bytes"
        raise ValueError(f"the name {path.name[:20]}... is too long: {length} {units}, of {MAX_NAME} at most")


def write_result(frames: list[Frame], path: Path, to_stream: bool, overwrite: bool = True) -> str:
    """Write a result, to standard output in the format of ``path`` if ``to_stream``; returns what was written.

    Raises:
        OutputExists: There is such a file by now, and it is not to be overwritten.
        OSError: It cannot be written.
    """
    where = STREAM if to_stream else str(path)
    try:
        if not to_stream:
            write_frames(frames, path, overwrite=overwrite)
            return where
        with tempfile.TemporaryDirectory() as folder:
            write_frames(frames, Path(folder) / path.name)
            sys.stdout.buffer.write((Path(folder) / path.name).read_bytes())
            sys.stdout.buffer.flush()
    except FileExistsError as error:
        raise OutputExists(f"{path} exists; --overwrite replaces it") from error
    except OSError as error:  # numpy, which writes TIFF, does not say that a disk is full
        raise OSError(f"{where} cannot be written ({error.strerror or 'is the disk full?'})") from error
    return where


def _choose_target(
    target: Path, frames: list[Frame], alternatives: tuple[Path, ...], overwrite: bool
) -> tuple[Path, str]:
    """The file to write, an alternative where the target cannot hold the picture, and what to say about that."""
    refused: ValueError | None = None
    for path in (target, *alternatives):
        try:
            check_format(path, frames)
        except ValueError as error:
            refused = refused or error
            continue
        if refused is None:
            return path, ""
        if path.exists() and not overwrite:
            raise OutputExists(f"{path} exists; --overwrite replaces it") from refused
        reason = f"{refused}; " if target.suffix.lower() in EXTENSIONS else ""
        return path, f"{target.name}: {reason}written as {path}"
    assert refused
    raise refused


def _alternatives(target: Path, keep_ending: bool = False) -> tuple[Path, ...]:
    """The same name as PNG and as TIFF; behind its ending ("a.gif.png") where another picture has the name "a"."""
    stem = target.name if keep_ending else _stem(target)
    return tuple(other for end in (".png", ".tif") if (other := target.with_name(stem + end)) != target)


def _stem(target: Path) -> str:
    """The name without the ending of a picture: "v1.2" has none."""
    return target.stem if target.suffix.lower() in READ_EXTENSIONS else target.name

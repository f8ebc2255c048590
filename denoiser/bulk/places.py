"""Where pictures are and go: a folder of this machine, or of any store that pyarrow or fsspec knows."""

import contextlib
import os
import shutil
import time
import uuid
from pathlib import Path
from typing import IO, Any, cast

from pyarrow import fs

PARTIAL = ".partial-"
"""How the names of files begin that are being written, as those of :func:`denoiser.images.codecs.write_frames` do."""
ABANDONED = 3 * 3600
"""Seconds after which nobody goes on with such a file."""
_WHOLE = ("s3", "gcs", "abfs", "hf")
"""Stores in which a file appears once all of it is there."""


class Place:
    """A folder, or a single file and the folder around it.

    Args:
        address: A path, or an address: s3://, gs://, hdfs:// and hf://, or another that an fsspec package serves.

    Attributes:
        address: As given; of a path, the whole of it: workers have other current folders.
        root: The folder, in the words of its file system.
        only: The name of the single file; None for a folder.
        exists: Whether there was such a file or folder.

    Raises:
        ValueError: There is no such kind of address here; the message says what to install. Or it is empty.
        OSError: Its store cannot be reached.
    """

    def __init__(self, address: str):
        if not address:
            raise ValueError("the name of an input or output is empty: . is the current folder")
        self.root: str
        self._files, self.root = _open(address)
        self.address: str = address if "://" in address else self.root
        self.is_local: bool = isinstance(self._files, fs.LocalFileSystem)
        self.only: str | None = None
        try:
            kind = self._files.get_file_info(self.root).type
        except Exception as error:
            if type(error).__module__.startswith("http"):  # of httpx or httpx2, by the version of huggingface_hub
                raise OSError(f"{address} cannot be reached: check the network") from error
            raise
        self.exists: bool = kind != fs.FileType.NotFound
        if kind == fs.FileType.File:
            self.root, _, self.only = self.root.rpartition("/")
            self.root = self.root or "/" * self.is_local  # "" would be the current folder

    def names(self) -> list[str]:
        """The files, relative to the folder, sorted; [] where there is no such folder.

        Raises:
            OSError: A folder in it cannot be read.
        """
        if self.only:
            return [self.only]
        if self.is_local:  # pyarrow follows links to folders, even in circles, and takes names in UTF-8 only
            root = Path(self.root)
            files = (Path(at, name) for at, _, names in os.walk(root, onerror=_refuse) for name in names)
            return sorted(path.relative_to(root).as_posix() for path in files if path.is_file())
        found = self._files.get_file_info(fs.FileSelector(self.root, allow_not_found=True, recursive=True))
        start = len(self.root.rstrip("/")) + 1
        return sorted(info.path[start:] for info in found if info.type == fs.FileType.File)

    def contains(self, other: "Place") -> str | None:
        """The name of the folder ``other`` in this one: "" if they are the same, None if it is not in it."""
        if self.is_local and other.is_local:
            inner, outer = Path(other.root).resolve(), Path(self.root).resolve()
            if inner == outer:
                return ""
            return inner.relative_to(outer).as_posix() if inner.is_relative_to(outer) else None
        if self._files != other._files or not f"{other.root}/".startswith(f"{self.root}/"):
            return None
        return other.root[len(self.root) + 1 :]

    def path(self, name: str) -> Path:
        """A file of a place on this machine."""
        return Path(self.root) / name

    def open(self, name: str) -> IO[bytes]:
        """A file to read from."""
        return cast("IO[bytes]", self._files.open_input_file(f"{self.root}/{name}"))

    def fetch(self, name: str, folder: Path) -> Path:
        """A file as one of this machine: a copy in ``folder``, or itself if it is on this machine."""
        if self.is_local:
            return self.path(name)
        copy = folder / Path(name).name
        with self.open(name) as source, open(copy, "wb") as target:
            shutil.copyfileobj(source, target, 2**20)
        return copy

    def store(self, path: Path, name: str) -> None:
        """Write a file whole: under a temporary name first where the store would show a part of it.

        Raises:
            OSError: It cannot be written.
        """
        target = f"{self.root}/{name}"
        folder, _, last = target.rpartition("/")
        whole = _store_type(self._files) in _WHOLE
        if not whole:
            self._files.create_dir(folder, recursive=True)
        written = target if whole else f"{folder}/{PARTIAL}{uuid.uuid4().hex}-{last}"
        with open(path, "rb") as source, self._files.open_output_stream(written) as stream:
            shutil.copyfileobj(source, cast("IO[bytes]", stream), 2**20)
        if not whole:
            self._files.move(written, target)

    def delete_partial(self, names: list[str]) -> None:
        """Delete what runs that were killed have left of ``names``; what is newer another run may be writing."""
        for name in names:
            if name.rpartition("/")[2].startswith(PARTIAL):
                with contextlib.suppress(FileNotFoundError):  # by another run
                    if self._age(name) > ABANDONED:
                        self.path(name).unlink() if self.is_local else self._files.delete_file(f"{self.root}/{name}")

    def _age(self, name: str) -> float:
        """Seconds since a file was written to; 0 where its store does not say."""
        if self.is_local:
            return time.time() - self.path(name).stat().st_mtime
        written = self._files.get_file_info(f"{self.root}/{name}").mtime_ns
        return 0.0 if written is None else time.time() - written / 1e9


def _refuse(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError):
        raise OSError(f"{error.filename} cannot be read: {error.strerror}") from error


def _open(address: str) -> tuple[fs.FileSystem, str]:
    scheme, separator, _ = address.partition("://")
    if not separator:
        return fs.LocalFileSystem(), os.path.abspath(os.path.expanduser(address)).replace(os.sep, "/")
    if scheme in ("file", "s3", "gs", "gcs", "hdfs", "viewfs", "abfs", "abfss"):
        files, root = fs.FileSystem.from_uri(address)
        return files, root.rstrip("/")
    import fsspec

    try:
        other, root = fsspec.url_to_fs(address)
    except (ImportError, ValueError) as error:
        raise ValueError(f"{address} cannot be opened: {error}") from error
    return fs.PyFileSystem(fs.FSSpecHandler(other)), root.rstrip("/")


def _store_type(files: fs.FileSystem) -> str:
    if isinstance(files, fs.PyFileSystem):
        protocol: Any = cast(Any, files.handler).fs.protocol
        return protocol if isinstance(protocol, str) else protocol[0]
    return files.type_name

"""A run's files on disk, written atomically: a kill leaves the old file or the new one, never a part of one."""

import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import filelock
import safetensors.torch
import torch

from .config import ConfigError

STATE_FILE = "state.pt"
STATE_VERSION = 2
"""Of what the state holds; a change to the optimizer's part leaves earlier states unused."""


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """``write`` to a name beside ``path``, then rename onto it."""
    temporary = path.with_name(f".partial-{path.name}")
    try:
        write(temporary)
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())  # a power cut must not leave the new name without its bytes
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically."""
    write_atomically(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def read_json(path: Path):
    """A JSON file of a run.

    Raises:
        ValueError: It is damaged; the message names it and says what to do.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is empty or damaged: delete it and make it again ({error})") from error


def save_checkpoint(model, folder: Path, dtype: str = "float32") -> None:
    """Write config.json and model.safetensors, each atomically; ``dtype`` is what the weights are rounded to.

    A kill between the two is harmless: the config stays the same during a run.
    """
    staging = folder.with_name(f".partial-{folder.name}")
    try:
        model.save_pretrained(staging)
        if dtype != "float32":
            tensors = safetensors.torch.load_file(staging / "model.safetensors")
            rounded = {name: tensor.to(getattr(torch, dtype)) for name, tensor in tensors.items()}
            safetensors.torch.save_file(rounded, staging / "model.safetensors", {"format": "pt"})
        shutil.copymode(staging / "config.json", staging / "model.safetensors")  # made for the owner alone
        folder.mkdir(exist_ok=True)
        for name in ("config.json", "model.safetensors"):
            os.replace(staging / name, folder / name)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def save_state(run: Path, **state) -> None:
    """All that a run needs to go on."""
    write_atomically(run / STATE_FILE, lambda path: torch.save(state | {"version": STATE_VERSION}, path))


def load_state(run: Path) -> dict | None:
    """What :func:`save_state` saved last, or None.

    Raises:
        ConfigError: The file is damaged, or of another version.
    """
    path = run / STATE_FILE
    if not path.exists():
        return None
    way_on = (
        "so the run cannot go on. Delete it to begin anew, or start another --output "
        f"with --init {run / 'checkpoint'}, which keeps the weights."
    )
    try:
        # weights_only: tensors and plain values; nothing in the file is executed.
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch has many for a damaged file
        raise ConfigError(f"{path} is empty or damaged, {way_on}") from error
    if state.get("version") != STATE_VERSION:
        raise ConfigError(f"{path} was written by another version of the trainer, {way_on}")
    return state


def lock_run(run: Path) -> filelock.BaseFileLock:
    """Hold a run's folder against other processes, until this one ends or releases it.

    Raises:
        ConfigError: Another process trains there.
    """
    lock = filelock.FileLock(run / ".lock")
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout as error:
        raise ConfigError(
            f"{run} is in use: another process trains there. Wait for it, or choose another --output"
        ) from error
    return lock


def escape_unprintable() -> None:
    """Let the console show what it cannot encode (a name, a sigma) as an escape, instead of ending the program."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")

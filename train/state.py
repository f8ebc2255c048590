"""A run's state on disk: written beside the old one and renamed, so that a kill leaves the old or the new, whole."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import safetensors.torch
import torch

STATE_FILE = "state.pt"


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """``write`` to a name beside ``path``, then rename onto it."""
    temporary = path.with_name(f".partial-{path.name}")
    write(temporary)
    os.replace(temporary, path)


def write_text(path: Path, text: str) -> None:
    """A text file, the old or the new, whole at any moment."""
    write_atomically(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def save_checkpoint(model, folder: Path, storage: str = "float32") -> None:
    """config.json and model.safetensors, each whole at any moment; ``storage`` is what the weights are rounded to.

    The weights' names and shapes follow from the config, which stays the same for a run: an old one beside a new one
    is a whole checkpoint all the same.
    """
    staging = folder.with_name(f".partial-{folder.name}")
    model.save_pretrained(staging)
    if storage != "float32":
        tensors = safetensors.torch.load_file(staging / "model.safetensors")
        rounded = {name: tensor.to(getattr(torch, storage)) for name, tensor in tensors.items()}
        safetensors.torch.save_file(rounded, staging / "model.safetensors", {"format": "pt"})
    shutil.copymode(staging / "config.json", staging / "model.safetensors")  # safetensors writes for the owner alone
    folder.mkdir(exist_ok=True)
    for name in ("config.json", "model.safetensors"):
        os.replace(staging / name, folder / name)
    for left in staging.iterdir():
        left.unlink()
    staging.rmdir()


def save_state(run: Path, **state) -> None:
    """All that a run needs to go on."""
    write_atomically(run / STATE_FILE, lambda path: torch.save(state, path))


def load_state(run: Path) -> dict | None:
    """What :func:`save_state` saved last, or None."""
    path = run / STATE_FILE
    # weights_only: tensors and plain values; nothing in the file is executed.
    return torch.load(path, map_location="cpu", weights_only=True) if path.exists() else None

"""Options of benchmarks; results of a long one, kept in a file as they come, so that the same command goes on."""

import argparse
import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any


def positive(text: str) -> int:
    """An option that counts something: a whole number from 1, for argparse."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"it must be at least 1, got {number}")
    return number


def read_results(path: Path | None) -> Iterator[tuple[str, Any]]:
    """What earlier runs have kept: keys and values, the newest last; without a line that was cut off."""
    for line in path.read_text(encoding="utf-8").splitlines() if path and path.exists() else []:
        with contextlib.suppress(ValueError):
            key, value = json.loads(line)
            yield key, value


def keep_result(path: Path | None, key: str, value: Any) -> None:
    """Add a result to the file, a line of JSON; None keeps nothing."""
    if path:
        apart = "\n" if path.exists() else ""  # before it: what follows a line that was cut off stays whole
        with path.open("a", encoding="utf-8") as file:
            file.write(apart + json.dumps([key, value]))

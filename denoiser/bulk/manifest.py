"""The record of a bulk run, beside its results: a line of JSON for each picture or shard."""

import contextlib
import json
import tempfile
import time
from pathlib import Path
from typing import Any

from .places import Place

FILE = "denoise-manifest.jsonl"
SAVE_SECONDS = 30.0


class Manifest:
    """What became of each input; what an earlier run wrote stays until the input is done again.

    Args:
        output: Where it is written.
        names: The files that are there.

    Raises:
        ValueError: One that is there is damaged.
    """

    def __init__(self, output: Place, names: list[str]):
        self._output = output
        self.entries: dict[str, dict[str, Any]] = {}
        self._saved = time.monotonic()
        if FILE in names:
            try:
                with output.open(FILE) as file:
                    lines = [json.loads(line) for line in file.read().decode().split("\n") if line]
                self.entries = {line["input"]: line for line in lines}
            except (ValueError, KeyError, TypeError) as error:
                raise ValueError(f"{FILE} is damaged: delete it, results that are there stay ({error})") from error

    def add(self, entry: dict[str, Any]) -> None:
        """Record what became of an input; written now and then, and where that fails later."""
        self.entries[entry["input"]] = entry
        if time.monotonic() - self._saved > SAVE_SECONDS:
            self._saved = time.monotonic()
            with contextlib.suppress(OSError):
                self.save()

    def save(self) -> None:
        """Write it whole.

        Raises:
            OSError: It cannot be written.
        """
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / FILE
            lines = [json.dumps(self.entries[name]) for name in sorted(self.entries)]
            path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
            self._output.store(path, FILE)
        self._saved = time.monotonic()

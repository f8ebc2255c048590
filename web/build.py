"""Build the page that denoises in the visitor's browser: its files, the runtime and the checkpoints in one folder.

    python web/build.py site
    python web/build.py site color-small gray-base photo runs/mine/checkpoint

It needs the extra [export] and npm (of Node.js), which fetches the runtime, onnxruntime-web, at the version below; its
package is used only if it has the hash below. Any web server serves the folder; README.md in it is for a static Space.
"""

import argparse
import base64
import hashlib
import json
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from denoiser.analysis import clipping, weak_noise
from denoiser.errors import DenoiserError
from denoiser.export import export_onnx
from denoiser.export.onnx_graph import graph_name
from denoiser.hub.checkpoints import Checkpoint, find_checkpoint
from denoiser.hub.facts import facts_of

VERSION = "1.30.0"
INTEGRITY = "sha512-q0y+JrrtukXSzsBWEMccVfqX25LRmosXHF+CaRJmg8pZClzcV7svNc4rKY3jL02Vb7QmRMDs1SigqR4CXAfKYQ=="
RUNTIME = (
    "ort.wasm.min.mjs",
    "ort-wasm-simd-threaded.mjs",
    "ort-wasm-simd-threaded.wasm",
    "ort.webgpu.min.mjs",
    "ort-wasm-simd-threaded.asyncify.mjs",
    "ort-wasm-simd-threaded.asyncify.wasm",
)
SOURCES = ("*.html", "*.css", "*.js", "README.md")
DEVIATIONS = 501
"""Entries of the table of remaining deviations, as worker.js reads it."""
HERE = Path(__file__).parent


def fetch_runtime(target: Path) -> None:
    """Put the runtime's files into a folder.

    Raises:
        RuntimeError: npm is missing or fails, or the package is not the one that this version was tested with.
    """
    stamp = target / "integrity.txt"
    if stamp.exists() and stamp.read_text() == INTEGRITY:
        return
    if not (npm := shutil.which("npm")):
        raise RuntimeError("npm is missing, which fetches onnxruntime-web: install Node.js")
    with tempfile.TemporaryDirectory() as folder:
        command = [npm, "pack", f"onnxruntime-web@{VERSION}", "--silent", "--pack-destination", folder]
        done = subprocess.run(command, capture_output=True, text=True, cwd=folder)
        archives = list(Path(folder).glob("*.tgz"))
        if done.returncode or not archives:
            raise RuntimeError(f"npm did not fetch onnxruntime-web {VERSION}: {done.stderr.strip()[-300:]}")
        digest = hashlib.sha512(archives[0].read_bytes()).digest()
        if "sha512-" + base64.b64encode(digest).decode() != INTEGRITY:
            raise RuntimeError(f"the package of onnxruntime-web {VERSION} has another hash than expected: not used")
        target.mkdir(parents=True, exist_ok=True)
        with tarfile.open(archives[0]) as archive:
            for name in RUNTIME:
                member = archive.extractfile(f"package/dist/{name}")
                assert member
                (target / name).write_bytes(member.read())
    stamp.write_text(INTEGRITY)  # last: what was interrupted before is written again


def export_model(found: Checkpoint, target: Path) -> dict[str, Any]:
    """Export a checkpoint into a folder; returns what the page has to know of it."""
    facts = facts_of(found)
    label = graph_name(found)
    file = f"{label.replace('/', '--')}.onnx"
    export_onnx(found, target / file)
    content = (target / file).read_bytes()
    return {
        "name": label,
        "file": file,
        "bytes": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
        "channels": facts.channels,
        "blind": facts.blind,
        "license": facts.license,
    }


def build(target: Path, names: list[str]) -> None:
    """Write the whole page into a folder.

    Raises:
        RuntimeError: Two checkpoints have the same name, or see :func:`fetch_runtime`.
    """
    checkpoints = [find_checkpoint(name) for name in names]
    labels = [graph_name(found) for found in checkpoints]
    if twice := [label for label in labels if labels.count(label) > 1]:
        raise RuntimeError(f"{len(twice)} of the checkpoints are called {twice[0]}: rename the folder of one")
    fetch_runtime(target / "ort")
    shutil.rmtree(target / "models", ignore_errors=True)  # of a build before, for other checkpoints
    (target / "models").mkdir()
    models = [export_model(found, target / "models") for found in checkpoints]
    (target / "models" / "models.json").write_text(json.dumps(models, indent=1))
    # What correct.js and estimate.js look up, as the library does.
    tables = [weak_noise.SIGNS.ravel(), clipping._SHIFT.numpy(), clipping._SHARE.numpy(), clipping._SPREAD.numpy()]
    tables.append(clipping.remaining_deviation(np.linspace(0, 0.5, DEVIATIONS)))
    (target / "tables.bin").write_bytes(np.concatenate(tables).astype("<f4").tobytes())
    for pattern in SOURCES:
        for path in HERE.glob(pattern):
            shutil.copyfile(path, target / path.name)


def main() -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python web/build.py", description="Build the page for the browser.")
    parser.add_argument("folder", type=Path, help="what to write")
    parser.add_argument("checkpoints", nargs="*", default=["color-small", "photo"], help="default: color-small photo")
    options = parser.parse_args()
    try:
        build(options.folder, options.checkpoints or ["color-small", "photo"])
    except (DenoiserError, RuntimeError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"wrote {options.folder}: python -m http.server --directory {options.folder}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

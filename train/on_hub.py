# /// script
# requires-python = ">=3.11"
# dependencies = [
#     "accelerate>=1.0",
#     "filelock>=3.12",
#     "huggingface_hub>=1.16,<3",
#     "imagecodecs>=2025.3.30",
#     "jinja2>=3",
#     "matplotlib>=3.8",
#     "numpy>=1.26",
#     "pillow>=11.3",
#     "pyyaml>=6",
#     "pywavelets>=1.6",
#     "safetensors>=0.4.3",
#     "scikit-image>=0.24",
#     "scipy>=1.11",
#     "tifffile>=2025.3.30",
#     "torch>=2.5",
#     "tqdm>=4.60",
#     "trackio",
# ]
#
# [tool.hf-jobs]
# flavor = "a10g-small"
# timeout = "6h"
# secrets = ["HF_TOKEN"]
# ///
"""Train on a rented GPU of the Hub, and push the checkpoint.

    hf jobs uv run train/on_hub.py --source OWNER/denoising-autoencoder --config train/configs/color-base.yaml \\
        --data hf://datasets/user/photographs --push-to-hub user/mine --tracker trackio:user/dashboard

The machine is a bare one: this script fetches the code of the trainer from GitHub (``--source``: ``OWNER/NAME`` or
``OWNER/NAME@REVISION``, or the address of a .tar.gz), and starts it. Every other option is passed on to
``python -m train``. A data set that is streamed (``data.window``) needs one package more:
``hf jobs uv run --with datasets train/on_hub.py ...``. The run's folder is on the machine's disk and is lost with it;
``--push-to-hub`` keeps what counts.
"""

import argparse
import subprocess
import sys
import tarfile
import tempfile
import urllib.request
from pathlib import Path

GITHUB = "https://github.com/{name}/archive/{revision}.tar.gz"


def archive_address(source: str) -> str:
    """The address of a repository's archive; an address stays as it is."""
    if "://" in source:
        return source
    name, _, revision = source.partition("@")
    return GITHUB.format(name=name, revision=revision or "HEAD")


def fetch_code(source: str, folder: Path) -> Path:
    """The root of the code, unpacked into ``folder``.

    Raises:
        OSError: It cannot be fetched.
        ValueError: The archive does not hold the trainer.
    """
    archive = folder / "code.tar.gz"
    with urllib.request.urlopen(archive_address(source)) as answer:
        archive.write_bytes(answer.read())
    with tarfile.open(archive) as packed:
        packed.extractall(folder / "code", filter="data")
    for root in (folder / "code").iterdir():
        if (root / "train" / "__main__.py").exists():
            return root
    raise ValueError(f"{source} does not hold the trainer (train/__main__.py)")


def parse_arguments(arguments: list[str] | None = None) -> tuple[argparse.Namespace, list[str]]:
    """The options of this script, and those of ``python -m train``."""
    parser = argparse.ArgumentParser(description="Train on a rented GPU; other options go to python -m train.")
    parser.add_argument("--source", required=True, help="GitHub repository OWNER/NAME[@REVISION], or a .tar.gz")
    parser.add_argument("--push-to-hub", required=True, metavar="user/name", help="where the checkpoint goes")
    parser.add_argument("--output", help="folder of the run; by default a temporary one")
    return parser.parse_known_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    """Fetch the code and train; returns the exit status of ``python -m train``, 2 if the code cannot be had."""
    options, passed_on = parse_arguments(arguments)
    with tempfile.TemporaryDirectory() as folder:
        try:
            root = fetch_code(options.source, Path(folder))
        except (OSError, ValueError, tarfile.TarError) as error:
            print(f"error: the code cannot be had from {options.source}: {error}", file=sys.stderr)
            return 2
        output = options.output or str(Path(folder) / "run")
        command = [sys.executable, "-m", "train", *passed_on, "--push-to-hub", options.push_to_hub, "--output", output]
        return subprocess.run(command, cwd=root).returncode


if __name__ == "__main__":
    sys.exit(main())

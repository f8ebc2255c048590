"""The command ``denoise export``: a checkpoint as an ONNX file."""

import argparse
import os
import sys
import tempfile
from pathlib import Path

from ..errors import DenoiserError
from ..hub.checkpoints import find_checkpoint
from .onnx_graph import MAP, export_onnx

NAME = "export"
"""The first word of the command line that calls it; a picture or a folder of this name is written ./export."""


def level_or_map(text: str) -> float | str:
    """The value of ``--sigma``."""
    try:
        return text if text == MAP else float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is neither a level, 0..255, nor '{MAP}'") from None


def main(arguments: list[str]) -> int:
    """Run the command with what follows its name; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog=f"denoise {NAME}",
        description="Write a checkpoint as an ONNX file for any size of picture, checked against the network.",
        epilog=f"A picture or a folder that is called {NAME} is denoised by denoise ./{NAME} -o ...",
    )
    add = parser.add_argument
    add("checkpoint", metavar="CHECKPOINT", help="folder, bundled name or user/repo on the Hub")
    add("-o", "--output", required=True, type=Path, metavar="FILE.onnx", help="what to write")
    add(
        "--sigma",
        type=level_or_map,
        metavar=f"LEVEL|{MAP}",
        help="a fixed noise level, 0..255, for programs that give the graph a picture alone; "
        f"or '{MAP}': an input that is always (B, 1, H, W), for programs that want that stated",
    )
    add("--int8", action="store_true", help="the coarse levels in 8-bit integers: faster, hardly any loss")
    add("--revision", help="branch, tag or commit of a checkpoint on the Hub")
    add("--overwrite", action="store_true", help="replace an existing file")
    options = parser.parse_args(arguments)
    if options.output.suffix.lower() != ".onnx":
        parser.error(
            f"the output must end in .onnx, got {options.output}. To denoise a picture or folder called {NAME}: "
            f"denoise ./{NAME} -o {options.output}"
        )
    if options.output.is_dir():
        parser.error(f"{options.output} is a folder: give the name of a file")
    if os.path.lexists(options.output) and not options.overwrite:
        print(f"error: {options.output} exists; --overwrite replaces it", file=sys.stderr)
        return 2
    try:
        found = find_checkpoint(options.checkpoint, options.revision)
        options.output.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=options.output.parent):  # said now, not after the export
            pass
        difference = export_onnx(found, options.output, options.sigma, options.int8)
    except DenoiserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"error: {options.output} cannot be written: {error.strerror}", file=sys.stderr)
        return 2
    of = "root mean square, on photographs" if options.int8 else "at most, on pictures of 20 sizes"
    print(f"wrote {options.output}: {difference:.1g} from the network where white is 1 ({of})")
    return 0

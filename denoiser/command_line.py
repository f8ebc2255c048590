"""The options of the command line."""

import argparse

from .hub.checkpoints import DEFAULT_CHECKPOINT, PURPOSES, bundled_checkpoints
from .techniques import TECHNIQUES

FORMATS = {"png": ".png", "tiff": ".tif", "jpeg": ".jpg", "webp": ".webp", "bmp": ".bmp"}
"""What ``--format`` takes, and the extension of such files."""

_EPILOG = """\
checkpoints that come with it:
{checkpoints}

classical methods (--method):
{methods}

Several pictures, folders, and a new folder written with a trailing slash (-o new/) are done into a folder.
Folders are searched with all that is in them; hidden folders and links to others are left out.
"-" is standard input or output: denoise - -o - < noisy.png > clean.png
denoise export CHECKPOINT -o FILE.onnx writes a checkpoint for ONNX Runtime and others: see denoise export --help

exit status: 0 all done, 1 some pictures failed (they are listed), 2 nothing was tried (the reason is said),
130 interrupted
"""


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    """The options; ends the program where there is no such option."""
    checkpoints = [f"  {name:17} {PURPOSES.get(name, '')}" for name in bundled_checkpoints()]
    methods = [f"  {name:17} {item.label}, {item.family}" for name, item in TECHNIQUES.items()]
    parser = argparse.ArgumentParser(
        prog="denoise",
        description="Denoise pictures.",
        epilog=_EPILOG.format(checkpoints="\n".join(checkpoints), methods="\n".join(methods)),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("inputs", nargs="+", metavar="PICTURE", help='picture files, folders of them, or "-"')
    add = parser.add_argument
    add("-o", "--output", required=True, help='a file for one picture, a folder for several, or "-"')
    add_common_options(parser)
    add("--method", choices=list(TECHNIQUES), help="a classical method instead of a checkpoint")
    add(
        "--adapt",
        nargs="?",
        type=float,
        const=60.0,
        metavar="SECONDS",
        help="fine-tune the checkpoint on each picture first, without a clean one (default 60 seconds)",
    )
    add("--tune", action="store_true", help="choose level and strength for each picture by Stein's estimate (SURE)")
    add("--device", default="auto", help="auto, cpu, cuda or mps (default auto)")
    add("--page", type=int, help="denoise this page or frame only, counted from 1 (default: all)")
    add("--overwrite", action="store_true", help="replace existing outputs (never an input)")
    add("--skip-existing", action="store_true", help="leave out pictures whose output exists: go on where it stopped")
    add("--json", action="store_true", help="a line of JSON for each picture on standard output, for programs")
    return parser.parse_args(arguments)


def add_common_options(parser: argparse.ArgumentParser) -> None:
    """The options that ``python -m denoiser.bulk`` has, too; see :func:`check_ranges`."""
    add = parser.add_argument
    add("--sigma", type=float, help="noise standard deviation, 0..255 (default: estimated for each picture)")
    add("--strength", type=float, default=1.0, help="0 keeps the picture, 1 denoises fully (default 1)")
    add(
        "--checkpoint",
        default=DEFAULT_CHECKPOINT,
        help=f"folder, bundled name or user/repo on the Hub (default {DEFAULT_CHECKPOINT})",
    )
    add("--revision", help="branch, tag or commit of a checkpoint on the Hub")
    add("--self-ensemble", action="store_true", help="slightly better, eight times the time")
    add("--format", choices=list(FORMATS), help="of the results (default: as their names say, or as the inputs)")


def check_ranges(options: argparse.Namespace) -> None:
    """Raise ValueError if the level or the strength is out of range."""
    for name, value, high in (("sigma", options.sigma, 255), ("strength", options.strength, 1)):
        if value is not None and not 0 <= value <= high:
            raise ValueError(f"--{name} must be from 0 to {high}, got {value:g}")


def check_options(options: argparse.Namespace) -> None:
    """Raise ValueError if values are out of range or exclude each other."""
    check_ranges(options)
    defaults = {"tune": False, "adapt": None, "strength": 1, "device": "auto", "revision": None, "self_ensemble": False}
    defaults["checkpoint"] = DEFAULT_CHECKPOINT
    for name, default in defaults.items():
        if options.method and getattr(options, name) != default:
            raise ValueError(f"--{name.replace('_', '-')} is for checkpoints: leave --method out")
    if options.tune and options.strength != 1:
        raise ValueError("--tune is for checkpoints, and chooses the strength: leave --strength out")
    if options.adapt is not None and not 0 < options.adapt < float("inf"):
        raise ValueError("--adapt is for checkpoints, and takes a positive number of seconds")
    if options.page is not None and options.page < 1:
        raise ValueError("--page counts from 1")
    if options.overwrite and options.skip_existing:
        raise ValueError("--overwrite and --skip-existing exclude each other")
    if options.output == "-" and options.json:
        raise ValueError("--json and the picture cannot both go to standard output")

"""Denoise pictures from the command line: ``python -m denoiser noisy.png -o clean.png``."""

import argparse
import os
import sys
from pathlib import Path

from PIL import Image, UnidentifiedImageError
from tqdm import tqdm

from ._hub import DEFAULT_CHECKPOINT
from .errors import DenoiserError
from .pipeline import Denoiser

EXTENSIONS = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".webp", ".bmp")


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m denoiser",
        description="Denoise pictures.",
        epilog="Exit status: 0 all done, 1 some pictures failed (they are listed), 2 nothing could be done.",
    )
    parser.add_argument("inputs", nargs="+", type=Path, metavar="PICTURE", help="picture files, or folders of them")
    parser.add_argument(
        "-o",
        "--output",
        required=True,
        type=Path,
        help="a file for one picture; a folder for several (existing, or written with a trailing slash)",
    )
    parser.add_argument("--sigma", type=float, help="noise level, 0..255; estimated if left out")
    parser.add_argument("--strength", type=float, default=1.0, help="0..1 (default 1)")
    parser.add_argument("--checkpoint", default=DEFAULT_CHECKPOINT, help="folder, bundled name or user/repo")
    parser.add_argument("--revision", help="branch, tag or commit of a Hub checkpoint")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--overwrite", action="store_true", help="replace outputs that exist (never an input)")
    return parser.parse_args(arguments)


def plan(inputs: list[Path], output: Path, into_folder: bool) -> list[tuple[Path, Path]]:
    """Which file goes where.

    Raises:
        ValueError: Two pictures would get the same name, an output is an input, or there is nothing to do.
    """
    jobs: list[tuple[Path, Path]] = []
    for source in inputs:
        if source.is_dir():
            found = sorted(path for path in source.rglob("*") if path.suffix.lower() in EXTENSIONS)
            jobs += [(path, output / path.relative_to(source)) for path in found]
        else:
            jobs.append((source, output / source.name if into_folder else output))
    if not jobs:
        raise ValueError(f"there are no pictures ({', '.join(EXTENSIONS)}) in {', '.join(map(str, inputs))}")
    originals = {source.resolve() for source, _ in jobs}
    taken: dict[Path, Path] = {}
    for source, target in jobs:
        resolved = target.resolve()
        if resolved in originals:
            raise ValueError(f"{target} is an input: it would be overwritten. Choose another output.")
        if resolved in taken:
            raise ValueError(f"{taken[resolved]} and {source} would both become {target}; denoise them in two calls")
        taken[resolved] = source
    return jobs


def write(image: Image.Image, target: Path) -> None:
    """Save beside the target and rename, so that a half-written picture is never left behind.

    Raises:
        ValueError, OSError: The format cannot hold the picture, or the disk did not take it.
    """
    extension = target.suffix.lower()
    if extension not in EXTENSIONS:
        raise ValueError(f"cannot tell the format from {target.name}; use one of {', '.join(EXTENSIONS)}")
    if image.mode.startswith("I;16") and extension not in (".png", ".tif", ".tiff"):
        raise ValueError(f"{extension} cannot hold 16 bits; write {target.stem}.png or .tif instead")
    if image.mode == "F" and extension not in (".tif", ".tiff"):
        raise ValueError(f"{extension} cannot hold floating point; write {target.stem}.tif instead")
    if image.mode in ("LA", "RGBA") and extension in (".jpg", ".jpeg", ".bmp"):
        raise ValueError(f"{extension} cannot hold transparency; write {target.stem}.png instead")
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{target.stem}.partial{target.suffix}")
    options = {"quality": 95, "subsampling": 0} if extension in (".jpg", ".jpeg") else {}
    options |= {"lossless": True} if extension == ".webp" else {}
    options |= {key: image.info[key] for key in ("icc_profile", "exif", "dpi") if key in image.info}
    try:
        image.save(partial, **options)
        os.replace(partial, target)
    finally:
        partial.unlink(missing_ok=True)


def main(arguments: list[str] | None = None) -> int:
    """Denoise; returns the exit status."""
    options = parse_arguments(arguments)
    several = len(options.inputs) > 1 or any(path.is_dir() for path in options.inputs)
    into_folder = several or options.output.is_dir() or str(options.output).endswith(("/", os.sep))
    try:
        if into_folder and options.output.exists() and not options.output.is_dir():
            raise ValueError(f"{options.output} is a file; several pictures need a folder")
        for name, value, high in (("sigma", options.sigma, 255), ("strength", options.strength, 1)):
            if value is not None and not 0 <= value <= high:
                raise ValueError(f"--{name} must be from 0 to {high}, got {value:g}")
        jobs = plan(options.inputs, options.output, into_folder)
        denoiser = Denoiser.from_pretrained(options.checkpoint, options.revision, device=options.device)
    except (DenoiserError, ValueError, RuntimeError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2

    failures: list[str] = []
    with tqdm(jobs, unit="picture") as bar:
        for source, target in bar:
            try:
                if target.exists() and not options.overwrite:
                    raise ValueError(f"{target} exists; --overwrite replaces it")
                write(denoiser(source, options.sigma, options.strength), target)
            except (DenoiserError, ValueError, OSError, MemoryError, UnidentifiedImageError) as error:
                failures.append(f"{source}: {error}")
    if failures:
        print(f"{len(failures)} of {len(jobs)} pictures failed:", *failures, sep="\n  ", file=sys.stderr)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())

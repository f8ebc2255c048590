"""Denoise pictures from the command line: ``denoise noisy.png -o clean.png``, or ``python -m denoiser``."""

import argparse
import glob
import os
import sys
from collections.abc import Callable
from pathlib import Path

from PIL import Image
from tqdm import tqdm

from .errors import DenoiserError
from .hub.checkpoints import DEFAULT_CHECKPOINT
from .images.codecs import READ_EXTENSIONS, check_format, prepare, to_frames, write_frames
from .images.frame import Frame
from .images.picture import Picture, read_frames
from .pipeline import Denoiser
from .techniques import TECHNIQUES, apply_technique


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    """The options of the command line."""
    parser = argparse.ArgumentParser(
        prog="denoise",
        description="Denoise pictures.",
        epilog="Exit status: 0 all done, 1 some pictures failed (they are listed), 2 nothing done, 130 interrupted.",
    )
    parser.add_argument("inputs", nargs="+", type=Path, metavar="PICTURE", help="picture files, or folders of them")
    parser.add_argument(
        "-o",
        "--output",
        required=True,
        help="a file for one picture; a folder for several (existing, or written with a trailing slash)",
    )
    parser.add_argument("--sigma", type=float, help="noise standard deviation, 0..255 (default: estimated)")
    parser.add_argument("--strength", type=float, default=1.0, help="0 keeps the picture, 1 denoises fully (default 1)")
    parser.add_argument(
        "--checkpoint",
        default=DEFAULT_CHECKPOINT,
        help=f"folder, bundled name or user/repo on the Hub (default {DEFAULT_CHECKPOINT})",
    )
    techniques = ", ".join(f"{name} ({item.label}, {item.family})" for name, item in TECHNIQUES.items())
    parser.add_argument("--method", choices=list(TECHNIQUES), help=f"classical, instead of a checkpoint: {techniques}")
    parser.add_argument("--revision", help="branch, tag or commit of a checkpoint on the Hub")
    parser.add_argument("--self-ensemble", action="store_true", help="slightly better, eight times the time")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or mps (default auto)")
    parser.add_argument("--page", type=int, help="denoise this page or frame only, counted from 1 (default: all)")
    parser.add_argument("--overwrite", action="store_true", help="replace existing outputs (never an input)")
    return parser.parse_args(arguments)


def expand_patterns(inputs: list[Path]) -> list[Path]:
    """Inputs with the wildcards that the shell left alone, as on Windows, replaced by what matches them."""
    expanded = []
    for source in inputs:
        matches = [] if source.exists() else sorted(map(Path, glob.glob(str(source))))
        expanded += matches or [source]
    return expanded


def plan_outputs(inputs: list[Path], output: Path, into_folder: bool) -> list[tuple[Path, Path]]:
    """The input and output file of each picture.

    Raises:
        ValueError: Two pictures have the same output, an output is an input or has an unknown format, or there are no
            pictures.
    """
    jobs: list[tuple[Path, Path]] = []
    for source in inputs:
        if source.is_dir():
            found = sorted(path for path in source.rglob("*") if path.suffix.lower() in READ_EXTENSIONS)
            found = [path for path in found if not path.name.startswith(".")]  # macOS puts ._a.jpg beside a.jpg
            found = [path for path in found if not path.resolve().is_relative_to(output.resolve())]
            jobs += [(path, output / path.relative_to(source)) for path in found]
        else:
            jobs.append((source, output / source.name if into_folder else output))
    if not jobs:
        raise ValueError(f"there are no pictures ({', '.join(READ_EXTENSIONS)}) in {', '.join(map(str, inputs))}")
    originals = {source.resolve() for source, _ in jobs}
    taken: dict[Path, Path] = {}
    for source, target in jobs:
        if not into_folder:
            check_format(target)
        resolved = target.resolve()
        if resolved in originals:
            raise ValueError(f"{target} is an input: it would be overwritten. Choose another output.")
        if resolved in taken:
            raise ValueError(f"{taken[resolved]} and {source} would both become {target}; denoise them in two calls")
        taken[resolved] = source
    return jobs


def load_method(options: argparse.Namespace) -> Callable[[Frame], Image.Image | Picture]:
    """What denoises a picture: the technique that is asked for, or else the checkpoint.

    Raises:
        DenoiserError, ValueError: The checkpoint cannot be loaded.
    """
    if options.method:
        return lambda source: apply_technique(source, options.method, options.sigma)
    denoiser = Denoiser.from_pretrained(
        options.checkpoint, options.revision, device=options.device, self_ensemble=options.self_ensemble
    )
    return lambda source: denoiser(source, options.sigma, options.strength)  # pyright: ignore[reportReturnType]


def choose_target(frames: list[Frame], target: Path, into_folder: bool, overwrite: bool) -> Path:
    """The file to write; in a folder PNG or TIFF where the input's extension does not fit its content, which is said.

    Raises:
        ValueError: The file's format cannot hold the picture, or the other file exists.
    """
    try:
        check_format(target, frames)
        return target
    except ValueError as error:
        for other in (target.with_suffix(".png"), target.with_suffix(".tif")):
            if into_folder and other != target and _can_hold(other, frames) and (overwrite or not other.exists()):
                tqdm.write(f"{target.name}: {error}; written as {other}", file=sys.stderr)
                return other
        raise


def _can_hold(target: Path, frames: list[Frame]) -> bool:
    try:
        check_format(target, frames)
    except ValueError:
        return False
    return True


def denoise_file(
    source: Path,
    target: Path,
    denoise: Callable[[Frame], Image.Image | Picture],
    options: argparse.Namespace,
    folder: bool,
) -> None:
    """Denoise every frame of a file, and write them to one.

    Raises:
        DenoiserError, ValueError, OSError: It cannot be read, held by the format, or written.
    """
    frames = read_frames(source, page=options.page)
    target = choose_target(frames, target, folder, options.overwrite)
    prepare(target, frames)
    write_frames([to_frames(denoise(frame))[0] for frame in frames], target)


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    options = parse_arguments(arguments)
    inputs, output = expand_patterns(options.inputs), Path(options.output)
    several = len(inputs) > 1 or any(path.is_dir() for path in inputs)
    into_folder = several or output.is_dir() or options.output.endswith(("/", os.sep))
    try:
        if into_folder and output.exists() and not output.is_dir():
            raise ValueError(f"{output} is a file; several pictures need a folder")
        for name, value, high in (("sigma", options.sigma, 255), ("strength", options.strength, 1)):
            if value is not None and not 0 <= value <= high:
                raise ValueError(f"--{name} must be from 0 to {high}, got {value:g}")
        jobs = plan_outputs(inputs, output, into_folder)
        if options.method and options.strength != 1:
            raise ValueError("--strength is for checkpoints")
        denoise = load_method(options)
    except (DenoiserError, ValueError, RuntimeError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2

    failures: list[str] = []
    done = 0
    try:
        with tqdm(jobs, unit="picture") as bar:
            for source, target in bar:
                try:
                    if target.exists() and not options.overwrite:
                        raise ValueError(f"{target} exists; --overwrite replaces it")
                    denoise_file(source, target, denoise, options, into_folder)
                except (DenoiserError, ValueError, OSError) as error:
                    failures.append(f"{source}: {error}")
                except Exception as error:  # out of memory, a driver error: other pictures may succeed
                    failures.append(f"{source}: {type(error).__name__}: {error}")
                done += 1
    except KeyboardInterrupt:
        print(f"stopped after {done} of {len(jobs)} pictures", file=sys.stderr)
    if failures:
        print(f"{len(failures)} of {len(jobs)} pictures failed:", *failures, sep="\n  ", file=sys.stderr)
    return 130 if done < len(jobs) else 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())

"""Denoise many pictures on all cores and GPUs of a machine or a cluster: ``python -m denoiser.bulk INPUT OUTPUT``."""

import argparse
import contextlib
import logging
import os
import sys
import time
from collections.abc import Iterator
from typing import Any

from tqdm import tqdm

from ..command_line import FORMATS, add_common_options, check_ranges
from ..errors import DenoiserError
from ..hub.checkpoints import find_checkpoint
from ..models import load_model

_EPILOG = """\
INPUT and OUTPUT are folders, or addresses: s3://bucket/folder, gs://bucket/folder, hf://datasets/user/name/folder.
Pictures are done as `denoise` does them; Parquet shards get the pictures of one column denoised. Nothing that is
there is done again: the same command goes on where it stopped. OUTPUT/denoise-manifest.jsonl says what became of each.

exit status: 0 all done, 1 some failed, 2 nothing done, 130 interrupted
"""


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(
        prog="python -m denoiser.bulk",
        description="Denoise many pictures, on Ray.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("input", metavar="INPUT", help="a folder, a file, or an address")
    add("output", metavar="OUTPUT", help="a folder, new or of an earlier run, or an address")
    add_common_options(parser)
    add("--column", help="of the pictures in Parquet shards (default: the only one that holds any)")
    add("--overwrite", action="store_true", help="do again what is there")
    add("--address", help="of a Ray cluster (default: RAY_ADDRESS, or else this machine)")
    add("--workers", type=int, help="how many (default: one for each GPU, or else for each core)")
    add("--gpus-per-worker", type=float, default=1.0, help="several workers share a GPU, at 0.5 or less (default 1)")
    add("--device", default="auto", help="auto, cpu or cuda (default auto: GPUs, where the cluster has any)")
    options = parser.parse_args(arguments)
    options.extension = FORMATS.get(options.format)
    try:
        check_ranges(options)
    except ValueError as error:
        parser.error(str(error))
    if not options.gpus_per_worker > 0 or (options.workers is not None and options.workers < 1):
        parser.error("--workers and --gpus-per-worker must be positive")
    if options.device not in ("auto", "cpu", "cuda"):
        parser.error(f"--device must be auto, cpu or cuda, got {options.device}")
    return options


def main(arguments: list[str] | None = None) -> int:
    """The command line; returns the exit status."""
    options = parse_arguments(arguments)
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # Ray reports to its makers otherwise
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # Ray Data's own actors make Ray print errors that are none
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # it warns about the default that changes
    try:
        from .manifest import Manifest
        from .places import Place
        from .run import existing, plan, run
    except ModuleNotFoundError as error:
        print(f"error: this needs Ray Data ({error}): pip install 'denoising-autoencoder[cluster]'", file=sys.stderr)
        return 2
    try:
        found = find_checkpoint(options.checkpoint, options.revision)
        network = load_model(found.folder, label=found.name)
        source, output = Place(options.input), Place(options.output)
        if output.only:
            raise ValueError(f"{options.output} is a file; the output is a folder")
        jobs = plan(source, output, source.names(), options.extension)
        names = output.names()
        output.delete_partial(names)
        manifest = Manifest(output, names)
        manifest.save()  # what cannot be written to is said now, not for each picture
    except (DenoiserError, ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    there = {} if options.overwrite else existing(jobs, set(names), manifest.entries)
    waiting = [job for job in jobs if str(job.source) not in there]
    for name, result in there.items():
        if manifest.entries.get(name, {}).get("status") != "written":
            manifest.add({"input": name, "status": "written", "output": result})  # the run ended before it was recorded
    reports: list[dict[str, Any]] = []
    started, interrupted = time.monotonic(), False
    try:
        if waiting:
            with _on_ray(options.address):
                done = run(network, waiting, source.address, output.address, options)
                for report in tqdm(done, total=len(waiting), unit="file"):
                    reports.append(report)
                    manifest.add(report)
    except KeyboardInterrupt:
        interrupted = True
    except ConnectionError as error:
        print(f"error: {error}: is the cluster up, and its address right?", file=sys.stderr)
        return 2
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    status = summarize(reports, len(jobs), len(there), time.monotonic() - started, options, interrupted)
    try:
        manifest.save()
    except OSError as error:  # a full disk
        print(f"error: the manifest is not up to date: {error}; make room, then the same command", file=sys.stderr)
        return status or 1
    return status


@contextlib.contextmanager
def _on_ray(address: str | None) -> Iterator[None]:
    """Be connected to a cluster: to that of this process, if there is one already."""
    import ray  # pyright: ignore[reportMissingImports]

    connect = not ray.is_initialized()
    try:
        if connect:
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
        logging.getLogger("ray.data").setLevel(logging.ERROR)
        yield
    finally:
        if connect:
            ray.shutdown()


def summarize(
    reports: list[dict[str, Any]],
    total: int,
    skipped: int,
    seconds: float,
    options: argparse.Namespace,
    interrupted: bool,
) -> int:
    """Say what was done; returns the exit status."""
    failures = [
        (report["input"] + (f", row {one['row']}" if "row" in one else ""), one["reason"])
        for report in reports
        for one in ([report] if report["status"] == "failed" else report.get("failures", ()))
    ]
    written = [report for report in reports if report["status"] == "written"]
    megapixels = sum(report.get("megapixels", 0) for report in written)
    say = sys.stderr
    print(f"wrote {len(written)} files, {megapixels:.1f} megapixels, to {options.output} in {seconds:.0f} s", file=say)
    if skipped:
        print(f"{skipped} of {total} files skipped: their outputs exist", file=say)
    if interrupted:
        print(f"stopped after {len(reports)} of {total - skipped} files; the same command goes on", file=say)
    if failures:
        lines = [f"{name}: {reason}" for name, reason in failures[:20]]
        more = [f"... and {len(failures) - 20} more, in the manifest"] if len(failures) > 20 else []
        print(f"{len(failures)} pictures failed:", *lines, *more, sep="\n  ", file=say)
    return 130 if interrupted else 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())

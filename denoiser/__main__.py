"""Denoise pictures from the command line: ``denoise noisy.png -o clean.png``, or ``python -m denoiser``."""

import argparse
import contextlib
import functools
import json
import logging
import os
import signal
import sys
import threading
import warnings
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, TextIO, cast

import numpy as np
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from .adaptation import adapt
from .command_line import FORMATS, check_options, parse_arguments
from .errors import DenoiserError
from .export import command as export
from .file_jobs import STREAM, Job, OutputExists, plan_jobs, read_source, write_result
from .images.frame import Frame
from .pipeline import Denoiser
from .techniques import apply_technique
from .tuning import tune

Progress = Callable[[float], object]
Source = tuple[list[Frame], Path, str]
Method = Callable[[Frame, Progress], Frame]


def load_method(options: argparse.Namespace) -> Method:
    """What denoises a picture: the technique that is asked for, or else the checkpoint.

    Raises:
        DenoiserError, ValueError: The checkpoint cannot be loaded.
    """
    if options.method:
        apply_technique(np.zeros((32, 32), np.uint8), options.method, 25)  # now, if its package is missing
        return lambda source, progress: apply_technique(source, options.method, options.sigma)
    denoiser = Denoiser.from_pretrained(
        options.checkpoint, options.revision, device=options.device, self_ensemble=options.self_ensemble
    )

    def denoise(source: Frame, progress: Progress) -> Frame:
        used, sigma, strength = denoiser, options.sigma, options.strength
        if options.adapt:
            adapted = adapt(denoiser, source, options.adapt, sigma)
            tqdm.write(str(adapted), file=sys.stderr)
            used = adapted.denoiser
        if options.tune:
            tuned = tune(used, source, sigma)
            tqdm.write(str(tuned), file=sys.stderr)
            sigma, strength = (sigma, 1.0) if tuned.note else (tuned.sigma, tuned.strength)
        return used(source, sigma, strength, progress)

    return denoise


class LossyStream:
    """A stream for people: from where it cannot be written on its text is lost, and the work goes on."""

    def __init__(self, stream: TextIO):
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Write, or lose, a text."""
        self._try(lambda: self._stream.write(text))
        return len(text)

    def flush(self) -> None:
        """Write, or lose, what has not been."""
        self._try(self._stream.flush)

    def _try(self, step: Callable[[], object]) -> None:
        try:
            step()
        except OSError:  # whoever read it has gone, or a full disk
            os.dup2(os.open(os.devnull, os.O_WRONLY), self._stream.fileno())


class Run:
    """The jobs of one call: the next picture is read and the last one written while one is computed.

    Args:
        jobs: What to do.
        denoise: For one frame.
        options: Of the command line.
    """

    def __init__(self, jobs: list[Job], denoise: Method, options: argparse.Namespace):
        self.jobs: list[Job] = jobs
        self.denoise: Method = denoise
        self.options: argparse.Namespace = options
        self.results: list[dict[str, Any]] = []
        self.interrupted: bool = False
        self.lost: str = ""

    def run(self) -> None:
        """Do them all; what became of each is in ``results``."""
        total = len(self.jobs)
        waiting: list[Job] = []
        for job in self.jobs:
            if self.options.skip_existing and not job.problem and job.exists():
                self._report(job, "skipped", reason="its output exists")
            else:
                waiting.append(job)
        reader, writer = ThreadPoolExecutor(1), ThreadPoolExecutor(1)
        written: tuple[Job, Future[str]] | None = None
        try:
            bar = tqdm(total=total, initial=total - len(waiting), unit="picture")
            with logging_redirect_tqdm([logging.getLogger(__package__)]), bar:
                reading = self._start_reading(reader, waiting[0]) if waiting else None
                for index, job in enumerate(waiting):
                    assert reading
                    current, following = reading, waiting[index + 1 : index + 2]
                    result = self._attempt(job, lambda current=current: self._compute(current, bar))
                    # Read on only now: two large pictures at a time, not three.
                    reading = self._start_reading(reader, following[0]) if following else None
                    self._finish(written)
                    written = None
                    if result:
                        written = job, writer.submit(self._write, job, *result)
                    bar.n = total - len(waiting) + index + 1
                    bar.refresh()
                self._finish(written)
                written = None
        except KeyboardInterrupt:
            self.interrupted = True
        finally:
            reader.shutdown(wait=False, cancel_futures=True)
            writer.shutdown(wait=True)  # a file that is being written is finished, or is not there
        if written:
            self._finish(written)

    def _start_reading(self, reader: ThreadPoolExecutor, job: Job) -> Callable[[], Source]:
        """Read a picture in the background; returns what waits for it.

        Standard input is read in the waiting thread: no Ctrl-C would end another one that reads it.
        """
        return reader.submit(self._read, job).result if job.source else functools.partial(self._read, job)

    def _read(self, job: Job) -> Source:
        return read_source(job, self.options.page, FORMATS.get(self.options.format), self.options.overwrite)

    def _write(self, job: Job, frames: list[Frame], path: Path) -> str:
        return write_result(frames, path, job.target is None, self.options.overwrite)

    def _compute(self, read: Callable[[], Source], bar: "tqdm[Any]") -> tuple[list[Frame], Path]:
        (frames, path, note), start = read(), bar.n
        if note:
            tqdm.write(note, file=sys.stderr)
        results: list[Frame] = []
        for index in range(len(frames)):

            def progress(share: float, index: int = index) -> None:
                bar.n = round(start + 0.99 * (index + share) / len(frames), 2)
                bar.update(0)

            results.append(self.denoise(frames[index], progress))
        return results, path

    def _finish(self, written: tuple[Job, Future[str]] | None) -> None:
        if written is None:
            return
        job, future = written
        path = self._attempt(job, future.result)
        if path is not None:
            self._report(job, "written", path)

    def _attempt(self, job: Job, step: Callable[[], Any]) -> Any:
        """The result of a step, or None if it failed, which is reported."""
        try:
            return step()
        except (DenoiserError, ValueError, OSError) as error:
            if isinstance(error, OutputExists) and self.options.skip_existing:  # its name depends on what it holds
                self._report(job, "skipped", reason="its output exists")
            else:
                self._report(job, "failed", reason=str(error))
        except Exception as error:  # out of memory, a driver error: other pictures may succeed
            self._report(job, "failed", reason=f"{type(error).__name__}: {error}")
        return None

    def _report(self, job: Job, status: str, output: str = "", reason: str = "") -> None:
        entry = {"input": str(job.source or STREAM), "status": status}
        entry |= ({"output": output} if output else {}) | ({"reason": reason} if reason else {})
        self.results.append(entry)
        if self.options.json:
            try:
                tqdm.write(json.dumps(entry), file=sys.stdout)
            except OSError as error:  # whoever read the lines has gone, or a full disk: the pictures are still done
                if not isinstance(error, BrokenPipeError):
                    self.lost = f"the lines of --json cannot be written: {error.strerror}"
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())

    def summary(self) -> int:
        """Say what was done; returns the exit status."""
        by_status = {
            status: [entry for entry in self.results if entry["status"] == status]
            for status in ("written", "skipped", "failed")
        }
        written, skipped, failures = by_status.values()
        if written:
            where = written[0]["output"] if len(self.jobs) == 1 else f"{len(written)} pictures to {self.options.output}"
            print(f"wrote {where}" if where != STREAM else "wrote to standard output", file=sys.stderr)
        if skipped:
            print(f"{len(skipped)} of {len(self.jobs)} pictures skipped: their outputs exist", file=sys.stderr)
        if self.interrupted:
            print(f"stopped after {len(self.results)} of {len(self.jobs)} pictures", file=sys.stderr)
        if failures:
            lines = [f"{entry['input']}: {entry['reason']}" for entry in failures]
            print(f"{len(failures)} of {len(self.jobs)} pictures failed:", *lines, sep="\n  ", file=sys.stderr)
        if self.lost:
            print(f"error: {self.lost}", file=sys.stderr)
        return 130 if self.interrupted else 1 if failures or self.lost else 0


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    arguments = sys.argv[1:] if arguments is None else arguments
    has_output = sys.stdout is not None
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:  # closed, as by `2>&-`
            setattr(sys, name, open(os.devnull, mode))  # noqa: SIM115 (as long as the process)
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends as by Ctrl-C: nothing half-written
    if arguments[:1] == [export.NAME]:
        try:
            return export.main(arguments[1:])
        except KeyboardInterrupt:
            return 130
    options = parse_arguments(arguments)
    # What they say of damaged files is said by read().
    logging.getLogger("tifffile").addHandler(logging.NullHandler())
    warnings.filterwarnings("ignore", module="PIL")
    try:
        check_options(options)
        if options.output == STREAM and not has_output:
            raise ValueError("standard output is closed; give a file with -o")
        jobs = plan_jobs(options.inputs, options.output, FORMATS.get(options.format))
        denoise = load_method(options)
    except (DenoiserError, ValueError, RuntimeError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    run = Run(jobs, denoise, options)
    with contextlib.redirect_stderr(cast(TextIO, LossyStream(sys.stderr))):
        run.run()
        return run.summary()


if __name__ == "__main__":
    sys.exit(main())

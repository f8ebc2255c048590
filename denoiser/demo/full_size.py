"""The whole photo as a file: denoised tile by tile beside the page, with progress, time left and Cancel."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr
from anyio import CapacityLimiter, to_thread

from .compute_gate import CallCancelled
from .experiment_runner import ExperimentRunner
from .guard import current_call
from .model_pool import Loaded
from .result_files import ResultFiles

FILE_FORMATS = {"PNG": ".png", "JPEG": ".jpg", "TIFF": ".tif"}
"""Names of the formats, and their extensions."""
EARLIER = ", with the settings before"
"""What is said of a file for which the page has other settings by now."""
MAX_SESSIONS = 10_000
"""Of so many the newest file's settings are remembered."""
TELL_SECONDS = 0.5
"""How often the visitor is told how far it is."""


@dataclass
class Progress:
    """How far a photo is.

    Attributes:
        share: Of the tiles, 0 to 1; the last of it is the writing of the file.
        begun: When its turn came; None before that.
        cancelled: Whether nobody wants it any more, or it has ended.
        settings: Those it is computed with.
        outdated: Whether the page has others by now.
    """

    settings: object = None
    outdated: bool = False
    share: float = 0.0
    begun: float | None = None
    cancelled: bool = False

    def __call__(self, share: float) -> None:
        """Take note of what is done, or end the computation.

        Raises:
            CallCancelled: It was cancelled.
        """
        if self.cancelled:
            raise CallCancelled
        self.begun = self.begun or time.monotonic()
        self.share = max(self.share, share)

    def describe(self) -> str:
        """A sentence for who waits."""
        if self.begun is None:
            return "Waiting for its turn \u2026"
        if self.share >= 1:
            return "Writing the file \u2026"
        if not self.share:
            return "Reading the photo \u2026"
        left = (time.monotonic() - self.begun) * (1 - self.share) / self.share
        return f"{self.share:.0%} done, about {_duration(left)} left{EARLIER * self.outdated}"


def _duration(seconds: float) -> str:
    return f"{max(1, round(seconds))} s" if seconds < 90 else f"{round(seconds / 60)} min"


class FullSize:
    """Denoises whole photos for visitors; others pass between the tiles.

    Args:
        runner: Gives the turns, and holds the limits.
        results: Takes the files.
        max_jobs: How many may wait in a thread of theirs.
    """

    def __init__(self, runner: ExperimentRunner, results: ResultFiles, max_jobs: int):
        self._runner, self._results = runner, results
        self._threads = CapacityLimiter(max_jobs)
        self._newest: dict[str, Progress] = {}  # by session, ended or not; of the last sessions

    def cancel(self, session: str) -> None:
        """End a session's job after the tile under way."""
        if session in self._newest:
            self._newest[session].cancelled = True

    def is_under_way(self, session: str) -> bool:
        """Whether a session has a job."""
        return session in self._newest and not self._newest[session].cancelled

    def compare(self, session: str, settings: object) -> None:
        """Take note of the settings that a session's page has now."""
        if session in self._newest:
            self._newest[session].outdated = settings != self._newest[session].settings

    def is_outdated(self, session: str) -> bool:
        """Whether a session's file, finished or not, has other settings than its page."""
        return session in self._newest and self._newest[session].outdated

    async def denoise(
        self,
        photo: str,
        loaded: Loaded,
        file_format: str,
        options: dict[str, Any],
        session: str = "",
        settings: object = None,
    ) -> AsyncIterator[str | Path]:
        """Denoise a photo in full.

        Args:
            photo: Path of the upload.
            loaded: The checkpoint.
            file_format: A name in ``FILE_FORMATS``.
            options: ``noise`` to ``strength`` of :meth:`ExperimentRunner.run`.
            session: Whose it is, for :meth:`cancel`.
            settings: What :meth:`compare` compares.

        Yields:
            Sentences that say how far it is, and the path of the file in the end, unless it is cancelled. To close the
            iterator cancels it too.

        Raises:
            gr.Error: It cannot be done; the message says why.
        """
        call, progress = current_call(), Progress(settings)
        self._newest.pop(session, None)
        self._newest[session] = progress
        if len(self._newest) > MAX_SESSIONS:
            del self._newest[next(iter(self._newest))]
        name = f"{Path(photo).stem[:60] or 'photo'}-denoised{FILE_FORMATS.get(file_format, '.png')}"

        def compute() -> Path:
            if progress.cancelled:
                raise CallCancelled
            return self._runner.run(
                photo,
                "all",
                loaded,
                **options,
                answer=self._save(name, progress),
                progress=progress,
                measures=(),
                floats=file_format == "TIFF",
            )

        computing = asyncio.ensure_future(to_thread.run_sync(compute, limiter=self._threads))
        try:
            while not (computing.done() or progress.cancelled):
                yield progress.describe()
                await asyncio.wait([computing], timeout=TELL_SECONDS)
            if not progress.cancelled:
                yield computing.result()
        finally:
            progress.cancelled = call.cancelled = True  # its thread looks after each tile, and while it waits
            computing.add_done_callback(lambda future: future.cancelled() or future.exception())  # nobody asks for it

    def _save(self, name: str, progress: Progress) -> Callable[..., Path]:
        def save(result: Any, pause: Callable[[], None]) -> Path:
            pause()
            progress(1.0)
            try:
                return Path(self._results.save(result.denoised, name))
            except ValueError as error:
                raise gr.Error(
                    f"{Path(name).suffix} files cannot hold this photo's depth or transparency: choose PNG or TIFF.",
                    print_exception=False,
                ) from error

        return save

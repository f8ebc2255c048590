"""From an uploaded photo to a finished experiment, in bounded time; every mistake comes back as a sentence."""

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

import gradio as gr
from PIL import Image

from .. import experiment
from ..analysis.metrics import MEASURES
from ..analysis.noise_model import PoissonGaussian
from ..errors import DenoiserError, FormatLibraryMissing
from ..images.picture import Picture
from ..memory import SMALL_PIXELS, trim_memory
from ..pipeline import Denoiser
from ..tuning import Tuned, tune
from .compute_gate import CallCancelled, ComputeGate, Turn, before_layers
from .guard import current_call
from .model_pool import Loaded
from .photo_advice import PhotoFacts, describe_photo
from .photo_parts import locate, render_overview, take_area
from .result_files import DISK_FULL, is_disk_full
from .settings import Settings
from .uploads import Uploads, read_first

CROP_PIXELS = 256 * 256
"""Of a crop: every technique takes about a second for it, or less."""

Answer = TypeVar("Answer")

INDEPENDENT = ("gaussian", "poisson", "sensor", "speckle", "uniform")
"""Noises of known level that neighboring pixels do not share."""


@dataclasses.dataclass(frozen=True)
class Crop:
    """A part of a visitor's picture, to look at closely.

    Attributes:
        clean: The picture before noise was added, or None if none was.
        noisy: With noise.
        noise: Its level in 8-bit units or its model, as the first tab gives it to the network.
        sigma: The standard deviation of the noise of the part by that, 8-bit units.
        added: That of the noise that was added, before it was cut off; None if none was.
    """

    clean: Picture | None
    noisy: Picture
    noise: float | PoissonGaussian
    sigma: float
    added: float | None


class ExperimentRunner:
    """Runs experiments for visitors, one at a time.

    Args:
        settings: Its limits are used.
        gate: Gives the turns.
    """

    def __init__(self, settings: Settings, gate: ComputeGate):
        self.settings = settings
        self._gate = gate
        self._uploads = Uploads(settings)

    def run(
        self,
        photo: str | None,
        area: str,
        loaded: Loaded,
        noise: str | None,
        parameters: dict[str, float],
        seed: float,
        sigma: float | str,
        strength: float,
        answer: Callable[[experiment.Experiment, Callable[[], None]], Answer] = lambda result, pause: result,
        is_late: Callable[[], bool] | None = None,
        measures: Sequence[str] = tuple(MEASURES),
        progress: Callable[[float], object] = lambda share: None,
        floats: bool = False,
    ) -> Answer:
        """Run one experiment.

        Args:
            photo: Path of the upload.
            area: The part of it to work on, see :func:`denoiser.demo.photo_parts.take_area`.
            loaded: The checkpoint.
            noise: As the arguments that follow, see :func:`denoiser.experiment.run`.
            answer: Makes the answer of the experiment, still in its turn, so that the arrays of one large picture at a
                time are in memory; calls its second argument between its steps.
            is_late: Given for a slider that moves: the picture is reduced to what is computed at once, and is given up
                when this says that the answer is no longer wanted.
            measures: The figures to compute, see :func:`denoiser.experiment.run`.
            progress: Called with the share done; an exception it raises stops it.
            floats: Whether floating-point photos stay so; otherwise they get 16 bits, as the page's PNG files have.

        Raises:
            gr.Error: Something is wrong with what was asked for, or it takes too long, or nobody waits for it.
        """
        _check_seed(seed)
        call, live = current_call(), is_late is not None
        long = not live and self.is_long(photo, area)

        def is_cancelled() -> bool:
            return call.is_cancelled() or (is_late is not None and is_late())

        with _explained(), self._gate.turn(long, is_cancelled, call.report_position) as turn:
            small = False
            try:
                progress(0.0)
                picture = (
                    self._uploads.open_live(photo, area, loaded) if live else self._uploads.open(photo, area, floats)
                )
                self._check_time(loaded, picture)
                small = picture.pixels[..., 0].size <= SMALL_PIXELS
                options = (noise, parameters, int(seed), sigma, strength, self._progress(turn, progress), measures)
                with before_layers(turn.pause) if live else contextlib.nullcontext():
                    result = experiment.run(loaded.denoiser, picture, *options)
                del picture
                return answer(dataclasses.replace(result, seconds=result.seconds - turn.paused), turn.pause)
            finally:
                if not small:
                    trim_memory()

    def measure(self, result: experiment.Experiment) -> experiment.Experiment:
        """All figures of an experiment that was run without them, in the next turn.

        Raises:
            gr.Error: Nobody waits for it.
        """
        with self.turn(next=True) as turn:
            return experiment.measure(result, pause=turn.pause)

    def crop(
        self,
        photo: str | None,
        area: str,
        place: str,
        noise: str | None,
        parameters: dict[str, float],
        seed: float,
        sigma: float | str,
    ) -> Crop:
        """The picture that :meth:`run` gives the network for these arguments, and of it the part at ``place``.

        Raises:
            gr.Error: As :meth:`run`.
        """
        _check_seed(seed)
        with self.turn():
            start = experiment.degrade(self._uploads.open(photo, area), noise, parameters, int(seed))
            given = start.noise(sigma == "known") if isinstance(sigma, str) else float(sigma)
            part = locate("part", place)
            noisy = take_area(start.noisy, part, CROP_PIXELS)
            clean = start.clean and take_area(start.clean, part, CROP_PIXELS)
            added = experiment.mean_level(start.noise(), noisy) if clean else None
            return Crop(clean, noisy, given, experiment.mean_level(given, noisy), added)

    def tune(
        self,
        photo: str | None,
        area: str,
        loaded: Loaded,
        noise: str | None,
        parameters: dict[str, float],
        seed: float,
    ) -> Tuned:
        """The level and the strength at which the checkpoint does best on a picture, by Stein's estimate.

        The arguments are those of :meth:`run`. What is known of noise that was added is used, unless neighbors share
        it.

        Raises:
            gr.Error: As :meth:`run`.
        """
        _check_seed(seed)
        with self.turn() as turn:
            start = experiment.degrade(self._uploads.open(photo, area), noise, parameters, int(seed))
            known = start.noise() if noise in INDEPENDENT else None
            return tune(loaded.denoiser, start.noisy, known, lambda share: turn.pause())

    def crop_overview(self, photo: str | None, area: str) -> str:
        """The picture with the frame of its crop, as HTML.

        Raises:
            gr.Error: It cannot be read.
        """
        with self.turn():
            return render_overview(self._uploads.open(photo, area), CROP_PIXELS, Path(photo or "").parent.name)

    @contextlib.contextmanager
    def turn(self, next: bool = False) -> Iterator[Turn]:
        """A turn of the call under way, for something short; every mistake in it comes back as a sentence.

        Args:
            next: See :class:`Turn`.

        Raises:
            gr.Error: What went wrong, or nobody waits for it.
        """
        call = current_call()
        with _explained(), self._gate.turn(False, call.is_cancelled, call.report_position, next=next) as turn:
            yield turn

    def is_long(self, photo: str | None, area: str) -> bool:
        """Whether a photo is computed in tiles, between which others pass."""
        if photo is None or area != "all":
            return False
        try:
            with Image.open(photo) as opened:  # reads the header only
                return opened.width * opened.height > self.settings.interactive_pixels
        except Exception:
            return True  # not a format of Pillow's, or opening it in its turn will say what is wrong

    def inspect(self, photo: str, denoiser: Denoiser | None = None) -> tuple[PhotoFacts, str]:
        """The facts of an upload, and its overview as HTML; see :func:`describe_photo`.

        Raises:
            gr.Error: It cannot be read.
        """
        with self.turn():
            try:
                picture, frames = read_first(photo, self.settings.max_pixels)
                overview = render_overview(picture, self.settings.interactive_pixels, Path(photo).parent.name)
                return describe_photo(picture, frames, denoiser), overview
            finally:
                trim_memory()

    def _progress(self, turn: Turn, progress: Callable[[float], object]) -> Callable[[float], None]:
        """A progress callback that lets others pass, and ends what takes longer than was estimated."""
        seconds = self.settings.max_seconds

        def check(share: float) -> None:
            progress(share)
            turn.pause()
            if share < 1 and turn.seconds > seconds:
                raise gr.Error(
                    f"Stopped after {seconds:.0f} s, as others wait. Take a part of the photo, or a faster checkpoint.",
                    print_exception=False,
                )

        return check

    def _check_time(self, loaded: Loaded, picture: Picture) -> None:
        height, width = picture.pixels.shape[:2]
        seconds = loaded.seconds(height, width)
        if seconds > self.settings.max_seconds:
            raise gr.Error(
                f"This would take {seconds:.0f} s with {loaded.facts.name}, and others wait. Take a part of the photo, "
                "or a faster checkpoint.",
                print_exception=False,
            )


def _check_seed(seed: float) -> None:
    if not 0 <= seed < 2**64:  # JSON holds no more
        raise gr.Error("The seed must be a whole number from 0 to 18446744073709551615.", print_exception=False)


@contextlib.contextmanager
def _explained() -> Iterator[None]:
    """Turns what can go wrong with an experiment into a sentence."""
    try:
        yield
    except gr.Error:  # a ValueError, too
        raise
    except CallCancelled:
        raise gr.Error("Nobody waits for this any more.", print_exception=False) from None
    except FormatLibraryMissing as error:
        text = "This server cannot read HEIC pictures. Save the photo as JPEG or PNG, and drop that."
        raise gr.Error(text, print_exception=False) from error
    except (DenoiserError, ValueError) as error:
        raise gr.Error(str(error), print_exception=False) from error
    except OSError as error:
        if not is_disk_full(error):
            raise
        raise gr.Error(DISK_FULL, print_exception=False) from error
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and "memory" not in str(error):
            raise
        raise gr.Error("This photo is too large for this machine's memory.", print_exception=False) from error

"""From an uploaded photo to a finished experiment, in bounded time; every mistake comes back as a sentence."""

import contextlib
import time
from collections.abc import Callable

import gradio as gr

from .. import experiment
from ..errors import DenoiserError
from ..images.picture import Picture, read
from .model_pool import Loaded
from .settings import Settings

AREAS = {
    "Shrunk to 1 megapixel": "shrunk",
    "Its middle megapixel, untouched": "middle",
    "All of it": "all",
}
"""Labels and names of the parts of a photo that can be worked on."""
MAX_KEPT = 8
"""Reduced photos that are kept, for the next move of a slider."""


class ExperimentRunner:
    """Runs experiments for visitors, one at a time.

    Args:
        settings: Its limits are used.
        computing: Held while a picture is computed.
    """

    def __init__(self, settings: Settings, computing: contextlib.AbstractContextManager):
        self.settings = settings
        self._computing = computing
        self._kept: dict[tuple[str, str], Picture] = {}  # the least recently used first; used while computing only

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
    ) -> experiment.Experiment:
        """Run one experiment.

        Args:
            photo: Path of the upload.
            area: The part of it to work on, a value of ``AREAS``.
            loaded: The checkpoint.
            noise: As the arguments that follow, see :func:`denoiser.experiment.run`.

        Raises:
            gr.Error: Something is wrong with what was asked for, or it takes too long.
        """
        if not 0 <= seed < 2**64:  # JSON holds no more
            raise gr.Error("The seed must be a whole number from 0 to 18446744073709551615.", print_exception=False)
        try:
            with self._computing:
                picture = self._open(photo, area)
                self._check_time(loaded, picture)
                stop = stop_after(self.settings.max_seconds)
                return experiment.run(loaded.denoiser, picture, noise, parameters, int(seed), sigma, strength, stop)
        except (DenoiserError, ValueError) as error:
            raise gr.Error(str(error), print_exception=False) from error
        except (MemoryError, RuntimeError) as error:
            if isinstance(error, RuntimeError) and "memory" not in str(error):
                raise
            raise gr.Error("This photo is too large for this machine's memory.", print_exception=False) from error

    def _open(self, photo: str | None, area: str) -> Picture:
        """Read an upload and take the part to work on: the one place where a photo comes in."""
        if photo is None:
            raise gr.Error("Drop a photo first, or pick an example.", print_exception=False)
        # Uploads lie in a folder named by their content's hash: the same path is the same picture.
        picture = self._kept.pop((photo, area), None)
        if picture is None:
            picture = read(photo, self.settings.max_pixels)
            if area != "all":
                reduce = picture.center_crop if area == "middle" else picture.downscale
                picture = reduce(self.settings.interactive_pixels)
        if area != "all":
            self._kept[photo, area] = picture
            if len(self._kept) > MAX_KEPT:
                self._kept.pop(next(iter(self._kept)))
        if picture.maximum == 1:
            raise gr.Error("This is a floating-point TIFF; the page works on 8 and 16 bits.", print_exception=False)
        return picture

    def _check_time(self, loaded: Loaded, picture: Picture) -> None:
        height, width = picture.pixels.shape[:2]
        seconds = loaded.seconds(height, width)
        if seconds > self.settings.max_seconds:
            raise gr.Error(
                f"This would take {seconds:.0f} s with {loaded.facts.name}, and others wait. Take a part of the photo, "
                "or a faster checkpoint.",
                print_exception=False,
            )


def stop_after(seconds: float) -> Callable[[float], None]:
    """A progress callback that ends what takes longer than was estimated."""
    until = time.monotonic() + seconds

    def check(share: float) -> None:
        if share < 1 and time.monotonic() > until:
            raise gr.Error(
                f"Stopped after {seconds:.0f} s, as others wait. Take a part of the photo, or a faster checkpoint.",
                print_exception=False,
            )

    return check

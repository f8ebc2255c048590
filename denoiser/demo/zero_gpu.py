"""ZeroGPU Spaces: a GPU for the seconds of a computation, in a process of its own, by the Hub's package ``spaces``.

There the page's own process has no GPU. Checkpoints stay in its memory, and travel with the pictures to the process
that has one, which may be an older one that has not seen them.
"""

import math
from collections.abc import Callable

import numpy as np

from ..errors import DenoiserError
from ..images.picture import Picture
from ..models import DenoisingAutoencoder
from ..network_input import Sigma
from ..pipeline import Denoiser

Compute = Callable[..., "list[np.ndarray] | Exception"]
START_SECONDS = 10
"""What the GPU's process may take until it computes."""


def find_zero_gpu() -> Compute | None:
    """The function that computes on a GPU of a ZeroGPU Space; None anywhere else.

    Has to be called before the page is launched: such a Space ends where nothing asks for a GPU.
    """
    try:
        import spaces  # pyright: ignore[reportMissingImports] (the Hub installs it in its Spaces)
    except ImportError:
        return None
    decorated = spaces.GPU(duration=_seconds)(_compute)
    return None if decorated is _compute else decorated  # elsewhere the decorator does nothing


def _compute(
    model: DenoisingAutoencoder, self_ensemble: bool, name: str, pictures: list[Picture], sigma: Sigma, strength: float
) -> list[np.ndarray] | Exception:
    """Denoised pixels. Errors of ours are returned: raised, only their type's name would come through."""
    try:
        return Denoiser(model, self_ensemble=self_ensemble, name=name)._denoise(pictures, sigma, strength, None)
    except (DenoiserError, ValueError) as error:
        return error


def _seconds(
    model: DenoisingAutoencoder, self_ensemble: bool, name: str, pictures: list[Picture], sigma: Sigma, strength: float
) -> int:
    """What a call of :func:`_compute` may take: visitors' quotas must hold as much, and short calls come first."""
    megapixels = sum(picture.pixels[..., 0].size for picture in pictures) / 1e6
    return START_SECONDS + math.ceil(megapixels * (8 if self_ensemble else 1))


class ZeroGpuDenoiser(Denoiser):
    """A denoiser that computes on a GPU of a ZeroGPU Space.

    Progress is reported at the end only, and so a computation stops there: a second or so later.
    """

    def __init__(self, denoiser: Denoiser, compute: Compute):
        self.__dict__.update(denoiser.__dict__)
        self._compute: Compute = compute

    def _denoise(
        self,
        pictures: list[Picture],
        sigma: Sigma,
        strength: float,
        progress: Callable[[float], object] | None,
        in_place: bool = False,
    ) -> list[np.ndarray]:
        results = self._compute(self.model, self.self_ensemble, self.name, pictures, sigma, strength)
        if isinstance(results, Exception):
            raise results
        if progress:
            progress(1.0)
        return results

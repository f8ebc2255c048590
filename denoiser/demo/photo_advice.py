"""What the page finds out about a photo and a checkpoint before it denoises: noisy already? do they fit?"""

from dataclasses import dataclass, replace

import numpy as np

from ..hub.checkpoints import DEFAULT_CHECKPOINT
from ..hub.facts import Facts
from ..images.picture import Picture
from ..pipeline import Denoiser

PHOTO_CHECKPOINT = "photo"
"""The bundled checkpoint for photos that are noisy already."""
NOISY_SHARE = 0.3
"""A photo counts as noisy if that checkpoint's estimate for it counts so much. Of clean ones, as JPEG too, it counts at
most 0.05, of those with the noise of a camera 0.5 and more."""
GRID, PART_SIDE = 3, 128
"""A photo is judged by so many parts along each side, each of this side in pixels: the middle of its field."""
NOT_GAUSSIAN = ("camera", "raw", "correlated", "jpeg")
"""Noises that a network trained with Gaussian noise does not know."""


@dataclass(frozen=True)
class PhotoFacts:
    """What is known of an upload.

    Attributes:
        width: Upright, pixels.
        height: Upright, pixels.
        noisy: Whether it looks noisy already; None if that cannot be told.
        frames: How many its file holds; the first is used.
        fits_jpeg: Whether it has 8 bits and no transparency.
    """

    width: int
    height: int
    noisy: bool | None
    frames: int = 1
    fits_jpeg: bool = True


def describe_photo(picture: Picture, frames: int = 1, denoiser: Denoiser | None = None) -> PhotoFacts:
    """The facts of a picture, which is the first of so many in its file; ``denoiser`` is the checkpoint for photos."""
    width, height = picture.size
    # Of a small crop every part may be texture: it is not judged.
    judge = denoiser if min(width, height) >= GRID * PART_SIDE else None
    noisy = judge.noise_share(_middles(picture)) >= NOISY_SHARE if judge else None
    return PhotoFacts(width, height, noisy, frames, picture.dtype == np.uint8 and picture.alpha is None)


def has_color(picture: Picture) -> bool:
    """Whether a picture has channels that differ by more than the rounding of JPEG."""
    every = max(1, round((picture.pixels.size / 3e5) ** 0.5))
    sample = picture.pixels[::every, ::every]
    return sample.shape[2] == 3 and bool(np.abs(sample - np.roll(sample, 1, axis=2)).max() > 1.5 / 255)


def _middles(picture: Picture) -> Picture:
    """The middles of the fields of a grid, put together: what noise there is, they have."""
    rows, columns = (
        np.concatenate([_middle(field) for field in np.array_split(np.arange(side), GRID)])
        for side in picture.pixels.shape[:2]
    )
    alpha = None if picture.alpha is None else picture.alpha[np.ix_(rows, columns)]
    return replace(picture, pixels=picture.pixels[np.ix_(rows, columns)], alpha=alpha)


def _middle(indices: np.ndarray) -> np.ndarray:
    """The middle of a run of indices, at most ``PART_SIDE`` of them."""
    spare = max(0, indices.size - PART_SIDE) // 2
    return indices[spare : spare + PART_SIDE]


@dataclass(frozen=True)
class Advice:
    """Why a checkpoint does not fit, and what does.

    Attributes:
        text: A sentence.
        checkpoint: A checkpoint that fits; "" if there is none.
        sigma: Otherwise the highest noise level that fits.
    """

    text: str
    checkpoint: str = ""
    sigma: float = 0.0

    @property
    def label(self) -> str:
        """What the button says."""
        return f"Use {self.checkpoint}" if self.checkpoint else f"Lower the noise level to {self.sigma:g}"


def advise(loaded: Facts, color: bool, noise: str | None, sigma: float | None) -> Advice | None:
    """What to say of a checkpoint that does not fit; None if it does.

    Args:
        loaded: Of the checkpoint in use.
        color: Whether the photo has colors.
        noise: What is added; None for a photo that is noisy already.
        sigma: The noise level that is added or given, 8-bit units; None if it is not known.
    """
    name = loaded.name
    if (noise is None or noise in NOT_GAUSSIAN) and not loaded.blind:
        kind = "A photo's own noise" if noise is None else "This noise"
        text = f"{kind} is not Gaussian, which {name} is trained for. The checkpoint {PHOTO_CHECKPOINT} is made for it."
        return Advice(text, PHOTO_CHECKPOINT)
    if loaded.channels == 1 and color:
        text = f"The checkpoint {name} is for gray pictures: of this one it takes each channel by itself. "
        text += f"{DEFAULT_CHECKPOINT} is for color."
        return Advice(text, DEFAULT_CHECKPOINT)
    high = loaded.sigma_range[1] if loaded.sigma_range else None
    if high is not None and sigma is not None and sigma > high and not loaded.blind:
        text = (
            f"The checkpoint {name} is trained for levels up to {high:g}. Beyond, the result is worse than it could be."
        )
        return Advice(text, sigma=high)
    return None

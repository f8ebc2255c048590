"""The noise of a sensor's mosaic after a camera's steps, as one field that no picture has shaped yet.

All steps are linear (demosaicing, low-pass, unsharp masking, resizing), so they change the noise without the picture.
"""

import functools
import math
from contextlib import nullcontext
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from .random import Array, Random

MAX_SCALE = 2
"""The largest reduction."""
SHARPENING_RADIUS = 0.8
"""Standard deviation of the unsharp mask, pixels of the camera's picture."""
STRIP = 512
"""Rows that are demosaiced at a time, an even number: large pictures would need much memory at once."""

# What is missing at a photosite, from the 5 x 5 photosites around it: green at red or blue; red or blue from the left
# and the right, from above and below, and from the corners.
_CROSS = ((0, 0, 0, 0, 0), (0, 0, 1, 0, 0), (0, 1, 0, 1, 0), (0, 0, 1, 0, 0), (0, 0, 0, 0, 0))
_SIDES = ((0, 0, 0, 0, 0), (0, 0, 0, 0, 0), (0, 1, 0, 1, 0), (0, 0, 0, 0, 0), (0, 0, 0, 0, 0))
_CORNERS = ((0, 0, 0, 0, 0), (0, 1, 0, 1, 0), (0, 0, 0, 0, 0), (0, 1, 0, 1, 0), (0, 0, 0, 0, 0))
BILINEAR = (_CROSS, _SIDES, tuple(zip(*_SIDES)), _CORNERS)
"""The mean of the nearest photosites of a color, in units of their number."""
_GREEN = ((0, 0, -1, 0, 0), (0, 0, 2, 0, 0), (-1, 2, 4, 2, -1), (0, 0, 2, 0, 0), (0, 0, -1, 0, 0))
_ALONG = ((0, 0, 0.5, 0, 0), (0, -1, 0, -1, 0), (-1, 4, 5, 4, -1), (0, -1, 0, -1, 0), (0, 0, 0.5, 0, 0))
_DIAGONAL = ((0, 0, -1.5, 0, 0), (0, 2, 0, 2, 0), (-1.5, 0, 6, 0, -1.5), (0, 2, 0, 2, 0), (0, 0, -1.5, 0, 0))
GRADIENT_CORRECTED = (_GREEN, _ALONG, tuple(zip(*_ALONG)), _DIAGONAL)
"""Malvar, He and Cutler's filters, in eighths."""


def mosaic_noise(
    x: Array, random: Random[Array], chroma: float, smoothing: float, grain: float, sharpening: float, scale: float
) -> Array:
    """Noise of the shape of ``x``, of standard deviation 1 at a photosite; see :func:`denoiser.noise.camera.raw`."""
    device = x.device if isinstance(x, torch.Tensor) else torch.device("cpu")
    height, width = x.shape[-2:]
    # Of a tensor of scales the largest is not asked for: a GPU would make the step wait for it.
    largest = MAX_SCALE if isinstance(scale, torch.Tensor) else scale
    resized = largest != 1
    shape = (*x.shape[:-3], 1, *(math.ceil(side * largest) + 4 + 2 * resized for side in (height, width)))
    first = x[..., :1, :1, :1]
    photosites: Any = first.expand(shape) if isinstance(first, torch.Tensor) else np.broadcast_to(first, shape)
    white = torch.as_tensor(random.normal(photosites), device=device)
    chance = torch.as_tensor(random.uniform(x[..., :1, :1], channels=3), device=device)
    white, chance = white.reshape(-1, *white.shape[-3:]), chance.reshape(-1, 3, 1, 1)
    strips = (white[..., top : top + STRIP + 4, :] for top in range(0, shape[-2] - 4, STRIP))
    noise: Any = torch.cat([demosaic(strip, chance) for strip in strips], -2)
    if resized:
        noise = _resize(noise, height, width, scale)
    noise = _process(noise, x.shape[-3], chroma, smoothing, grain, sharpening, scale)
    return noise if isinstance(x, torch.Tensor) else noise[0].numpy()


def demosaic(mosaic: torch.Tensor, chance: torch.Tensor) -> torch.Tensor:
    """Full colors from a Bayer mosaic.

    Args:
        mosaic: (B, 1, H + 4, W + 4).
        chance: (B, 3, 1, 1) in [0, 1): below a half for the bilinear algorithm, else the gradient-corrected one; below
            a half for red in the odd rows and in the odd columns, else in the even ones.

    Returns:
        (B, 3, H, W), without the border of two photosites.
    """
    fast = torch.is_autocast_enabled(mosaic.device.type)
    with torch.autocast(mosaic.device.type, enabled=False) if fast else nullcontext():  # the same seed, the same noise
        planes = F.conv2d(mosaic, _filters(mosaic.device, mosaic.dtype))
    simple, row, column = (chance < 0.5).split(1, 1)
    green, sides, above, corners = torch.where(simple, planes[:, :4], planes[:, 4:]).split(1, 1)
    known = mosaic[..., 2:-2, 2:-2]
    height, width = known.shape[-2:]
    row = (torch.arange(height, device=mosaic.device)[:, None] + 1 * row) % 2 == 0  # the rows that have red
    column = (torch.arange(width, device=mosaic.device) + 1 * column) % 2 == 0
    red = torch.where(row, torch.where(column, known, sides), torch.where(column, above, corners))
    blue = torch.where(row, torch.where(column, corners, above), torch.where(column, sides, known))
    return torch.cat([red, torch.where(row == column, green, known), blue], 1)


@functools.cache
def _filters(device: torch.device, dtype: torch.dtype) -> torch.Tensor:
    """Both algorithms' filters (8, 1, 5, 5), cached: copying them at every step would make a GPU wait."""
    simple, corrected = (torch.tensor(one, dtype=dtype, device="cpu") for one in (BILINEAR, GRADIENT_CORRECTED))
    return torch.cat([simple / simple.sum((1, 2), keepdim=True), corrected / 8])[:, None].to(device)


def _resize(noise: torch.Tensor, height: int, width: int, scale: float | torch.Tensor) -> torch.Tensor:
    """Noise (B, C, H, W) reduced ``scale`` times, or enlarged below 1, from its upper left corner on; bilinear."""
    scale = torch.as_tensor(scale, dtype=noise.dtype, device=noise.device).reshape(-1, 1).expand(len(noise), 1)
    rows, columns = noise.shape[-2:]
    y, x = ((torch.arange(side, dtype=noise.dtype, device=noise.device) + 0.5) * scale for side in (height, width))
    reach = (scale - 1).clamp(min=0) / 2  # four places are averaged for each pixel: else fine noise is aliased
    total = 0
    for up in (-1, 1):
        for left in (-1, 1):
            across, down = (x + left * reach) * (2 / columns) - 1, (y + up * reach) * (2 / rows) - 1
            grid = torch.stack([across[:, None].expand(-1, height, -1), down[..., None].expand(-1, -1, width)], -1)
            total = total + F.grid_sample(noise, grid, padding_mode="border", align_corners=False)
    return total / 4


def _process(
    noise: torch.Tensor,
    channels: int,
    chroma: float | torch.Tensor,
    smoothing: float | torch.Tensor,
    grain: float | torch.Tensor,
    sharpening: float | torch.Tensor,
    scale: float | torch.Tensor,
) -> torch.Tensor:
    """The color matrix' gain, noise reduction and sharpening, of noise (B, 3, H, W) that is resized already.

    Filters and resizing commute, with lengths in the pixels of the resized picture.
    """
    height, width = noise.shape[-2:]
    down = torch.fft.fftfreq(height, dtype=noise.dtype, device=noise.device)[:, None]
    across = torch.fft.rfftfreq(width, dtype=noise.dtype, device=noise.device)
    exponent = -2 * math.pi**2 * (down**2 + across**2)

    def fine(radius: float | torch.Tensor) -> torch.Tensor:
        """Response of a picture less its Gaussian low-pass."""
        return 1 - torch.exp(exponent * (radius / scale) ** 2)

    def filtered(planes: torch.Tensor, response: torch.Tensor) -> torch.Tensor:
        return torch.fft.irfft2(torch.fft.rfft2(planes) * response, s=(height, width))

    luma = noise.mean(1, keepdim=True)
    result = filtered(luma, (1 - smoothing * fine(grain / 2)) * (1 + sharpening * fine(SHARPENING_RADIUS)))
    if channels > 1:
        result = result + filtered(noise - luma, chroma * (1 - smoothing * (2 - smoothing) * fine(grain)))
    return result

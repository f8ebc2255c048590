"""What JPEG does to a picture, as tensor operations: for batches, each picture at its own quality, on any device.

Baseline JPEG with 4:2:0 chroma, in the steps of libjpeg: colour conversion, halved chroma, 8x8 cosine transform,
quantisation, and back with the triangle filter for the chroma. Only the entropy coding, which loses nothing, is left
out.
Source: Wallace, "The JPEG Still Picture Compression Standard", CACM 1991; tables of ITU-T T.81, annex K.
"""

import math

import torch
import torch.nn.functional as F

LUMA = (
    (16, 11, 10, 16, 24, 40, 51, 61),
    (12, 12, 14, 19, 26, 58, 60, 55),
    (14, 13, 16, 24, 40, 57, 69, 56),
    (14, 17, 22, 29, 51, 87, 80, 62),
    (18, 22, 37, 56, 68, 109, 103, 77),
    (24, 35, 55, 64, 81, 104, 113, 92),
    (49, 64, 78, 87, 103, 121, 120, 101),
    (72, 92, 95, 98, 112, 100, 103, 99),
)
CHROMA = (
    (17, 18, 24, 47, 99, 99, 99, 99),
    (18, 21, 26, 66, 99, 99, 99, 99),
    (24, 26, 56, 99, 99, 99, 99, 99),
    (47, 66, 99, 99, 99, 99, 99, 99),
    *[(99,) * 8] * 4,
)


def _cosine(u: int, i: int) -> float:
    return math.sqrt((1 if u == 0 else 2) / 8) * math.cos((2 * i + 1) * u * math.pi / 16)


PLACES = [(row, column) for row in range(8) for column in range(8)]
TRANSFORM = tuple(tuple(_cosine(u, i) * _cosine(v, j) for u, v in PLACES) for i, j in PLACES)
"""The cosine transform of a block of 64 values in one row, as an orthogonal matrix (values, frequencies)."""


def compress(x: torch.Tensor, quality: torch.Tensor | float) -> torch.Tensor:
    """Pictures as they come back from a JPEG file.

    Args:
        x: (B, 3 or 1, H, W); clipped to [0, 1] and rounded to 8 bits first.
        quality: libjpeg's, 1..100, rounded; one number, or a tensor of B.

    Returns:
        The same shape, multiples of 1 / 255 in [0, 1].
    """
    height, width = x.shape[-2:]
    quality = torch.as_tensor(quality, device=x.device, dtype=x.dtype).reshape(-1).expand(len(x)).round()
    levels = (x.clamp(0, 1) * 255).round() - 128
    levels = F.pad(levels, (0, -width % 16, 0, -height % 16), mode="replicate")
    if x.shape[1] == 1:
        back = _quantised(levels, _table(LUMA, quality))
    else:
        red, green, blue = levels.unbind(1)
        luma = 0.299 * red + 0.587 * green + 0.114 * blue
        colour = torch.stack([(blue - luma) / 1.772, (red - luma) / 1.402], 1)
        luma = _quantised(luma[:, None].round(), _table(LUMA, quality))
        halved = _quantised(F.avg_pool2d(colour.round(), 2).round(), _table(CHROMA, quality))
        # Weights of 3/4 and 1/4: libjpeg's triangle filter.
        blueness, redness = F.interpolate(halved, scale_factor=2, mode="bilinear").round().split(1, dim=1)
        red, blue = luma + 1.402 * redness, luma + 1.772 * blueness
        green = luma - (0.299 * 1.402 * redness + 0.114 * 1.772 * blueness) / 0.587
        back = torch.cat([red, green, blue], 1)
    return (back[..., :height, :width].round() + 128).clamp(0, 255) / 255


def _table(base: tuple, quality: torch.Tensor) -> torch.Tensor:
    """The quantisation steps of each picture (B, 1, 64), scaled from the base table as libjpeg does."""
    scale = torch.where(quality < 50, (5000 / quality).floor(), 200 - 2 * quality)
    return ((_constant(base, quality).reshape(1, 1, 64) * scale[:, None, None] + 50) / 100).floor().clamp(1, 255)


def _quantised(planes: torch.Tensor, table: torch.Tensor) -> torch.Tensor:
    """Planes (B, C, H, W) about zero through the cosine transform of 8x8 blocks, quantised, and back."""
    batch, channels, height, width = planes.shape
    transform = _constant(TRANSFORM, planes)
    grid = batch, channels, height // 8, width // 8, 8, 8
    blocks = planes.reshape(batch, channels, height // 8, 8, width // 8, 8).transpose(3, 4).reshape(batch, -1, 64)
    spectrum = (blocks @ transform).div_(table).round_().mul_(table)
    blocks = (spectrum @ transform.T).round_().clamp_(-128, 127)
    return blocks.reshape(grid).transpose(3, 4).reshape(planes.shape)


_constants: dict[tuple, torch.Tensor] = {}


def _constant(values: tuple, like: torch.Tensor) -> torch.Tensor:
    """A table on the device of ``like``, copied there once: a copy in every step would make a GPU wait."""
    key = values, like.device, like.dtype
    if key not in _constants:
        _constants[key] = torch.tensor(values, dtype=like.dtype).to(like.device)
    return _constants[key]

"""JPEG compression as tensor operations: for batches, each picture at its own quality, on any device.

Baseline JPEG with 4:2:0 chroma, with the steps and roundings of libjpeg: color conversion, halved chroma, 8x8
cosine transform, quantization, and back with the triangle filter for the chroma. Entropy coding is lossless and left
out. All sums are integers or short binary fractions that the dtype holds exactly, so the values are those of a file in
any order of summation; a few green values in ten thousand differ by one level.
Source: Wallace, "The JPEG Still Picture Compression Standard", CACM 1991; tables of ITU-T T.81, annex K.
"""

import functools
import io

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

from .random import Array, Random

LUMA_TABLE = (
    (16, 11, 10, 16, 24, 40, 51, 61),
    (12, 12, 14, 19, 26, 58, 60, 55),
    (14, 13, 16, 24, 40, 57, 69, 56),
    (14, 17, 22, 29, 51, 87, 80, 62),
    (18, 22, 37, 56, 68, 109, 103, 77),
    (24, 35, 55, 64, 81, 104, 113, 92),
    (49, 64, 78, 87, 103, 121, 120, 101),
    (72, 92, 95, 98, 112, 100, 103, 99),
)
CHROMA_TABLE = (
    (17, 18, 24, 47, 99, 99, 99, 99),
    (18, 21, 26, 66, 99, 99, 99, 99),
    (24, 26, 56, 99, 99, 99, 99, 99),
    (47, 66, 99, 99, 99, 99, 99, 99),
    *[(99,) * 8] * 4,
)


def _forward_dct(v: list[int]) -> list[int]:
    """libjpeg's cosine transform of 8 values (``jfdctint``), before its rounding: 2^13 sqrt(8) times the orthonormal.

    Source: Loeffler, Ligtenberg and Moschytz, "Practical fast 1-D DCT algorithms with 11 multiplications", 1989.
    """
    even = [v[i] + v[7 - i] for i in range(4)]
    odd = [v[3 - i] - v[4 + i] for i in range(4)]
    outer, inner = even[0] - even[3], even[1] - even[2]
    turned = 4433 * (outer + inner)
    mixed = 9633 * sum(odd)
    ends, middle = -7373 * (odd[0] + odd[3]), -20995 * (odd[1] + odd[2])
    evens, odds = mixed - 16069 * (odd[0] + odd[2]), mixed - 3196 * (odd[1] + odd[3])
    return [
        8192 * sum(even),
        12299 * odd[3] + ends + odds,
        turned + 6270 * outer,
        25172 * odd[2] + middle + evens,
        8192 * (even[0] - even[1] - even[2] + even[3]),
        16819 * odd[1] + middle + odds,
        turned - 15137 * inner,
        2446 * odd[0] + ends + evens,
    ]


DCT = tuple(tuple(_forward_dct([int(i == j) for j in range(8)])) for i in range(8))
"""The cosine transform as libjpeg computes it, in integers, as a matrix (values, frequencies)."""


def compress(x: torch.Tensor, quality: torch.Tensor | float) -> torch.Tensor:
    """Compress pictures and decompress them.

    Args:
        x: (B, 3 or 1, H, W); clipped to [0, 1] and rounded to 8 bits first.
        quality: libjpeg's, 1..100, rounded; one number, or a tensor of B.

    Returns:
        The same shape, multiples of 1 / 255 in [0, 1].
    """
    height, width = x.shape[-2:]
    quality = torch.as_tensor(quality, device=x.device, dtype=x.dtype).reshape(-1).expand(len(x)).round()
    levels = (x.clamp(0, 1) * 255).round() - 128
    if x.shape[1] == 1:
        back = _encode_decode(levels, _quantization_table(LUMA_TABLE, quality))
    else:
        luma = _weighted_sum(levels, 0.299, 0.587, 0.114, bias=0.5)
        cb = _weighted_sum(levels, -0.168735892, -0.331264108, 0.5, bias=ROUND_HALF_DOWN)
        cr = _weighted_sum(levels, 0.5, -0.418687589, -0.081312411, bias=ROUND_HALF_DOWN)
        luma = _encode_decode(luma, _quantization_table(LUMA_TABLE, quality))
        chroma = _encode_decode(_downsample(torch.cat([cb, cr], 1)), _quantization_table(CHROMA_TABLE, quality))
        chroma = _upsample(chroma[..., : (width + 1) // 2])[..., :height, :width]
        red = luma + _weighted_sum(chroma, 0, 1.402, bias=0.5)
        green = luma + _weighted_sum(chroma, -0.344136286, -0.714136286, bias=0.5)
        blue = luma + _weighted_sum(chroma, 1.772, 0, bias=0.5)
        back = torch.cat([red, green, blue], 1)
    return (back + 128).clamp_(0, 255) / 255


ROUND_HALF_DOWN = 0.5 - 2**-16
"""Added before ``floor``: rounds to nearest and halves down, for 16-bit fractions."""


def _weighted_sum(planes: torch.Tensor, *weights: float, bias: float) -> torch.Tensor:
    """The weighted sum (B, 1, H, W) of planes, weights in 16-bit fractions, rounded."""
    mixed = torch.zeros_like(planes[:, 0])
    for weight, plane in zip(weights, planes.unbind(1)):
        mixed.add_(plane, alpha=round(weight * 2**16))
    return mixed.div_(2**16).add_(bias).floor_()[:, None]


def _downsample(planes: torch.Tensor) -> torch.Tensor:
    """Means of 2x2 values; halves are rounded down and up in turn, by column.

    The last row of an odd height and the columns missing to blocks of 16 are repeated first, as in libjpeg.
    """
    height, width = planes.shape[-2:]
    halves = F.avg_pool2d(F.pad(planes, (0, -width % 16, 0, height % 2), mode="replicate"), 2)
    halves[..., 0::2] += 1 / 4
    halves[..., 1::2] += 2 / 4
    return halves.floor_()


def _upsample(planes: torch.Tensor) -> torch.Tensor:
    """Twice the size, by the triangle filter (weights 3/4 and 1/4); one or two columns are repeated, as in libjpeg."""
    if planes.shape[-1] <= 2:
        return F.interpolate(planes, scale_factor=2, mode="nearest")
    doubled = F.interpolate(planes, scale_factor=2, mode="bilinear")
    doubled[..., 0::2] += 8 / 16
    doubled[..., 1::2] += 7 / 16
    return doubled.floor_()


def _quantization_table(base: tuple, quality: torch.Tensor) -> torch.Tensor:
    """The quantization table of each picture (B, 1, 64), scaled from the base table as in libjpeg."""
    scale = torch.where(quality < 50, (5000 / quality).floor(), 200 - 2 * quality)
    return (
        ((_table(base, quality.device, quality.dtype).reshape(1, 1, 64) * scale[:, None, None] + 50) / 100)
        .floor()
        .clamp(1, 255)
    )


def _encode_decode(planes: torch.Tensor, table: torch.Tensor) -> torch.Tensor:
    """Planes (B, C, H, W) around zero through the cosine transform of 8x8 blocks, quantization, and back."""
    height, width = planes.shape[-2:]
    planes = F.pad(planes, (0, -width % 8, 0, -height % 8), mode="replicate")
    batch, channels, rows, columns = planes.shape
    blocks = planes.reshape(batch, channels, rows // 8, 8, columns // 8, 8).transpose(3, 4)
    # libjpeg's transforms round to integers between rows and columns. Their sums exceed the 24 bits of float32.
    blocks = blocks.to(double := torch.float64 if planes.device.type != "mps" else planes.dtype)
    transform = _table(DCT, blocks.device, blocks.dtype)
    blocks = _round(transform.T @ _round(blocks @ transform, 2**11), 2**15)
    # The coefficients are in eighths. Quantization rounds halves away from zero.
    table = table.to(double).reshape(batch, 1, 1, 1, 8, 8)
    blocks = (blocks.abs() / (8 * table)).add_(0.5).floor_().mul_(table).copysign_(blocks)
    blocks = _round(_round(transform @ blocks, 2**11) @ transform.T, 2**18).clamp_(-128, 127)
    return blocks.to(planes.dtype).transpose(3, 4).reshape(planes.shape)[..., :height, :width]


def _round(sums: torch.Tensor, unit: int) -> torch.Tensor:
    """In units of ``unit``, rounded to nearest, halves up."""
    return sums.div_(unit).add_(0.5).floor_()


@functools.cache
def _table(values: tuple, device: torch.device, dtype: torch.dtype) -> torch.Tensor:
    """A table on a device, cached: copying it at every step would make a GPU wait."""
    return torch.tensor(values, dtype=dtype, device="cpu").to(device)


def jpeg(x: Array, random: Random[Array] | None, quality: float | torch.Tensor) -> Array:
    """JPEG compression, baseline with 4:2:0 chroma as most files on the web; not random, so the seed has no effect.

    ``quality``: libjpeg's quality, 1..95. The picture is clipped and rounded to 8 bits first.
    Source: Wallace, "The JPEG Still Picture Compression Standard", CACM 1991.
    """
    if isinstance(x, torch.Tensor):
        return compress(x, quality)
    if max(x.shape[1:]) > 65500:
        raise ValueError("JPEG holds at most 65500 pixels a side: crop the picture, or choose another noise")
    pixels = np.moveaxis(np.rint(x.clip(0, 1) * 255).astype(np.uint8), 0, -1)
    buffer = io.BytesIO()
    image = Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)
    image.save(buffer, "JPEG", quality=round(float(quality)), subsampling="4:2:0")
    with Image.open(buffer) as opened:
        decoded = np.asarray(opened, dtype=np.float32).reshape(pixels.shape)
    return np.moveaxis(decoded / 255, -1, 0)

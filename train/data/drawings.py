"""Drawings for training: what is on screens and in print, made of a photograph's crop or of nothing.

A network that is told no noise level and has only seen photographs takes a halftone screen, pixel art or hatching for
noise. Each function takes a crop (3, side, side) in [0, 1] and returns such a drawing of the same size.
"""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F

ON_SCREEN = 0.3
"""The share of drawings without noise."""


class Draw:
    """Random numbers for a drawing, on one device."""

    def __init__(self, generator: torch.Generator):
        self._options = {"generator": generator, "device": generator.device}

    def uniform(self, *shape: int) -> torch.Tensor:
        """Of [0, 1)."""
        return torch.rand(*shape, **self._options)

    def between(self, low: float, high: float) -> float:
        """A number, for how a drawing is made."""
        return low + (high - low) * float(self.uniform(1))

    def normal(self, *shape: int) -> torch.Tensor:
        """Of mean 0 and deviation 1."""
        return torch.randn(*shape, **self._options)

    def colors(self, count: int) -> torch.Tensor:
        """(count, 3); half of the channels are 0 or 1; a third of the sets are gray, and half of low contrast."""
        colors = self.uniform(count, 3)
        colors = torch.where(self.uniform(count, 3) < 0.5, colors.round(), colors)
        if self.between(0, 3) < 1:
            colors = colors[:, :1].expand(-1, 3)
        return colors.lerp(self.uniform(1, 3), self.between(0.1, 0.7)) if self.between(0, 2) < 1 else colors

    def field(self, side: int, oriented: bool) -> torch.Tensor:
        """Noise (side, side) of deviation 1 in a band of frequencies, along one direction if ``oriented``."""
        rows, columns = torch.meshgrid(
            torch.fft.fftfreq(side, device=self._options["device"]),
            torch.fft.fftfreq(side, device=self._options["device"]),
            indexing="ij",
        )
        center, width, turn = self.between(0.02, 0.3), self.between(0.01, 0.1), self.between(0, math.pi)
        across = rows * math.cos(turn) + columns * math.sin(turn)
        along = columns * math.cos(turn) - rows * math.sin(turn)
        radius = across.abs() if oriented else (rows**2 + columns**2).sqrt()
        gain = (-(((radius - center) / width) ** 2)).exp()
        if oriented:
            gain = gain * (-((along / self.between(0.005, 0.08)) ** 2)).exp()
        field = torch.fft.ifft2(torch.fft.fft2(self.normal(side, side)) * gain).real
        return (field - field.mean()) / field.std().clamp(min=1e-6)

    def hills(self, side: int) -> torch.Tensor:
        """Fractal noise (side, side) of deviation 1."""
        rows, columns = (torch.fft.fftfreq(side, device=self._options["device"]) for _ in range(2))
        radius = (rows[:, None] ** 2 + columns**2).sqrt().clamp(min=1 / side)
        hills = torch.fft.ifft2(torch.fft.fft2(self.normal(side, side)) * radius ** -self.between(1.2, 3)).real
        return (hills - hills.mean()) / hills.std()


def _tones(picture: torch.Tensor, count: int) -> torch.Tensor:
    return (picture * (count - 1)).round() / (count - 1)


def _soften(picture: torch.Tensor, draw: Draw) -> torch.Tensor:
    """As it is, or as drawn with soft edges."""
    if draw.between(0, 2) < 1:
        return picture
    center = draw.between(0.3, 0.9)
    side = (1 - center) / 2
    kernel = torch.tensor([side, center, side], device=picture.device)
    kernel = (kernel[:, None] * kernel).expand(3, 1, 3, 3)
    return F.conv2d(F.pad(picture[None], (1, 1, 1, 1), mode="replicate"), kernel, groups=3)[0]


def pixel_art(crop: torch.Tensor, draw: Draw) -> torch.Tensor:
    """Large pixels, of few tones or of all."""
    side, cell = crop.shape[-1], int(draw.between(2, 9))
    small = F.avg_pool2d(crop[None], cell, ceil_mode=True)
    if draw.between(0, 2) < 1:
        small = _tones(small, int(draw.between(2, 9)))
    if draw.between(0, 2) < 1:
        return small.repeat_interleave(cell, 2).repeat_interleave(cell, 3)[0, :, :side, :side]
    scaled = F.interpolate(small, scale_factor=cell, mode="bilinear" if draw.between(0, 2) < 1 else "bicubic")
    return scaled[0, :, :side, :side].clamp(0, 1)


def _diffused(crop: torch.Tensor, count: int) -> torch.Tensor:
    """``count`` tones by error diffusion (Floyd and Steinberg, 1976), all pixels of a slanted front at a time."""
    side = crop.shape[-1]
    front = torch.arange(side)[:, None] * 2 + torch.arange(side)  # whatever a pixel hands on goes to a later front
    rows = torch.arange(side)[:, None].expand(side, side)
    values = crop.new_zeros(3 * side + 1, len(crop), side + 1)
    values[front, :, rows] = crop.permute(1, 2, 0)
    inside = torch.zeros(len(values), 1, side + 1, device=crop.device)
    inside[front, :, rows] = 1
    for now in range(3 * side - 2):
        tones = _tones(values[now], count).clamp(0, 1)
        error = ((values[now] - tones) * inside[now])[:, :-1] / 16
        values[now] = tones
        values[now + 1, :, :-1] += 7 * error
        values[now + 1 : now + 4, :, 1:] += error * error.new_tensor([3, 5, 1])[:, None, None]
    return values[front, :, rows].permute(2, 0, 1)


def dithered(crop: torch.Tensor, draw: Draw) -> torch.Tensor:
    """Few tones, between which dots mediate: in order (Bayer), or by error diffusion."""
    side, dot, tones = crop.shape[-1], int(draw.between(1, 3.3)), int(draw.between(2, 6))
    if dot > 1:
        crop = F.avg_pool2d(crop[None], dot, ceil_mode=True)[0]
    count = crop.shape[-1]
    if draw.between(0, 2) < 1:
        bayer = torch.zeros(1, 1, device=crop.device)
        for _ in range(int(draw.between(1, 4))):
            bayer = torch.cat([torch.cat([4 * bayer, 4 * bayer + 2], 1), torch.cat([4 * bayer + 3, 4 * bayer + 1], 1)])
        tiles = -(-count // len(bayer))
        threshold = ((bayer + 0.5) / bayer.numel()).repeat(tiles, tiles)[None, :count, :count]
        crop = (crop * (tones - 1) + threshold).floor().clamp(0, tones - 1) / (tones - 1)
    else:
        crop = _diffused(crop, tones)
    return crop.repeat_interleave(dot, 1).repeat_interleave(dot, 2)[:, :side, :side]


def halftone(crop: torch.Tensor, draw: Draw) -> torch.Tensor:
    """Dots of a printing screen, one angle for all inks or one for each; hard, or blurred as by a scanner."""
    side, period = crop.shape[-1], draw.between(2.5, 12)
    turns = draw.uniform(3, 1, 1) * math.pi if draw.between(0, 2) < 1 else draw.uniform(1, 1, 1).expand(3, 1, 1)
    rows = torch.arange(side, device=crop.device)[:, None] * (2 * math.pi / period)
    columns = rows.T
    first = (rows * turns.cos() + columns * turns.sin()).cos()
    second = (columns * turns.cos() - rows * turns.sin()).cos()
    if draw.between(0, 2) < 1:
        crop = crop.mean(0, keepdim=True).expand(3, -1, -1)
    gain = 2 ** draw.between(1, 7)
    return ((crop - 0.5 - (first + second) / 4) * gain + 0.5).clamp(0, 1)


def cells(crop: torch.Tensor, draw: Draw) -> torch.Tensor:
    """A grid of cells of random colors, or a mosaic of irregular ones."""
    side = crop.shape[-1]
    if draw.between(0, 2) < 1:
        cell = int(draw.between(2, 13))
        count = -(-side // cell)
        grid = draw.colors(count * count).T.reshape(3, count, count)
        return grid.repeat_interleave(cell, 1).repeat_interleave(cell, 2)[:, :side, :side]
    count = int(2 ** draw.between(3, 8))
    places = draw.uniform(count, 2) * side
    steps = torch.arange(side, device=crop.device) + 0.5
    distance = (steps[:, None, None] - places[:, 0]) ** 2 + (steps[:, None] - places[:, 1]) ** 2
    return draw.colors(count)[distance.argmin(-1)].permute(2, 0, 1)


def ink(crop: torch.Tensor, draw: Draw) -> torch.Tensor:
    """Two colors: hatching, grain of wood, blots, something like print."""
    field = draw.field(crop.shape[-1], oriented=draw.between(0, 3) < 2)
    share = torch.sigmoid((field - draw.between(-1.5, 1.5)) * 2 ** draw.between(1, 6))
    paper, ink = draw.colors(2)[..., None, None]
    return paper + (ink - paper) * share


def strokes(crop: torch.Tensor, draw: Draw) -> torch.Tensor:
    """Lines over each other: blades of grass, hair, a plot of many curves, a plan."""
    side, count = crop.shape[-1], int(2 ** draw.between(3, 7))
    steps = torch.arange(side, device=crop.device, dtype=torch.float32)
    spread, direction = draw.between(0, math.pi), draw.between(0, math.pi)
    picture = draw.colors(1)[0][:, None, None].expand_as(crop).clone()
    length, width = draw.between(5, side), draw.between(0.5, 2)
    turns = direction + (draw.uniform(count) - 0.5) * spread
    tops, lefts = draw.uniform(2, count) * side
    for color, turn, top, left in zip(draw.colors(count), turns, tops, lefts):
        y, x = steps[:, None] - top, steps - left
        along, across = x * turn.cos() + y * turn.sin(), y * turn.cos() - x * turn.sin()
        cover = (width + 0.5 - across.abs()).clamp(0, 1) * (along.abs() < length)
        picture = picture + cover * (color[:, None, None] - picture)
    return picture


def relief(crop: torch.Tensor, draw: Draw) -> torch.Tensor:
    """Computed surfaces: a normal map, or contours of a fractal in colors."""
    hills = draw.hills(crop.shape[-1])
    if draw.between(0, 2) < 1:
        slopes = torch.stack([hills.roll(1, 1) - hills, hills.roll(1, 0) - hills]) * 2 ** draw.between(-1, 3)
        normal = torch.cat([slopes, torch.ones_like(hills)[None]])
        return normal / normal.norm(dim=0) / 2 + 0.5
    phases = draw.uniform(3, 1, 1) * (2 * math.pi)
    picture = (hills * 2 ** draw.between(0, 4) + phases).cos() / 2 + 0.5
    return _tones(picture, int(draw.between(2, 6))) if draw.between(0, 2) < 1 else picture


KINDS: tuple[Callable[[torch.Tensor, Draw], torch.Tensor], ...] = (
    pixel_art, dithered, halftone, cells, ink, strokes, relief,
)  # fmt: skip


def draw_crops(crops: torch.Tensor, chosen: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Replace the ``chosen`` crops (B,) of (B, C, side, side) in [0, 1] by drawings, of all kinds alike."""
    draw, crops = Draw(generator), crops.clone()
    for index in chosen.nonzero().flatten().tolist():
        kind = KINDS[int(draw.between(0, len(KINDS)))]
        drawing = _soften(kind(crops[index].expand(3, -1, -1), draw), draw).clamp(0, 1)
        crops[index] = drawing if crops.shape[1] == 3 else drawing.mean(0, keepdim=True)
    return crops


def noise_gains(level: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """By how much the noise of drawings is stronger than a photograph's, whose level (B,) is given.

    Some are on a screen, which no camera has seen: 0. Print comes through worse scanners and cameras: 1 to 6, and a
    level of 64 of 255 at most.
    """
    drawn, gain = torch.rand(2, len(level), generator=generator, device=level.device)
    return torch.where(drawn < ON_SCREEN, 0, (1 + 5 * gain).minimum(0.25 / level.clamp(min=1e-6)))

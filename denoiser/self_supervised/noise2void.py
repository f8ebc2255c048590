"""Noise2Void: pixels are hidden and predicted from those around them; its structured variant hides whole areas."""

from dataclasses import dataclass

import torch

from ._base import Network, Objective


def hide_pixels(
    noisy: torch.Tensor, cell: int, structure: tuple[int, int], window: int, generator: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """Hide one pixel in each cell, and what lies around it, behind values from elsewhere in the crop.

    All cells of a crop hide the same one of their pixels, so that hidden areas do not overlap.

    Args:
        noisy: (B, C, H, W).
        cell: Side of the cells, above twice the larger of ``structure``.
        structure: Rows and columns on each side of a hidden pixel that are hidden with it.
        window: How far beyond that the values come from: each from a random pixel.
        generator: On the device of ``noisy``.

    Returns:
        The picture with hidden pixels, and where the ones to predict are: bool (B, 1, H, W).
    """
    batch, channels, height, width = noisy.shape
    device, rows, columns = noisy.device, max(1, height // cell), max(1, width // cell)

    def draw(high: int, *size: int) -> torch.Tensor:
        return torch.randint(high, size, generator=generator, device=device)

    starts = torch.cartesian_prod(torch.arange(rows, device=device), torch.arange(columns, device=device)) * cell
    y = starts[:, 0] + draw(min(cell, height), batch, 1)
    x = starts[:, 1] + draw(min(cell, width), batch, 1)
    chosen = torch.zeros(batch, height * width, dtype=torch.bool, device=device)
    chosen.scatter_(1, y * width + x, True)

    down, across = (torch.arange(-reach, reach + 1, device=device) for reach in structure)
    area = torch.cartesian_prod(down, across)  # (A, 2), relative to the pixel
    hidden_y, hidden_x = y[..., None] + area[:, 0], x[..., None] + area[:, 1]
    inside = (hidden_y >= 0) & (hidden_y < height) & (hidden_x >= 0) & (hidden_x < width)
    # Sources: around the pixel, outside the hidden area; at the borders on the side that has pixels.
    reach_y, reach_x = structure[0] + window, structure[1] + window
    around = torch.cartesian_prod(
        torch.arange(-reach_y, reach_y + 1, device=device), torch.arange(-reach_x, reach_x + 1, device=device)
    )
    around = around[(around[:, 0].abs() > structure[0]) | (around[:, 1].abs() > structure[1])]
    offset = around[draw(len(around), *hidden_y.shape)]
    from_y, from_x = y[..., None] + offset[..., 0], x[..., None] + offset[..., 1]
    from_y = torch.where((from_y < 0) | (from_y >= height), y[..., None] - offset[..., 0], from_y).clamp(0, height - 1)
    from_x = torch.where((from_x < 0) | (from_x >= width), x[..., None] - offset[..., 1], from_x).clamp(0, width - 1)

    index = torch.arange(height * width, device=device).repeat(batch, 1)
    targets = torch.where(inside, hidden_y * width + hidden_x, (y * width + x)[..., None])
    index.scatter_(1, targets.flatten(1), (from_y * width + from_x).flatten(1))
    hidden = noisy.flatten(2).gather(2, index[:, None].expand(-1, channels, -1)).view_as(noisy)
    return hidden, chosen.view(batch, 1, height, width)


@dataclass(frozen=True)
class Noise2Void(Objective):
    """Predict hidden pixels from those around them: a network cannot predict noise that it has not seen.

    Krull, Buchholz and Jug, "Noise2Void - Learning Denoising from Single Noisy Images", CVPR 2019,
    https://arxiv.org/abs/1811.10980. Assumption: the noise has mean zero and is independent between pixels.
    With ``structure``, pixels that share the noise of the hidden one are hidden with it: Broaddus et al., "Removing
    Structured Noise with Self-Supervised Blind-Spot Networks", ISBI 2020,
    https://doi.org/10.1109/ISBI45749.2020.9098336. Then the noise must be independent beyond that area only.

    Attributes:
        structure: Rows and columns on each side of a pixel over which it shares its noise: [0, 0] for none, [0, 8] for
            stripes along the rows, [2, 2] for grain.
        cell: One pixel is hidden in each square of this side: more of them teach faster, and leave less around them.
        window: How far beyond the structure the values that hide pixels are taken from.
    """

    structure: tuple[int, ...] = (0, 0)
    cell: int = 4
    window: int = 2

    label = "Noise2Void"
    source = (
        "Krull et al., CVPR 2019, https://arxiv.org/abs/1811.10980; with `structure`: Broaddus et al., ISBI 2020, "
        "https://doi.org/10.1109/ISBI45749.2020.9098336"
    )
    assumption = (
        "The noise has mean zero and is independent between pixels that are farther apart than `structure` says (by "
        "default between all pixels)."
    )

    def __post_init__(self) -> None:
        if len(self.structure) != 2 or not all(0 <= reach <= 32 for reach in self.structure):
            raise ValueError(f"structure must be two numbers, rows and columns, 0 to 32, got {list(self.structure)}")
        if not 2 <= self.cell <= 64:
            raise ValueError(f"cell must be from 2 to 64, got {self.cell}")
        if not 1 <= self.window <= 32:
            raise ValueError(f"window must be from 1 to 32, got {self.window}")

    @property
    def needs_independent_pixels(self) -> bool:
        return not any(self.structure)

    @property
    def turns(self) -> bool:
        return self.structure[0] == self.structure[1]

    def error(
        self, network: Network, noisy: torch.Tensor, level: torch.Tensor, generator: torch.Generator
    ) -> torch.Tensor:
        cell = max(self.cell, 2 * max(self.structure) + 1)
        hidden, chosen = hide_pixels(noisy, cell, (self.structure[0], self.structure[1]), self.window, generator)
        error = (network(hidden, level) - noisy).square().mean(1, keepdim=True)
        return (error * chosen).sum((1, 2, 3)) / chosen.sum((1, 2, 3))

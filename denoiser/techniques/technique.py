"""What a technique is: a method, its parameters by rules, and one way to run it."""

import importlib.util
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from ..images.tiling import apply_tiled

TILE, MARGIN = 768, 64
"""Larger pictures are computed in tiles of this side with this margin, pixels, so that memory stays bounded."""


@dataclass(frozen=True)
class Parameter:
    """A parameter, and its rule: at a noise level it is base + slope * sigma, in steps and within its range.

    The constants are those that ``python -m benchmarks.tune_techniques`` prints for held-out photographs.

    Attributes:
        name: The argument of the method.
        label: For people.
        unit: For people.
        low: Lowest value.
        high: Highest value.
        step: Between values, counted from ``low``; 0 for any value.
        base: Of the rule.
        slope: Of the rule, per 8-bit unit of sigma.
    """

    name: str
    label: str
    unit: str
    low: float
    high: float
    step: float
    base: float
    slope: float = 0.0

    def at(self, sigma: float) -> float:
        """The value by the rule; ``sigma`` in 8-bit units."""
        return self.nearest(self.base + self.slope * sigma)

    def nearest(self, value: float) -> float:
        """The nearest value that the parameter can have."""
        value = min(max(value, self.low), self.high)
        return self.low + self.step * round((value - self.low) / self.step) if self.step else value


@dataclass(frozen=True)
class Technique:
    """A method.

    Attributes:
        name: How it is called for.
        label: What a person reads.
        family: "spatial", "variational", "transform", "non-local" or "learned".
        apply: Pixels (H, W, C), the noise level on their [0, 1] scale, and the parameters -> the same shape.
        parameters: With their rules.
        cost: What a pixel takes, in words.
        source: Where it was published.
        package: What it needs beyond this library's requirements, as it is imported; "" for nothing.
        principle: Two sentences; by default the first line of ``apply``'s docstring.
    """

    name: str
    label: str
    family: str
    apply: Callable[..., np.ndarray]
    parameters: tuple[Parameter, ...] = ()
    cost: str = ""
    source: str = ""
    package: str = ""
    principle: str = ""

    def __post_init__(self) -> None:
        if not self.principle:
            object.__setattr__(self, "principle", (self.apply.__doc__ or "").partition("\n")[0])

    @property
    def available(self) -> bool:
        """Whether its package is installed; if not, using it raises a DenoiserError that says how to install it."""
        return not self.package or importlib.util.find_spec(self.package) is not None

    def settings(self, sigma: float, moved: Mapping[str, float] | None = None) -> dict[str, float]:
        """All parameters at a noise level (8-bit units), by the rules but for those that the caller ``moved``.

        Raises:
            ValueError: There is no such parameter, or a value is out of range.
        """
        moved = moved or {}
        values = {parameter.name: parameter.at(sigma) for parameter in self.parameters}
        if unknown := moved.keys() - values.keys():
            raise ValueError(
                f"{self.name} has no parameter {', '.join(sorted(unknown))}; it has {', '.join(values) or 'none'}"
            )
        for parameter in self.parameters:
            if parameter.name in moved:
                value = moved[parameter.name]
                if not parameter.low <= value <= parameter.high:
                    raise ValueError(
                        f"{self.name}: {parameter.name} must be from {parameter.low:g} to {parameter.high:g}, "
                        f"got {value:g}"
                    )
                values[parameter.name] = parameter.nearest(value)
        return values

    def denoise(
        self,
        pixels: np.ndarray,
        sigma: float,
        progress: Callable[[float], object] | None = None,
        **parameters: float,
    ) -> np.ndarray:
        """Denoise pixels.

        Args:
            pixels: Float32 (H, W, C), C = 1 or 3, nominally in [0, 1].
            sigma: Standard deviation of the noise in 8-bit units (0..255).
            progress: Called with the share done, in (0, 1], after each tile; an exception it raises stops it.
            parameters: Those that are not to follow their rules.

        Returns:
            Float32, the same shape, not clipped.

        Raises:
            ValueError: A parameter is unknown or out of range.
            DenoiserError: Its package is missing.
        """
        values = self.settings(sigma, parameters)
        return apply_tiled(
            lambda tile: self.apply(tile, sigma / 255, **values).astype(np.float32), pixels, TILE, MARGIN, 1, progress
        )


def learned(denoiser: Callable[[np.ndarray, float], np.ndarray], name: str) -> Technique:
    """A checkpoint as a technique.

    Args:
        denoiser: A :class:`denoiser.Denoiser`, or whatever takes float pixels (H, W, C) and sigma in 8-bit units.
        name: Of the checkpoint.
    """
    return Technique(
        name,
        name,
        "learned",
        lambda pixels, sigma: denoiser(pixels, 255 * sigma),
        cost="the same for every pixel; see the table of checkpoints",
        source="https://www.cs.toronto.edu/~larocheh/publications/icml-2008-denoising-autoencoders.pdf",
        principle="A network that learned from photographs what pictures look like. Adapts its filter to each place; "
        "fails on noise unlike that of its training.",
    )

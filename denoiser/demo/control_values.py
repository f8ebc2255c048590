"""The state of the first tab's controls, which every computation of the page starts from."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..noise import NOISES
from .address import Address, write_address
from .checkpoint_picker import Selection
from .experiment_runner import ExperimentRunner
from .photo_parts import locate

PARAMETERS = [(noise.name, parameter) for noise in NOISES.values() for parameter in noise.parameters]
"""Of every noise, in the order of the page's sliders."""


@dataclass(frozen=True)
class ControlValues:
    """The values of :attr:`DenoiseLayout.controls`.

    Attributes:
        photo: Path of the upload; None without one.
        noisy_already: Whether no noise is added to it.
        noise: Name of the noise that is chosen.
        seed: Of the noise; None if the box is empty.
        selection: The checkpoint; None until one was chosen.
        sigma_mode: "known", "estimate" or "manual".
        sigma: The noise level for the network if it is chosen manually, 8-bit units.
        strength: 0 to 1.
        area: What is worked on, a value of :data:`denoiser.demo.photo_parts.AREAS`.
        part: Where the part is, as :func:`denoiser.demo.photo_parts.locate` reads it.
        levels: Of the sliders of all noises, in the order of ``PARAMETERS``.
    """

    photo: str | None
    noisy_already: bool
    noise: str
    seed: float | None
    selection: Selection | None
    sigma_mode: str
    sigma: float
    strength: float
    area: str
    part: str
    levels: tuple[float, ...]

    @classmethod
    def read(cls, values: Sequence[Any]) -> tuple["ControlValues", tuple]:
        """The values that begin ``values``, and what follows them."""
        single = len(dataclasses.fields(cls)) - 1
        end = single + len(PARAMETERS)
        return cls(*values[:single], levels=tuple(values[single:end])), tuple(values[end:])

    @property
    def degradation(self) -> dict[str, Any]:
        """The arguments ``noise``, ``parameters`` and ``seed`` of :meth:`ExperimentRunner.tune`."""
        chosen = [(one, level) for (name, one), level in zip(PARAMETERS, self.levels) if name == self.noise]
        return {
            "noise": None if self.noisy_already else self.noise,
            "parameters": {parameter.name: level for parameter, level in chosen},
            "seed": self.seed or 0,
        }

    @property
    def options(self) -> dict[str, Any]:
        """These and ``sigma`` and ``strength``, of :meth:`ExperimentRunner.run`."""
        sigma = self.sigma if self.sigma_mode == "manual" else self.sigma_mode
        return self.degradation | {"sigma": sigma, "strength": self.strength}

    def query(self, default: str, photo: str) -> str:
        """The address of the page with these controls, behind its ``?``.

        Args:
            default: See :meth:`DemoState.usual_checkpoint`.
            photo: See :attr:`Address.photo`.
        """
        chosen = self.selection.checkpoint if self.selection else default
        return write_address(
            Address(
                checkpoint="" if chosen == default else chosen,
                noise=self.noise,
                noisy_already=self.noisy_already,
                parameters=self.degradation["parameters"],
                seed=int(self.degradation["seed"]),
                sigma_mode=self.sigma_mode,
                sigma_given=self.sigma,
                strength=self.strength,
                photo=photo,
            )
        )

    def short_area(self, runner: ExperimentRunner) -> str:
        """What is worked on: the part instead of the whole of a photo that is too large to be computed at once."""
        return locate("part" if runner.is_long(self.photo, self.area) else self.area, self.part)

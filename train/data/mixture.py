"""Noise for training: one kind, or a mixture, drawn for each crop."""

import torch

from denoiser.noise import NOISES, TorchRandom

from ..config import ConfigError


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


class NoiseMixture:
    """A mixture of noises, each with ranges for its parameters.

    Args:
        components: As the configuration lists them: ``{kind: gaussian, sigma: [0, 55]}``, with ``share`` for the
            weight of each (1 if left out), and a number or a range for each parameter of the noise.

    Raises:
        ConfigError: An unknown noise or parameter, or a range outside the noise's own.
    """

    def __init__(self, components: tuple[dict, ...]):
        self._components = []
        for index, component in enumerate(components):
            where, given = f"noise[{index}]", dict(component)
            kind, share = given.pop("kind", None), given.pop("share", 1)
            if not isinstance(kind, str) or kind not in NOISES:
                raise ConfigError(f"{where}: unknown kind {kind!r}; there are: {', '.join(NOISES)}")
            if not (_is_number(share) and 1e-6 <= share <= 1e6):
                raise ConfigError(f"{where}: share must be a positive number, from 1e-06 to 1e+06, got {share!r}")
            ranges = {}
            for parameter in NOISES[kind].parameters:
                value = given.pop(parameter.name, parameter.default)
                bounds = value if isinstance(value, list) else [value, value]
                if len(bounds) != 2 or not all(map(_is_number, bounds)):
                    raise ConfigError(f"{where}: {parameter.name} must be a number or [low, high], got {value!r}")
                if not parameter.low <= bounds[0] <= bounds[1] <= parameter.high:
                    raise ConfigError(
                        f"{where}: {parameter.name} must rise within {parameter.low:g}..{parameter.high:g}, "
                        f"got {value!r}"
                    )
                ranges[parameter.name] = tuple(map(float, bounds))
            if given:
                raise ConfigError(f"{where}: {kind} has no parameter {', '.join(map(str, given))}")
            self._components.append((kind, float(share), ranges))
        self._shares = torch.tensor([share for _, share, _ in self._components])

    def midpoints(self) -> dict[str, tuple[str, dict[str, float]]]:
        """One fixed noise of each component, for validation: name -> kind and parameters amid their ranges."""
        midpoints = {}
        for kind, _, ranges in self._components:
            name = kind if kind not in midpoints else f"{kind} {len(midpoints) + 1}"
            midpoints[name] = kind, {parameter: (low + high) / 2 for parameter, (low, high) in ranges.items()}
        return midpoints

    def __call__(self, clean: torch.Tensor, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
        """Noisy crops and their noise levels.

        Args:
            clean: (B, C, H, W) in [0, 1].
            generator: On the device of ``clean``.

        Returns:
            The noisy crops, and each one's noise level (B,) on the scale of ``clean``: sigma itself for Gaussian noise,
            the standard deviation of what was added for the others.
        """
        # The component of each crop is drawn on the CPU: counting them on a GPU would make the step wait for it.
        drawn = torch.Generator().manual_seed(generator.initial_seed())
        choice = torch.multinomial(self._shares, len(clean), replacement=True, generator=drawn)
        noisy, level = clean.clone(), clean.new_zeros(len(clean))
        for index, (kind, _, ranges) in enumerate(self._components):
            places = (choice == index).nonzero().flatten()
            if not len(places):
                continue
            chosen = places.to(clean.device)
            crops = clean[chosen]
            values = {
                name: torch.rand(len(crops), 1, 1, 1, generator=generator, device=clean.device) * (high - low) + low
                for name, (low, high) in ranges.items()
            }
            noisy[chosen] = NOISES[kind].apply(crops, TorchRandom(generator), **values)
            if kind == "gaussian":
                level[chosen] = values["sigma"].flatten() / 255
            else:
                level[chosen] = (noisy[chosen] - crops).square().mean((1, 2, 3)).sqrt()
        return noisy, level

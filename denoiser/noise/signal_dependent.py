"""Noise whose variance depends on the picture: photons, sensors, speckle."""

from .random import Array, Random


def poisson(x: Array, random: Random[Array], peak: float) -> Array:
    """Photon (shot) noise: y = Poisson(peak * x) / peak.

    ``peak``: expected photons at white, 1..1000; fewer means noisier, the variance at x is x / peak.
    Source: Hasinoff, "Photon, Poisson Noise", Computer Vision: A Reference Guide, 2014.
    """
    return random.poisson(x.clip(0, None) * peak) / peak


def sensor(x: Array, random: Random[Array], gain: float, read: float) -> Array:
    """A camera sensor: 255 y = gain * Poisson(255 x / gain) + N(0, read^2).

    ``gain``: 8-bit levels per electron, 0.01..20 (rises with ISO); the shot variance at x is gain * x / 255.
    ``read``: read noise in 8-bit units, 0..50. Without tone curve or demosaicing: those come with camera pictures.
    Source: Foi et al., "Practical Poissonian-Gaussian Noise Modeling and Fitting for Single-Image Raw-Data", TIP 2008,
    https://doi.org/10.1109/TIP.2008.2001399
    """
    electrons = random.poisson(x.clip(0, None) * (255 / gain))
    return electrons * (gain / 255) + random.normal(x) * (read / 255)


def speckle(x: Array, random: Random[Array], sigma: float) -> Array:
    """Multiplicative noise: y = x + x * n, n ~ N(0, sigma^2).

    ``sigma``: standard deviation relative to the pixel's own value, 0..1. The simple model of radar and ultrasound
    speckle. Source: Gonzalez and Woods, 5.2; Goodman, "Some Fundamental Properties of Speckle", JOSA 1976.
    """
    return x * (1 + random.normal(x) * sigma)

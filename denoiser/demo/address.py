"""The settings of the page in its address, as ``?checkpoint=color-small&noise=gaussian&sigma=25&seed=3``.

Anyone may write an address: what is unknown is ignored, what is out of range is brought into it.
"""

import dataclasses
import math
import urllib.parse
from dataclasses import dataclass, field

from ..noise import NOISES
from ..noise.registry import Parameter

MAX_CHARACTERS, MAX_FIELDS = 2000, 40
NO_NOISE = "none"
"""The noise of a photo that is noisy already."""
OWN_PHOTO = "own"
"""The photo, where it is a visitor's own: no address holds one."""
SIGMA_MODES = ("known", "estimate", "manual")
GIVEN_SIGMA = Parameter("sigma_given", "Noise level", "8-bit levels", 0, 100, 25, 1)
STRENGTH = Parameter("strength", "Strength", "", 0, 1, 1, 0.05)
SEED = Parameter("seed", "Random seed", "", 0, 2**53, 0, 1)


@dataclass(frozen=True)
class Address:
    """What an address asks for; defaults for the rest.

    Attributes:
        checkpoint: As it is written, perhaps no name at all; "" for the page's default.
        noise: A name in ``NOISES``.
        noisy_already: Whether no noise is added.
        parameters: Of the noise, within their ranges.
        seed: Of the noise.
        sigma_mode: Where the network's noise level comes from.
        sigma_given: That level, if it is chosen by hand.
        strength: See :class:`denoiser.Denoiser`.
        photo: Name of an example; ``OWN_PHOTO``; "" for the first example.
    """

    checkpoint: str = ""
    noise: str = "gaussian"
    noisy_already: bool = False
    parameters: dict[str, float] = field(default_factory=dict)
    seed: int = 0
    sigma_mode: str = "known"
    sigma_given: float = 25.0
    strength: float = 1.0
    photo: str = ""


def parse_address(query: str) -> Address:
    """The settings in the part of an address that begins with ``?``."""
    try:
        pairs = urllib.parse.parse_qsl(str(query)[:MAX_CHARACTERS].removeprefix("?"), max_num_fields=MAX_FIELDS)
    except ValueError:
        pairs = []
    given = {name: value.strip() for name, value in reversed(pairs)}  # the first of a name counts
    noisy_already = given.get("noise") == NO_NOISE
    noise = given["noise"] if given.get("noise") in NOISES else "gaussian"
    sigma_mode = given["sigma_mode"] if given.get("sigma_mode") in SIGMA_MODES else "known"
    return Address(
        checkpoint=given.get("checkpoint", "")[:300],
        noise=noise,
        noisy_already=noisy_already,
        parameters={parameter.name: _number(given, parameter) for parameter in NOISES[noise].parameters},
        seed=int(_number(given, SEED)),
        sigma_mode="estimate" if noisy_already and sigma_mode == "known" else sigma_mode,
        sigma_given=_number(given, GIVEN_SIGMA),
        strength=_number(given, STRENGTH),
        photo=given.get("photo", "")[:300],
    )


def _number(given: dict[str, str], parameter: Parameter) -> float:
    """A parameter's value, in its range; its default if there is none or it is no number."""
    try:
        value = float(given.get(parameter.name, parameter.default))
    except ValueError:
        return parameter.default
    return min(max(value, parameter.low), parameter.high) if math.isfinite(value) else parameter.default


def write_address(address: Address) -> str:
    """The part of an address behind ``?`` from which :func:`parse_address` reads these settings; without defaults."""
    settings: dict[str, object] = {"checkpoint": address.checkpoint, "noise": address.noise}
    usual = dataclasses.asdict(Address())
    if address.noisy_already:
        settings["noise"], usual["sigma_mode"] = NO_NOISE, "estimate"
    else:
        settings |= address.parameters
        usual |= {parameter.name: parameter.default for parameter in NOISES[address.noise].parameters}
    settings |= {"seed": address.seed, "sigma_mode": address.sigma_mode}
    if address.sigma_mode == "manual":
        settings["sigma_given"] = address.sigma_given
        del usual["sigma_given"]
    settings |= {"strength": address.strength, "photo": address.photo}
    changed = {name: _text(value) for name, value in settings.items() if value != usual.get(name)}
    return urllib.parse.urlencode(changed, safe="/@")


def _text(value: object) -> str:
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)

"""Training without clean pictures: the methods by name. One file each, with its source and what it assumes."""

from ._base import IMPOSSIBLE, Network, Objective, score
from .neighbor2neighbor import Neighbor2Neighbor
from .noise2noise import Noise2Noise
from .noise2void import Noise2Void
from .sure import Sure

OBJECTIVES: dict[str, type[Objective]] = {
    "noise2noise": Noise2Noise,
    "neighbor2neighbor": Neighbor2Neighbor,
    "noise2void": Noise2Void,
    "sure": Sure,
}

__all__ = [
    "IMPOSSIBLE",
    "OBJECTIVES",
    "Neighbor2Neighbor",
    "Network",
    "Noise2Noise",
    "Noise2Void",
    "Objective",
    "Sure",
    "score",
]

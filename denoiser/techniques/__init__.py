"""Classical methods beside the networks, under one call form."""

from .comparison import Outcome, compare, sweep
from .registry import TECHNIQUES, apply_technique
from .technique import Parameter, Technique, learned

__all__ = ["TECHNIQUES", "Outcome", "Parameter", "Technique", "apply_technique", "compare", "learned", "sweep"]

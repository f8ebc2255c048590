"""Classical methods beside the networks, under one call form."""

from .registry import TECHNIQUES, Technique, apply_technique

__all__ = ["TECHNIQUES", "Technique", "apply_technique"]

"""Where the first versions had the folder of the bundled checkpoints: code that looks for it here goes on working."""

from .hub.checkpoints import BUNDLED

__all__ = ["BUNDLED"]

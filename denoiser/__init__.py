"""Image denoising with autoencoders.

from denoiser import Denoiser

denoiser = Denoiser.from_pretrained("color-base")
clean = denoiser("noisy.jpg")
"""

from ._hub import DEFAULT_CHECKPOINT, bundled_checkpoints
from .errors import (
    CheckpointGated,
    CheckpointInvalid,
    CheckpointNotFound,
    DenoiserError,
    HubUnreachable,
    ImageTooLarge,
    ImageUnreadable,
)
from .image import save as save_image
from .models import Bottleneck, Unet
from .noise import NOISES, add_noise
from .noise_level import estimate_sigma
from .pipeline import Denoiser

__version__ = "0.1.0"
__all__ = [
    "DEFAULT_CHECKPOINT",
    "NOISES",
    "Bottleneck",
    "CheckpointGated",
    "CheckpointInvalid",
    "CheckpointNotFound",
    "Denoiser",
    "DenoiserError",
    "HubUnreachable",
    "ImageTooLarge",
    "ImageUnreadable",
    "Unet",
    "add_noise",
    "bundled_checkpoints",
    "estimate_sigma",
    "save_image",
]

"""Image denoising with autoencoders.

from denoiser import Denoiser

denoiser = Denoiser.from_pretrained("color-base")
clean = denoiser("noisy.jpg")
"""

from .adaptation import adapt
from .analysis.noise_level import estimate_sigma
from .analysis.noise_model import PoissonGaussian
from .errors import (
    CannotPublish,
    CheckpointGated,
    CheckpointInvalid,
    CheckpointNotFound,
    DenoiserError,
    HubUnreachable,
    ImageTooLarge,
    ImageUnreadable,
)
from .hub.checkpoints import DEFAULT_CHECKPOINT, bundled_checkpoints
from .images.codecs import save_image
from .images.picture import read_frames
from .models import Bottleneck, Unet, register_architecture
from .name_clash import warn_if_name_clashes
from .noise import NOISES, add_noise
from .pipeline import Denoiser
from .tuning import tune

__version__ = "0.2.0"
__all__ = [
    "DEFAULT_CHECKPOINT",
    "NOISES",
    "Bottleneck",
    "CannotPublish",
    "CheckpointGated",
    "CheckpointInvalid",
    "CheckpointNotFound",
    "Denoiser",
    "DenoiserError",
    "HubUnreachable",
    "ImageTooLarge",
    "ImageUnreadable",
    "PoissonGaussian",
    "Unet",
    "adapt",
    "add_noise",
    "bundled_checkpoints",
    "estimate_sigma",
    "read_frames",
    "register_architecture",
    "save_image",
    "tune",
]

warn_if_name_clashes()

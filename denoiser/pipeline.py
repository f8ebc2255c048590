"""Denoiser: a picture in, a picture out, same kind, same size.

from denoiser import Denoiser

denoiser = Denoiser.from_pretrained("color-base")
clean = denoiser("noisy.jpg")
"""

import logging
import os
import platform
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from .analysis.clipping import undo_clipping
from .analysis.noise_level import estimate_sigma
from .download.checkpoint_files import MAX_WEIGHTS_BYTES
from .errors import CheckpointInvalid
from .hub.checkpoints import DEFAULT_CHECKPOINT, Checkpoint, find_checkpoint
from .images.picture import MAX_PIXELS, Picture, read
from .images.tiling import apply_tiled, computed_pixels
from .models import DenoisingAutoencoder, load_model

logger = logging.getLogger(__name__)

TILE = 768
"""Side of a tile's inner part. Pictures up to the area of a tile with its margins are computed whole."""
MARGIN = 64
"""Surroundings computed with each tile: what a pixel's estimate depends on beyond is below one 8-bit level."""


def _pick_device(device: str) -> torch.device:
    if device != "auto":
        return torch.device(device)
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def _pick_dtype(dtype: str | torch.dtype, device: torch.device, model: DenoisingAutoencoder) -> torch.dtype:
    """float32, or bfloat16 where the processor computes in it and the network loses nothing that shows."""
    if isinstance(dtype, str) and dtype != "auto":
        dtype = getattr(torch, dtype, None)
        if not isinstance(dtype, torch.dtype):
            raise ValueError("dtype must be 'auto', 'float32' or 'bfloat16'")
    if dtype != "auto":
        if dtype not in (torch.float32, torch.bfloat16):
            raise ValueError(f"dtype must be float32 or bfloat16, not {dtype}: float16 overflows to black pictures")
        return dtype
    if device.type == "cpu" and platform.machine().lower() in ("x86_64", "amd64"):
        # oneDNN says yes to any AVX-512, where bfloat16 is emulated and slower than float32.
        native = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    elif device.type == "cpu":
        native = torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported()
    else:
        native = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.bfloat16 if native and model.supports_bfloat16 else torch.float32


class Denoiser:
    """A loaded checkpoint that denoises pictures. Safe to share between threads: calls change nothing.

    Args:
        model: A network of :mod:`denoiser.models`. It is taken over: frozen and put into eval mode.
        device: "auto" (CUDA, then MPS, then CPU) or a torch device.
        dtype: "auto", "float32" or "bfloat16" (weights stay float32, convolutions run in bfloat16). Auto takes
            bfloat16 where the processor has it.
        self_ensemble: Average the estimates of the picture's eight flips and turns: a little better, eight times the
            time (Timofte et al., "Seven Ways to Improve Example-Based Single Image Super Resolution", CVPR 2016).
        name: What to call it in messages.
        revision: The Hub's commit it is of.
        note: What a person should know about how it was loaded.

    Attributes:
        revision: The Hub's commit the weights are of; None if they come from a folder or are bundled.
        note: Such as that a cached copy serves because the Hub did not answer; "" if there is nothing to say.
    """

    def __init__(
        self,
        model: DenoisingAutoencoder,
        device: str | torch.device = "auto",
        dtype: str | torch.dtype = "auto",
        self_ensemble: bool = False,
        name: str = "",
        revision: str | None = None,
        note: str = "",
    ):
        self.device = _pick_device(str(device))
        self.dtype = _pick_dtype(dtype, self.device, model)
        # channels_last is what fast convolution kernels want on every processor we have met.
        self.model = model.eval().requires_grad_(False).to(self.device, memory_format=torch.channels_last)
        self.self_ensemble = self_ensemble
        self.name, self.revision, self.note = name, revision, note

    @classmethod
    def from_pretrained(
        cls,
        name: str | Path = DEFAULT_CHECKPOINT,
        revision: str | None = None,
        token: str | bool | None = None,
        device: str | torch.device = "auto",
        dtype: str | torch.dtype = "auto",
        self_ensemble: bool = False,
        max_bytes: int = MAX_WEIGHTS_BYTES,
    ) -> "Denoiser":
        """Load a checkpoint.

        Args:
            name: A folder, a bundled checkpoint ("color-base") or a Hub id ("user/repo", "user/repo@revision"),
                tried in this order.
            revision: Branch, tag or commit on the Hub.
            token: For private repositories; False asks anonymously even if one is stored.
            device: See :class:`Denoiser`.
            dtype: See :class:`Denoiser`.
            self_ensemble: See :class:`Denoiser`.
            max_bytes: Larger weights are not downloaded.

        Raises:
            CheckpointNotFound, CheckpointGated, CheckpointInvalid, HubUnreachable: Each says what to do next.
        """
        return cls.from_checkpoint(find_checkpoint(name, revision, token, max_bytes), device, dtype, self_ensemble)

    @classmethod
    def from_checkpoint(
        cls,
        found: Checkpoint,
        device: str | torch.device = "auto",
        dtype: str | torch.dtype = "auto",
        self_ensemble: bool = False,
    ) -> "Denoiser":
        """Load a checkpoint that was found already."""
        if found.note:
            logger.warning("%s: %s", found.name, found.note)
        model = load_model(found.folder, label=found.name)
        return cls(model, device, dtype, self_ensemble, found.name, found.revision, found.note)

    @property
    def sigma_range(self) -> tuple[float, float]:
        """The noise levels the checkpoint was trained for, 8-bit units."""
        return self.model.config.sigma_range

    def __call__(
        self,
        image: str | os.PathLike | Image.Image | np.ndarray | torch.Tensor,
        sigma: float | None = None,
        strength: float = 1.0,
        progress: Callable[[float], object] | None = None,
        max_pixels: int = MAX_PIXELS,
    ):
        """Denoise a picture.

        Args:
            image: A path, a PIL image, a numpy array (H, W[, C]) of uint8, uint16 or float in [0, 1], or a torch
                tensor (H, W), (C, H, W) or (B, C, H, W) likewise. EXIF orientation is applied; alpha stays as it is.
            sigma: Standard deviation of the noise in 8-bit units (0..255); ``None`` estimates it. Blind checkpoints
                ("photo") do not need it and take no notice of it.
            strength: 0 keeps the picture, 1 takes the network's estimate; between them, a blend.
            progress: Called with the share done, in (0, 1].
            max_pixels: Refuse larger pictures.

        Noise that a file's range cut off is allowed for (:mod:`denoiser.analysis.clipping`): black stays black.

        Returns:
            The denoised picture: same kind (a PIL image for a path), size, depth and channel count. Floats are
            clipped to [0, 1].

        Raises:
            ImageUnreadable, ImageTooLarge: Each says what is wrong with the picture.
            ValueError: ``sigma`` or ``strength`` is out of range.
            CheckpointInvalid: The network's values overflow.
        """
        if isinstance(image, torch.Tensor) and image.ndim == 4:
            if not len(image):
                return image.clone()
            return torch.stack([self(one, sigma, strength, progress, max_pixels) for one in image])
        picture = read(image, max_pixels)
        return picture.restore(self.denoise_pixels(picture, sigma, strength, progress))

    def denoise_pixels(
        self,
        picture: Picture,
        sigma: float | None = None,
        strength: float = 1.0,
        progress: Callable[[float], object] | None = None,
    ) -> np.ndarray:
        """What ``__call__`` does between reading and restoring: float pixels (H, W, C), not clipped."""
        if not 0 <= strength <= 1:
            raise ValueError(f"strength must be from 0 to 1, got {strength:g}")
        if sigma is not None and not 0 <= sigma <= 255:
            raise ValueError(f"sigma must be from 0 to 255 (8-bit units) or None to estimate it, got {sigma:g}")
        pixels, channels = picture.pixels, self.model.config.channels
        level = None
        if not self.model.config.blind:
            level = (estimate_sigma(pixels) if sigma is None else float(sigma)) / 255
        if pixels.shape[2] == channels:
            restored = self._tiled(pixels, level, progress)
        elif channels == 3:  # a gray picture, a color network: three equal planes would be three times the same noise
            restored = self._tiled(pixels.repeat(3, axis=2), level, progress).mean(2, keepdims=True)
        else:  # a color picture, a gray network: each plane is a gray picture
            planes = []
            for plane in range(3):
                share = progress and (lambda done, plane=plane: progress((plane + done) / 3))
                planes.append(self._tiled(pixels[..., plane : plane + 1], level, share))
            restored = np.concatenate(planes, axis=2)
        if level:
            restored = undo_clipping(restored, pixels, level)
        if not np.isfinite(restored).all():  # weights can be finite and their products not
            raise CheckpointInvalid(
                f"{self.name or 'The network'} computes values that are not finite numbers: its weights are damaged or "
                "were never trained. Use another checkpoint."
            )
        return restored if strength == 1 else pixels + np.float32(strength) * (restored - pixels)

    def computed_pixels(self, height: int, width: int) -> int:
        """How many pixels the network computes for a picture, with padding and the margins of tiles: what it costs."""
        return computed_pixels(height, width, TILE, MARGIN, self.model.multiple)

    def _tiled(self, pixels: np.ndarray, level: float | None, progress) -> np.ndarray:
        return apply_tiled(lambda tile: self._infer(tile, level), pixels, TILE, MARGIN, self.model.multiple, progress)

    def _flipped(self, x: torch.Tensor, level: float | None, turns: int, flip: bool) -> torch.Tensor:
        """The estimate made of the picture turned by ``turns`` quarters and maybe flipped, turned back."""
        turned = torch.rot90(x.flip(3) if flip else x, turns, (2, 3))
        turned = self.model(turned.contiguous(memory_format=torch.channels_last), level).float()
        turned = torch.rot90(turned, -turns, (2, 3))
        return turned.flip(3) if flip else turned

    @torch.inference_mode()
    def _infer(self, pixels: np.ndarray, level: float | None) -> np.ndarray:
        # (H, W, C) in memory is channels_last already: no copy before the first convolution.
        x = torch.from_numpy(np.ascontiguousarray(pixels)).to(self.device).permute(2, 0, 1)[None]
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.dtype == torch.bfloat16):
            if self.self_ensemble:
                y = sum(self._flipped(x, level, turns, flip) for turns in range(4) for flip in (False, True)) / 8
            else:
                y = self.model(x, level)
        return y[0].float().permute(1, 2, 0).cpu().numpy()

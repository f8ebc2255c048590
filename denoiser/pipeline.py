"""The denoiser: picture in, picture out, of the same kind and size.

from denoiser import Denoiser

denoiser = Denoiser.from_pretrained("color-base")
clean = denoiser("noisy.jpg")
"""

import dataclasses
import functools
import itertools
import logging
import os
import platform
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar, overload

import numpy as np
import torch
from PIL import Image

from .analysis.clipping import undo_clipping
from .analysis.noise_level import estimate_sigma, is_graphic
from .analysis.weak_noise import limit_removal
from .download.checkpoint_files import MAX_WEIGHTS_BYTES
from .errors import CheckpointInvalid
from .hub.checkpoints import DEFAULT_CHECKPOINT, Checkpoint, find_checkpoint
from .images.alpha import fill_hidden
from .images.picture import MAX_PIXELS, Picture, read
from .images.tiling import apply_tiled, computed_pixels
from .models import DenoisingAutoencoder, load_model

_logger = logging.getLogger(__name__)


@functools.cache
def _survive_forks() -> None:
    """Let a forked child compute with one thread: OpenMP would wait forever for those that stayed with its parent."""
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=lambda: torch.set_num_threads(1))


ArrayLike = TypeVar("ArrayLike", np.ndarray, torch.Tensor)

TILE = 768
"""Side of a tile without its margin, pixels. Pictures up to the area of a tile with its margins are computed whole."""
MARGIN = 64
"""Margin of a tile, pixels. What lies beyond changes the estimate of a pixel by less than one 8-bit level."""


def _pick_device(device: str) -> torch.device:
    if device != "auto":
        try:
            torch.zeros(1, device=device)
        except (RuntimeError, AssertionError, NotImplementedError) as error:
            reason = str(error).splitlines()[0]
            raise ValueError(f"device {device!r} cannot be used here ({reason}): use 'auto' or 'cpu'") from error
        return torch.device(device)
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def _pick_dtype(dtype: str | torch.dtype, device: torch.device, model: DenoisingAutoencoder) -> torch.dtype:
    """float32, or bfloat16 where the device computes in it natively and the network supports it."""
    if dtype != "auto":
        chosen = getattr(torch, dtype, None) if isinstance(dtype, str) else dtype
        if not isinstance(chosen, torch.dtype):
            raise ValueError("dtype must be 'auto', 'float32' or 'bfloat16'")
        if chosen not in (torch.float32, torch.bfloat16):
            raise ValueError(f"dtype must be float32 or bfloat16, not {chosen}: float16 overflows to black pictures")
        return chosen
    if device.type == "cpu" and platform.machine().lower() in ("x86_64", "amd64"):
        # oneDNN reports support for any AVX-512, where bfloat16 is emulated and slower than float32.
        native = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    elif device.type == "cpu":
        native = torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported()
    else:
        native = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.bfloat16 if native and model.supports_bfloat16 else torch.float32


class Denoiser:
    """A loaded checkpoint that denoises pictures. Thread-safe: calls change no state.

    Args:
        model: A network of :mod:`denoiser.models`; it is modified: frozen and put into eval mode.
        device: "auto" (CUDA, then MPS, then CPU) or a torch device.
        dtype: "auto", "float32" or "bfloat16" (weights stay float32, convolutions run in bfloat16). Auto takes
            bfloat16 where the processor has it.
        self_ensemble: Average the estimates of the eight flips and rotations of the picture: slightly better, eight
            times the time (Timofte et al., "Seven Ways to Improve Example-Based Single Image Super Resolution", CVPR
            2016).
        name: Its name in messages.
        revision: Its commit on the Hub.
        note: What the user should know about how it was loaded.

    Attributes:
        revision: The commit of the weights on the Hub; None for a folder or a bundled checkpoint.
        note: Such as that a cached copy is used because the Hub did not answer; "" if there is none.
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
        _survive_forks()
        self.device: torch.device = _pick_device(str(device))
        self.dtype: torch.dtype = _pick_dtype(dtype, self.device, model)
        model = model.eval().requires_grad_(False).to(self.device)
        # Convolution kernels are fastest in channels_last, on CPU and GPU.
        self.model: DenoisingAutoencoder = model.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue] (not in torch's stubs)
        self.self_ensemble = self_ensemble
        self.name: str = name
        self.revision: str | None = revision
        self.note: str = note

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
            CheckpointNotFound, CheckpointGated, CheckpointInvalid, HubUnreachable: The message says what to do next.
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
        """Load a checkpoint that :func:`denoiser.hub.checkpoints.find_checkpoint` found."""
        if found.note:
            _logger.warning("%s: %s", found.name, found.note)
        model = load_model(found.folder, label=found.name)
        return cls(model, device, dtype, self_ensemble, found.name, found.revision, found.note)

    @property
    def sigma_range(self) -> tuple[float, float]:
        """The noise levels the checkpoint was trained for, 8-bit units."""
        return self.model.config.sigma_range

    @overload
    def __call__(
        self,
        image: str | os.PathLike[str] | Image.Image,
        sigma: float | None = None,
        strength: float = 1.0,
        progress: Callable[[float], object] | None = None,
        max_pixels: int = MAX_PIXELS,
    ) -> Image.Image: ...
    @overload
    def __call__(
        self,
        image: ArrayLike,
        sigma: float | None = None,
        strength: float = 1.0,
        progress: Callable[[float], object] | None = None,
        max_pixels: int = MAX_PIXELS,
    ) -> ArrayLike: ...
    def __call__(
        self,
        image: str | os.PathLike[str] | Image.Image | np.ndarray | torch.Tensor,
        sigma: float | None = None,
        strength: float = 1.0,
        progress: Callable[[float], object] | None = None,
        max_pixels: int = MAX_PIXELS,
    ) -> Image.Image | np.ndarray | torch.Tensor:
        """Denoise a picture.

        Args:
            image: A path, a PIL image, a numpy array (H, W[, C]) of uint8, uint16 or float in [0, 1], or a torch
                tensor (H, W), (C, H, W) or (B, C, H, W) likewise. EXIF orientation is applied; alpha stays as it is.
            sigma: Standard deviation of the noise in 8-bit units (0..255); ``None`` estimates it. Blind checkpoints
                ("photo") ignore it.
            strength: 0 keeps the picture, 1 is the estimate of the network; between them, a blend.
            progress: Called with the share done, in (0, 1].
            max_pixels: Larger pictures are refused.

        The bias of clipped noise is corrected (:mod:`denoiser.analysis.clipping`): black stays black.

        Returns:
            The denoised picture: same kind (a PIL image for a path), size, depth and channel count. Floats are
            clipped to [0, 1].

        Raises:
            ImageUnreadable, ImageTooLarge: The message says what is wrong with the picture.
            ValueError: ``sigma`` or ``strength`` is out of range.
            CheckpointInvalid: The network's values overflow.
        """
        if isinstance(image, torch.Tensor) and image.ndim == 4:
            if not len(image):
                return image.clone()
            return torch.stack([self(picture, sigma, strength, progress, max_pixels) for picture in image])
        picture = read(image, max_pixels)
        return picture.restore(self.denoise_pixels(picture, sigma, strength, progress))

    def denoise_pixels(
        self,
        picture: Picture,
        sigma: float | None = None,
        strength: float = 1.0,
        progress: Callable[[float], object] | None = None,
    ) -> np.ndarray:
        """Denoise a picture that was read: float pixels (H, W, C), not clipped. See ``__call__``."""
        if not 0 <= strength <= 1:
            raise ValueError(f"strength must be from 0 to 1, got {strength:g}")
        if sigma is not None and not 0 <= sigma <= 255:
            raise ValueError(f"sigma must be from 0 to 255 (8-bit units) or None to estimate it, got {sigma:g}")
        if picture.alpha is not None and not picture.alpha.all() and picture.alpha.any():
            hidden = picture.alpha == 0
            visible = dataclasses.replace(picture, pixels=fill_hidden(picture.pixels, hidden), alpha=None)
            restored = self.denoise_pixels(visible, sigma, strength, progress)
            return np.where(hidden[..., None], picture.pixels, restored)
        pixels, channels = picture.pixels, self.model.config.channels
        level = None
        if not self.model.config.blind:
            level = (estimate_sigma(picture) if sigma is None else float(sigma)) / 255
        elif is_graphic(pixels):  # a blind network takes its edges for noise
            return pixels
        if channels == 3 and pixels.shape[2] == 3 and (pixels == pixels[..., :1]).all():
            one = dataclasses.replace(picture, pixels=pixels[..., :1])  # gray in three planes: it stays gray
            return self.denoise_pixels(one, sigma, strength, progress).repeat(3, axis=2)
        if pixels.shape[2] == channels:
            restored = self._tiled(pixels, level, progress)
        elif channels == 3:  # a gray picture and a color network, which gets three equal planes
            restored = self._tiled(pixels.repeat(3, axis=2), level, progress).mean(2, keepdims=True)
        else:  # a color picture and a gray network: each plane is denoised as a gray picture
            planes = []
            for plane in range(3):
                share = progress and (lambda done, plane=plane: progress((plane + done) / 3))
                planes.append(self._tiled(pixels[..., plane : plane + 1], level, share))
            restored = np.concatenate(planes, axis=2)
        if level:
            restored = undo_clipping(restored, pixels, level, progress and (lambda: progress(1.0)))
        if level is not None:
            restored = limit_removal(restored, pixels, level, 1 / picture.maximum if picture.maximum > 1 else 0.0)
        if not np.isfinite(restored).all():  # finite weights can have products that are not finite
            raise CheckpointInvalid(
                f"{self.name or 'The network'} computes values that are not finite numbers: its weights are damaged or "
                "were never trained. Use another checkpoint."
            )
        return restored if strength == 1 else pixels + np.float32(strength) * (restored - pixels)

    def computed_pixels(self, height: int, width: int) -> int:
        """The number of pixels that the network computes for a picture, with padding and the margins of tiles."""
        return computed_pixels(height, width, TILE, MARGIN, self.model.multiple)

    def _tiled(self, pixels: np.ndarray, level: float | None, progress: Callable[[float], object] | None) -> np.ndarray:
        return apply_tiled(lambda tile: self._infer(tile, level), pixels, TILE, MARGIN, self.model.multiple, progress)

    def _flipped(self, x: torch.Tensor, level: float | None, turns: int, flip: bool) -> torch.Tensor:
        """The estimate of the pictures ``x`` (B, C, H, W), flipped or not and rotated by ``turns`` times 90 degrees."""
        rotated = torch.rot90(x.flip(3) if flip else x, turns, (2, 3))
        rotated = self.model(rotated.contiguous(memory_format=torch.channels_last), level).float()
        rotated = torch.rot90(rotated, -turns, (2, 3))
        return rotated.flip(3) if flip else rotated

    @torch.inference_mode()
    def _infer(self, pixels: np.ndarray, level: float | None) -> np.ndarray:
        # (H, W, C) in memory is channels_last: no copy before the first convolution.
        x = torch.from_numpy(np.ascontiguousarray(pixels)).to(self.device).permute(2, 0, 1)[None]
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.dtype == torch.bfloat16):
            if self.self_ensemble:
                y = torch.zeros_like(x)
                for turns, flip in itertools.product(range(4), (False, True)):
                    y += self._flipped(x, level, turns, flip) / 8
            else:
                y = self.model(x, level)
        return y[0].float().permute(1, 2, 0).cpu().numpy()

"""What a network computes for arrays: layout, planes, precision, and the mean over eight turned pictures."""

import itertools
from collections.abc import Callable

import numpy as np
import torch

Network = Callable[[torch.Tensor, torch.Tensor | None], torch.Tensor]
"""Noisy (B, C, H, W) in [0, 1] and the noise level on that scale -> the estimate."""


class Inference:
    """Calls a network on arrays.

    Args:
        network: What computes.
        channels: Of the pictures that it takes.
        multiple: What it pads height and width to a multiple of.
        device: Where it computes.
        dtype: torch.float32, or torch.bfloat16 for its convolutions.
        self_ensemble: Whether the estimates of the eight flips and rotations are averaged, see :class:`Denoiser`.
    """

    def __init__(
        self,
        network: Network,
        channels: int,
        multiple: int,
        device: torch.device,
        dtype: torch.dtype,
        self_ensemble: bool = False,
    ):
        self.network: Network = network
        self._channels, self._multiple, self._device, self._dtype = channels, multiple, device, dtype
        self._self_ensemble = self_ensemble

    @torch.inference_mode()
    def __call__(self, pixels: np.ndarray, level: np.ndarray | None) -> np.ndarray:
        """The network's estimate for (H, W, B, C) at noise levels (B,) or (H, W, B), on the scale of the pixels.

        A gray picture is three equal planes for a color network; each plane of a color one is a picture for a gray one.
        """
        height, width, batch, channels = pixels.shape
        # (H, W, 1, C) in memory is channels_last: no copy before the first convolution.
        x = torch.from_numpy(np.ascontiguousarray(pixels)).to(self._device).permute(2, 3, 0, 1)
        given = None if level is None else torch.from_numpy(np.ascontiguousarray(level)).to(self._device)
        given = given.permute(2, 0, 1)[:, None] if given is not None and given.ndim == 3 else given
        wanted = self._channels
        if channels < wanted:
            x = x.expand(batch, wanted, height, width)
        elif channels > wanted:
            x = x.reshape(batch * channels, wanted, height, width)
            given = None if given is None else given.repeat_interleave(channels, 0)
        # oneDNN's strided convolutions for AMX read beyond their input where the result is one pixel wide.
        narrow = min(height, width) <= self._multiple
        with torch.autocast(self._device.type, torch.bfloat16, enabled=self._dtype == torch.bfloat16 and not narrow):
            if self._self_ensemble:
                y = torch.zeros_like(x)
                for turns, flip in itertools.product(range(4), (False, True)):
                    y += self._flipped(x, given, turns, flip) / 8
            else:
                y = self.network(x.contiguous(memory_format=torch.channels_last), given)
        y = y.float().mean(1, keepdim=True) if channels < wanted else y.float().reshape(batch, channels, height, width)
        return np.ascontiguousarray(y.permute(2, 3, 0, 1).cpu().numpy())

    def _flipped(self, x: torch.Tensor, level: torch.Tensor | None, turns: int, flip: bool) -> torch.Tensor:
        """The estimate of the pictures ``x`` (B, C, H, W), flipped or not and rotated by ``turns`` times 90 degrees."""

        def turned(planes: torch.Tensor) -> torch.Tensor:
            return torch.rot90(planes.flip(3) if flip else planes, turns, (2, 3))

        level = turned(level) if level is not None and level.ndim == 4 else level
        rotated = self.network(turned(x).contiguous(memory_format=torch.channels_last), level).float()
        rotated = torch.rot90(rotated, -turns, (2, 3))
        return rotated.flip(3) if flip else rotated

"""The denoiser: picture in, picture out, of the same kind and size.

from denoiser import Denoiser

denoiser = Denoiser.from_pretrained("color-base")
clean = denoiser("noisy.jpg")
"""

import itertools
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import IO, TypeVar, overload

import numpy as np
import torch
from huggingface_hub import HfApi
from PIL import Image

from .analysis.noise_level import brighten
from .analysis.weak_noise import MIN_DISTANCE, NO_BLEND, make_probe
from .devices import pick_device, pick_dtype, survive_forks
from .download.checkpoint_files import CARD_FILE, MAX_WEIGHTS_BYTES
from .errors import CheckpointInvalid
from .export.openvino_network import OpenvinoNetwork
from .hub import card_text
from .hub.checkpoints import DEFAULT_CHECKPOINT, Checkpoint, find_checkpoint
from .hub.push import push, write_checkpoint
from .hub.push_checks import raise_explained
from .images.frame import Frame
from .images.picture import MAX_PIXELS, ImageLike, Picture, read
from .images.tiling import apply_tiled, computed_pixels
from .inference import Inference, Network
from .memory import SMALL_PIXELS, trim_memory
from .models import DenoisingAutoencoder, load_model
from .network_input import NetworkInput, Sigma, scaled, sigma_of_each

Same = TypeVar("Same", np.ndarray, torch.Tensor, Frame)

TILE = 768
"""Side of a square tile without its margin, pixels. Pictures up to its area with margins are computed whole."""
MARGIN = 96
"""Margin of a tile, pixels. What lies beyond changes the estimate of a pixel by less than one 8-bit level in float32;
in bfloat16 some values in a million round to two levels from those of the whole picture."""


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
        revision: The commit of the weights on the Hub; None for a folder or a bundled checkpoint.
        note: How it was loaded, such as that a cached copy is used because the Hub did not answer; else "".
        folder: Where its weights and its card are, if it was loaded.
        network: What computes in place of ``model``, on the processor, if not that itself.
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
        folder: Path | None = None,
        network: Network | None = None,
    ):
        survive_forks()
        self.device: torch.device = pick_device(str(device))
        self.dtype: torch.dtype = pick_dtype(dtype, self.device, model)
        model = model.eval().requires_grad_(False).to(self.device, torch.float32)
        # Convolution kernels are fastest in channels_last, on CPU and GPU.
        self.model: DenoisingAutoencoder = model.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue] (not in torch's stubs)
        self.self_ensemble = self_ensemble
        channels, multiple = model.config.channels, model.multiple
        self._infer = Inference(network or model, channels, multiple, self.device, self.dtype, self_ensemble)
        self.name: str = name
        self.revision: str | None = revision
        self.note: str = note
        self.folder: Path | None = folder

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
        backend: str = "torch",
    ) -> "Denoiser":
        """Load a checkpoint.

        Args:
            name: A folder, a bundled checkpoint ("color-base") or a Hub id ("user/repo", "user/repo@revision"),
                tried in this order.
            revision: Branch, tag or commit on the Hub.
            token: For private repositories; False asks anonymously even if one is stored.
            device, dtype, self_ensemble: See :class:`Denoiser`.
            max_bytes: Larger weights are not downloaded.
            backend: "torch" or "openvino", which is faster on processors without AMX, with the coarse levels in 8-bit
                integers (it loses at most 0.03 dB by them), and takes some seconds to load (docs/export.md).

        Raises:
            CheckpointNotFound, CheckpointGated, CheckpointInvalid, HubUnreachable: The message says what to do next.
            CannotExport: The backend is not installed.
        """
        found = find_checkpoint(name, revision, token, max_bytes)
        return cls.from_checkpoint(found, device, dtype, self_ensemble, backend)

    @classmethod
    def from_checkpoint(
        cls,
        found: Checkpoint,
        device: str | torch.device = "auto",
        dtype: str | torch.dtype = "auto",
        self_ensemble: bool = False,
        backend: str = "torch",
    ) -> "Denoiser":
        """Load a checkpoint that :func:`denoiser.hub.checkpoints.find_checkpoint` found: :meth:`from_pretrained`."""
        if found.note:
            logging.getLogger(__name__).warning("%s: %s", found.name, found.note)
        if backend not in ("torch", "openvino"):
            raise ValueError(f"backend must be 'torch' or 'openvino', got {backend!r}")
        model, network = load_model(found.folder, label=found.name), None
        if backend == "openvino":
            if str(device) not in ("auto", "cpu"):
                raise ValueError(f"the backend openvino computes on the processor, not on {device}")
            device, precision = "cpu", "f32" if str(dtype).removeprefix("torch.") == "float32" else ""
            network = OpenvinoNetwork.from_checkpoint(found, model.config.blind, precision)
        return cls(model, device, dtype, self_ensemble, found.name, found.revision, found.note, found.folder, network)

    def save_pretrained(self, folder: str | Path) -> None:
        """Write the checkpoint into a folder, which :meth:`from_pretrained` and ``python -m train.publish`` take.

        The card is that of the checkpoint it was loaded from, if the weights are still those; else one that says what
        the network is. Words that a person has written in the folder's card stay.

        Raises:
            ValueError: The folder's card is not UTF-8, or its metadata cannot be read.
            OSError: It cannot be written.
        """
        target = Path(os.path.expanduser(folder))
        existing = card_text.read(target / CARD_FILE) if (target / CARD_FILE).exists() else None
        self._write(target, target.resolve().name, existing)

    def push_to_hub(
        self,
        repo_id: str,
        *,
        private: bool = False,
        branch: str | None = None,
        tag: str | None = None,
        create_pr: bool = False,
        token: str | None = None,
        commit_message: str = "",
    ) -> str:
        """Push the checkpoint to the Hub, with its card, in one commit; see :meth:`save_pretrained`.

        Safe to repeat: a card that a person has edited keeps their words, and a push that changes nothing makes no
        commit.

        Args:
            repo_id: "user/name"; it is created if needed.
            private: Create it private.
            branch: Push to it; it is created if needed.
            tag: Tag the commit.
            create_pr: Open a pull request, in anyone's repository.
            token: By default the one that ``hf auth login`` stored, or HF_TOKEN.
            commit_message: By default "Upload NAME".

        Returns:
            The address of the commit or the pull request.

        Raises:
            CannotPublish: No token, no right to write, or a repository that holds something else.
            HubUnreachable: The Hub does not answer.
        """
        message = commit_message or f"Upload {self.name or type(self.model).__name__}"

        def fill(target: Path, existing: str | None) -> None:
            self._write(target, repo_id, existing)

        try:
            return push(HfApi(token=token), repo_id, fill, message, private, branch, tag, create_pr)
        except Exception as error:
            raise_explained(error, repo_id)

    def in_float32(self) -> "Denoiser":
        """The same in float32, of the same weights: what takes small differences of results, as SURE does, needs it."""
        if self.dtype == torch.float32 and self._infer.network is self.model:
            return self
        return Denoiser(
            self.model,
            self.device,
            torch.float32,
            self.self_ensemble,
            self.name,
            self.revision,
            self.note,
            self.folder,
        )

    def _write(self, target: Path, name: str, existing: str | None) -> None:
        source = self.folder and Checkpoint(self.name, self.folder, self.revision)
        write_checkpoint(self.model, source, target, name, existing)

    @property
    def sigma_range(self) -> tuple[float, float]:
        """The noise levels the checkpoint was trained for, 8-bit units."""
        return self.model.config.sigma_range

    def __repr__(self) -> str:
        config = self.model.config
        kind = f"{'gray' if config.channels == 1 else 'color'}, {'blind' if config.blind else 'noise level given'}"
        parameters = sum(parameter.numel() for parameter in self.model.parameters())
        ensemble = ", self-ensemble" * self.self_ensemble
        backend = ", by OpenVINO" * isinstance(self._infer.network, OpenvinoNetwork)
        return (
            f"<Denoiser {self.name or 'without a name'}: {config.architecture}, {kind}, {parameters / 1e6:.2f} million "
            f"parameters, {str(self.dtype).removeprefix('torch.')} on {self.device}{ensemble}{backend}>"
        )

    def __setstate__(self, state: dict[str, object]) -> None:
        self.__dict__.update(state)
        survive_forks()  # in a process that unpickled it

    @overload
    def __call__(
        self,
        image: str | os.PathLike[str] | IO[bytes] | Image.Image | Picture,
        sigma: Sigma = None,
        strength: float = 1.0,
        progress: Callable[[float], object] | None = None,
        max_pixels: int = MAX_PIXELS,
    ) -> Image.Image | Picture: ...
    @overload
    def __call__(
        self,
        image: Same,
        sigma: Sigma = None,
        strength: float = 1.0,
        progress: Callable[[float], object] | None = None,
        max_pixels: int = MAX_PIXELS,
    ) -> Same: ...
    def __call__(
        self,
        image: ImageLike,
        sigma: Sigma = None,
        strength: float = 1.0,
        progress: Callable[[float], object] | None = None,
        max_pixels: int = MAX_PIXELS,
    ) -> Image.Image | Frame | Picture | np.ndarray | torch.Tensor:
        """Denoise a picture.

        Args:
            image: A path or an open file, a frame of :func:`read_frames`, a :class:`Picture`, a PIL image, a numpy
                array (H, W[, C]) of uint8, uint16 or float with white 1, or a torch tensor (H, W), (C, H, W) or
                (B, C, H, W) likewise. EXIF orientation is applied; alpha stays as it is.
            sigma: The noise in 8-bit units (0..255): its standard deviation, a map of it (H, W), or a
                :class:`PoissonGaussian`; for a batch also one number or map for each picture. ``None`` estimates a
                level, or a model where the noise depends on the signal. Blind checkpoints ("photo") ignore it.
            strength: 0 keeps the picture, 1 is the estimate of the network; between them, a blend.
            progress: Called with the share done, in (0, 1]; an exception it raises stops the computation.
            max_pixels: Larger pictures are refused.

        The bias of clipped noise is corrected (:mod:`denoiser.analysis.clipping`): black stays black. Noise that
        depends on the signal is brought to one level and back (:mod:`denoiser.analysis.noise_model`): means stay.

        Returns:
            The denoised picture: same kind, size, depth and channel count. For a file it is a PIL image, or a
            :class:`Picture` where PIL has no such images (16-bit color); :func:`save_image` takes all. Floats are not
            clipped.

        Raises:
            ImageUnreadable, ImageTooLarge: The message says what is wrong with the picture.
            ValueError: ``sigma`` or ``strength`` is out of range or of another shape.
            CheckpointInvalid: The network's values overflow.
        """
        if isinstance(image, torch.Tensor) and image.ndim == 4:
            if not len(image):
                return image.clone()
            pictures = [read(one, max_pixels) for one in image]
            results = self._denoise(pictures, sigma, strength, progress, in_place=True)
            return torch.stack([picture.restore(pixels) for picture, pixels in zip(pictures, results)])  # pyright: ignore[reportArgumentType] (tensors, as the pictures were)
        picture = read(image, max_pixels)
        return picture.restore(self._denoise([picture], sigma, strength, progress, in_place=True)[0])

    def denoise_pixels(
        self,
        picture: Picture,
        sigma: Sigma = None,
        strength: float = 1.0,
        progress: Callable[[float], object] | None = None,
    ) -> np.ndarray:
        """Denoise a picture that was read: float pixels (H, W, C), not clipped. See ``__call__``."""
        return self._denoise([picture], sigma, strength, progress)[0]

    def noise_share(self, picture: Picture) -> float:
        """How much of a blind network's estimate for a picture is taken: 1 if it is noisy, 0 if it is clean."""
        bright, _ = brighten(picture)
        found = NetworkInput(bright, None, self._infer if self.model.config.blind else None)
        return 0.0 if found.clean else found.share

    def computed_pixels(self, height: int, width: int) -> int:
        """The number of pixels that the network computes for a picture, with padding and the margins of tiles."""
        return computed_pixels(height, width, TILE, MARGIN, self.model.multiple)

    def _denoise(
        self,
        pictures: list[Picture],
        sigma: Sigma,
        strength: float,
        progress: Callable[[float], object] | None,
        in_place: bool = False,
    ) -> list[np.ndarray]:
        """Denoised pixels of pictures of one size; ``in_place`` overwrites theirs, where nothing else needs them."""
        try:
            strength = float(strength)
        except (TypeError, ValueError, RuntimeError):  # a word, an array, a tensor of several values
            raise ValueError(f"strength must be one number, from 0 to 1, got {type(strength).__name__}") from None
        if not 0 <= strength <= 1:
            raise ValueError(f"strength must be from 0 to 1, got {strength:g}")
        height, width = pictures[0].pixels.shape[:2]
        sigmas = sigma_of_each(sigma, len(pictures), height, width)
        together = max(1, (TILE + 2 * MARGIN) ** 2 // (height * width))  # a batch needs no more memory than a tile
        blind = self._infer if self.model.config.blind else None
        results: list[np.ndarray] = []
        for start in range(0, len(pictures), together):
            some = [brighten(picture) for picture in pictures[start : start + together]]
            levels = [scaled(one, gain) for one, (_, gain) in zip(sigmas[start:], some)]
            inputs = [NetworkInput(one, level, blind) for (one, _), level in zip(some, levels)]
            for (clean, _), group in itertools.groupby(inputs, lambda one: (one.clean, one.pixels.shape)):
                alike = list(group)
                if clean:
                    results += [one.restore(one.pixels if in_place else one.pixels.copy()) for one in alike]
                    if progress:
                        progress(len(results) / len(pictures))
                    continue
                first, share = len(results) / len(pictures), len(alike) / len(pictures)
                report = progress and (lambda done, first=first, share=share: progress(first + share * done))
                results += self._denoise_alike(alike, strength, report, in_place)
            for result, one, picture, (_, gain) in zip(results[start:], inputs, pictures[start:], some):
                if gain != 1:
                    result /= np.float32(gain)
                if one.hidden is not None:
                    np.copyto(result, picture.pixels, where=one.hidden[..., None])
        return results

    def _denoise_alike(
        self, inputs: list[NetworkInput], strength: float, progress: Callable[[float], object] | None, in_place: bool
    ) -> list[np.ndarray]:
        """Denoised pixels of inputs of one shape, computed as one batch (H, W, B, C)."""
        pixels = _as_batch([one.pixels for one in inputs])
        levels = [np.float32(one.level) for one in inputs if one.level is not None]  # none for a blind network
        maps: list[np.ndarray] = []
        if any(np.ndim(level) for level in levels):
            maps = [np.stack([np.broadcast_to(level, pixels.shape[:2]) for level in levels], axis=2)]
        place = [np.broadcast_to(axis, pixels.shape[:2]) for axis in np.ogrid[: pixels.shape[0], : pixels.shape[1]]]

        def denoise_tile(noisy: np.ndarray, rows: np.ndarray, columns: np.ndarray, *parts: np.ndarray) -> np.ndarray:
            given = _as_batch([one.stabilize(noisy[:, :, index]) for index, one in enumerate(inputs)])
            known = parts[0] if parts else np.array(levels) if levels else None
            estimate = self._infer(given, known)
            change = None
            if known is not None and known.min() < NO_BLEND:
                probe, level = make_probe(given, rows[:, 0], columns[0]), known[..., None]
                distance = np.maximum(level / 4, MIN_DISTANCE)
                change = level / distance * probe * (self._infer(given + distance * probe, known) - estimate)
            if not np.isfinite(estimate).all():  # finite weights can have products that are not finite
                raise CheckpointInvalid(
                    f"{self.name or 'The network'} computes values that are not finite numbers: its weights are "
                    "damaged or were never trained. Use another checkpoint."
                )
            corrected: list[np.ndarray] = []
            for index, one in enumerate(inputs):
                level = None if known is None else known[..., index]
                moved = None if change is None else change[:, :, index]
                before, tile = noisy[:, :, index], given[:, :, index]
                corrected.append(one.correct(estimate[:, :, index], tile, level, moved, before))
            estimate = _as_batch(corrected)
            return estimate if strength == 1 else noisy + np.float32(strength) * (estimate - noisy)

        denoised = apply_tiled(
            denoise_tile, pixels, TILE, MARGIN, self.model.multiple, progress, place + maps, in_place
        )
        if pixels.shape[0] * pixels.shape[1] > SMALL_PIXELS:
            trim_memory()  # what tiles took, before the result takes its own
        return [one.restore(denoised[:, :, index]) for index, one in enumerate(inputs)]


def _as_batch(pictures: list[np.ndarray]) -> np.ndarray:
    """Pictures (H, W, ...) as (H, W, B, ...), without a copy of a single one."""
    return pictures[0][:, :, None] if len(pictures) == 1 else np.stack(pictures, axis=2)

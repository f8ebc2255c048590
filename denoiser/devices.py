"""Where and in which precision to compute."""

import functools
import os
import platform

import torch

from .models import DenoisingAutoencoder


@functools.cache
def survive_forks() -> None:
    """Let a forked child compute with one thread: OpenMP would wait forever for those that stayed with its parent."""
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=lambda: torch.set_num_threads(1))


def pick_device(device: str) -> torch.device:
    """The device of this name; "auto" is CUDA, then MPS, then the processor.

    Raises:
        ValueError: It cannot be used here.
    """
    if device != "auto":
        try:
            torch.zeros(1, device=device).cpu()  # "meta" has no values
        except (RuntimeError, AssertionError, NotImplementedError) as error:
            reason = str(error).splitlines()[0].partition(". ")[0]
            raise ValueError(f"device {device!r} cannot be used here ({reason}): use 'auto' or 'cpu'") from error
        return torch.device(device)
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def pick_dtype(dtype: str | torch.dtype, device: torch.device, model: DenoisingAutoencoder) -> torch.dtype:
    """float32, or bfloat16 where the device computes in it natively and the network supports it."""
    if dtype != "auto":
        chosen = getattr(torch, dtype, None) if isinstance(dtype, str) else dtype
        if not isinstance(chosen, torch.dtype):
            raise ValueError("dtype must be 'auto', 'float32' or 'bfloat16'")
        if chosen not in (torch.float32, torch.bfloat16):
            why = ": it overflows to black pictures" if chosen == torch.float16 else ""
            raise ValueError(f"dtype must be float32 or bfloat16, not {chosen}{why}")
        return chosen
    if device.type == "cpu" and platform.machine().lower() in ("x86_64", "amd64"):
        # oneDNN reports support for any AVX-512, where bfloat16 is emulated and slower than float32.
        native = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    elif device.type == "cpu":
        native = torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported()
    else:
        native = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.bfloat16 if native and model.supports_bfloat16 else torch.float32

"""A convolution with what follows it in one pass, where oneDNN can: in bfloat16 a pass over the features costs nearly
as much as a convolution. For inference on x86 processors; elsewhere, and for training and export, the plain steps.
"""

import platform

import torch
import torch.nn.functional as F
from torch import nn

_AVAILABLE = (
    platform.machine().lower() in ("x86_64", "amd64")
    and torch.backends.mkldnn.is_available()
    and hasattr(torch.ops.mkldnn, "_convolution_pointwise_")
)
_FLOATS = (torch.float32, torch.bfloat16)


def conv_relu(conv: nn.Conv2d, x: torch.Tensor) -> torch.Tensor:
    """relu(conv(x)) for (B, C, H, W)."""
    if not _can_fuse(conv, x):
        return F.relu(conv(x), inplace=True)
    x, weight, bias = _operands(conv, x)
    return torch.ops.mkldnn._convolution_pointwise(x, weight, bias, *_geometry(conv), "relu", [], None)


def add_conv(x: torch.Tensor, conv: nn.Conv2d, features: torch.Tensor) -> torch.Tensor:
    """x + conv(features), of one shape (B, C, H, W). Where it is fused it overwrites ``x``."""
    if not _can_fuse(conv, features) or x.dtype != _dtype(features):
        return conv(features).add_(x)
    features, weight, bias = _operands(conv, features)
    add = torch.ops.mkldnn._convolution_pointwise_.binary
    return add(x, features, weight, bias, *_geometry(conv), "add", 1.0, None, [], None)


def _can_fuse(conv: nn.Conv2d, x: torch.Tensor) -> bool:
    # Gradients need what would be overwritten; a compiler fuses by itself; hooks wait for a call of the module.
    if torch.compiler.is_compiling() or not torch.is_inference_mode_enabled() or conv._forward_hooks:
        return False
    usable = _AVAILABLE and torch.backends.mkldnn.enabled  # pyright: ignore[reportAttributeAccessIssue]
    return usable and x.device.type == "cpu" and x.numel() > 0 and _dtype(x) in _FLOATS


def _dtype(x: torch.Tensor) -> torch.dtype:
    """The dtype that a convolution of ``x`` computes in."""
    return torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else x.dtype


def _operands(conv: nn.Conv2d, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
    dtype = _dtype(x)
    return x.to(dtype), conv.weight.to(dtype), None if conv.bias is None else conv.bias.to(dtype)


def _geometry(conv: nn.Conv2d) -> tuple:
    return conv.padding, conv.stride, conv.dilation, conv.groups

"""A device that is not the CPU, for machines without one: ``toy``.

Every operation on its tensors really runs (on the CPU, behind the scenes), but PyTorch takes it for another device: a
tensor has to be brought there, and one that was left on the CPU by mistake cannot meet one that is there.
``OPERATIONS`` lists what ran there. Registered for the whole process and for good, so for a process of its own.
"""

import torch
from torch.utils._pytree import tree_leaves, tree_map
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

OPERATIONS: list[str] = []
LIBRARY = torch.library.Library("_", "IMPL")


class OnDevice(torch.Tensor):
    """A tensor of the device; ``content`` is what it holds, as a tensor of the CPU."""

    @staticmethod
    def __new__(cls, content: torch.Tensor):
        tensor = torch.Tensor._make_wrapper_subclass(
            cls,
            content.size(),
            strides=content.stride(),
            storage_offset=content.storage_offset(),
            dtype=content.dtype,
            device="toy:0",
        )
        tensor.content = content
        return tensor

    @classmethod
    def __torch_dispatch__(cls, operation, types, args=(), kwargs=None):
        return _run(operation, *args, **(kwargs or {}))


def _run(operation, *args, **kwargs):
    name = str(operation)
    OPERATIONS.append(name)

    def inner(value):
        if isinstance(value, OnDevice):
            return value.content
        if isinstance(value, torch.Tensor) and value.ndim and "copy" not in name:
            raise RuntimeError(f"{name}: a tensor {tuple(value.shape)} of the CPU meets one of the device")
        return torch.device("cpu") if isinstance(value, torch.device) else value

    given = {id(value.content): value for value in tree_leaves((args, kwargs)) if isinstance(value, OnDevice)}
    result = operation(*tree_map(inner, args), **tree_map(inner, kwargs))
    if "copy" in name and kwargs.get("device") == torch.device("cpu"):
        return result

    def outer(value):
        """What was changed in place is the tensor it was; what is new lies on the device."""
        return given.get(id(value), OnDevice(value)) if isinstance(value, torch.Tensor) else value

    return tree_map(outer, result)


def register() -> None:
    """Make ``torch.device("toy")`` a device. Its random draws come from generators of the CPU."""
    _setup_privateuseone_for_python_backend("toy")
    LIBRARY.fallback(_run, "PrivateUse1")

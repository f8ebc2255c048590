"""Memory that is given back: what one picture took must not stay with the process.

With the GNU C library; elsewhere nothing is done.
"""

import ctypes
from collections.abc import MutableMapping

PRIMITIVES = "64"
"""Kernels that oneDNN keeps prepared, one for each layer and size: every photo brings new ones. Its default is 1024."""
ARENAS = 2
"""Heaps of the allocator. Its default is eight for each core, each with holes of its own."""
_M_ARENA_MAX = -8


def limit_memory(environ: MutableMapping[str, str]) -> None:
    """Bound what stays behind; call it before anything is computed. What the host has set stays."""
    environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", PRIMITIVES)
    if function := _glibc("mallopt"):
        function(_M_ARENA_MAX, ARENAS)


def trim_memory() -> None:
    """Give what is free back to the system."""
    if function := _glibc("malloc_trim"):
        function(0)


def _glibc(name: str):
    """A function of the C library, or None where it has no such function."""
    try:
        return getattr(ctypes.CDLL(None), name, None)
    except (OSError, TypeError):  # Windows
        return None

"""Memory of the process: what the next picture needs again stays, the rest that a picture took is given back.

With the GNU C library; elsewhere nothing is done.
"""

import ctypes
from collections.abc import MutableMapping

PRIMITIVES = "256"
"""Kernels that oneDNN keeps prepared, some two for each layer and size: every photo brings new ones, and a slider that
moves needs those of two sizes. Its default is 1024."""
ARENAS = 2
"""Heaps of the allocator. Its default is eight for each core, each with holes of its own."""
LARGE, KEPT = 32_000_000, 256_000_000
"""Bytes of a block that comes from the system itself, and free ones that stay for the next picture until
:func:`trim_memory`. By default most blocks come anew for each picture, which slows the network down."""
SMALL_PIXELS = 1_000_000
"""The memory that a picture of so many takes stays with the process: to have it back costs the next one 20 ms."""
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8


def limit_memory(environ: MutableMapping[str, str]) -> None:
    """Bound what stays behind; call it before anything is computed. What the host has set stays."""
    environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", PRIMITIVES)
    if function := _glibc("mallopt"):
        for parameter, value in ((_M_ARENA_MAX, ARENAS), (_M_MMAP_THRESHOLD, LARGE), (_M_TRIM_THRESHOLD, KEPT)):
            function(parameter, value)


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

"""OpenMP's teams of threads: only the thread that computes has one.

Each thread that has computed with torch keeps a team of as many threads as there are cores. Where that makes more
threads than cores in all, GNU's OpenMP lets a team sleep between two layers of a network instead of waiting awake, and
to wake it takes longer than many a layer.
"""

import ctypes
import functools


def release_team() -> None:
    """End the team of the calling thread. A new one takes 0.2 ms; with another OpenMP nothing is done."""
    if library := _openmp():
        library.omp_pause_resource_all(1)  # omp_pause_soft


@functools.cache
def _openmp() -> ctypes.CDLL | None:
    """GNU's OpenMP, as torch has loaded it by this name."""
    try:
        library = ctypes.CDLL("libgomp.so.1")
    except OSError:
        return None
    return library if hasattr(library, "omp_pause_resource_all") else None  # since GCC 9

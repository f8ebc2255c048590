"""Colors under full transparency: nobody sees them, so they must not reach what is seen."""

import numpy as np
from scipy.ndimage import distance_transform_edt


def fill_hidden(pixels: np.ndarray, hidden: np.ndarray) -> np.ndarray:
    """Replace hidden pixels by the visible ones mirrored at the edge, which have the same texture and the same noise.

    Args:
        pixels: (H, W, C).
        hidden: Boolean (H, W), not all true.

    Returns:
        The same shape; where the mirrored pixel is hidden too, the nearest visible one is taken.
    """
    rows, columns = np.asarray(distance_transform_edt(hidden, return_distances=False, return_indices=True))
    mirrored = []
    for axis, nearest in enumerate((rows, columns)):
        own = np.arange(hidden.shape[axis]).reshape((-1, 1) if axis == 0 else (1, -1))
        mirrored.append(np.clip(2 * nearest - own, 0, hidden.shape[axis] - 1))
    seen = ~hidden[mirrored[0], mirrored[1]]
    return pixels[np.where(seen, mirrored[0], rows), np.where(seen, mirrored[1], columns)]

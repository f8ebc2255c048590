"""How near the estimate of the noise level comes.

python -m benchmarks.noise_level --data data/cbsd68 --every 8
"""

import argparse
import io

import numpy as np
from PIL import Image

from denoiser import add_noise, estimate_sigma
from train.data import find_images
from train.evaluate import load_clean

from .clipping import rounded

CASES = [
    *(("gaussian", {"sigma": sigma}) for sigma in (0, 5, 15, 25, 50)),
    ("poisson", {"peak": 60}),
    ("sensor", {"gain": 3, "read": 6}),
    ("correlated", {"sigma": 15, "grain": 0.7}),
    ("camera", {"sigma": 8}),
]


def through_jpeg(pixels: np.ndarray) -> np.ndarray:
    """Saved as JPEG at quality 95 and opened again."""
    buffer = io.BytesIO()
    Image.fromarray((rounded(pixels) * 255).astype(np.uint8)).save(buffer, "JPEG", quality=95)
    return np.asarray(Image.open(buffer), dtype=np.float32) / 255


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.noise_level", description="The estimated noise level.")
    parser.add_argument(
        "--data", required=True, nargs="+", help="clean pictures: folders, tar files, hf://datasets/..."
    )
    parser.add_argument("--every", type=int, default=1, help="take every n-th picture")
    options = parser.parse_args()
    pictures = [load_clean(source, 3) for source in find_images(options.data)[:: options.every]]
    print(f"{len(pictures)} pictures; mean and standard deviation of the estimates\n")
    print("| noise | added | as it is | as an 8-bit file | as a JPEG | grey, as it is |")
    print("| --- | --- | --- | --- | --- | --- |")
    for kind, parameters in CASES:
        noisy = [add_noise(picture, kind, index, **parameters) for index, picture in enumerate(pictures)]
        added = np.mean([np.sqrt(np.mean((a - b) ** 2)) * 255 for a, b in zip(noisy, pictures)])
        gray = [
            add_noise(picture.mean(2, keepdims=True), kind, index, **parameters)
            for index, picture in enumerate(pictures)
        ]
        columns = [noisy, [rounded(one) for one in noisy], [through_jpeg(one) for one in noisy], gray]
        levels = [[estimate_sigma(one) for one in column] for column in columns]
        label = ", ".join([kind, *(f"{name} {value:g}" for name, value in parameters.items())])
        cells = " | ".join(f"{np.mean(column):.1f} ± {np.std(column):.1f}" for column in levels)
        print(f"| {label} | {added:.1f} | {cells} |", flush=True)


if __name__ == "__main__":
    main()

"""Write a photo with the simulated noise of a finished camera photograph: how harbour-noisy.jpg is made.

python examples/simulate_noise.py examples/harbour.jpg -o examples/harbour-noisy.jpg
"""

import argparse

import numpy as np
from PIL import Image

from denoiser import add_noise


def main() -> None:
    """Read a photo, take its middle, add noise, write it."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("photo", help="a clean photo")
    parser.add_argument("-o", "--output", required=True, help="a JPEG file")
    parser.add_argument("--size", type=int, nargs=2, default=(576, 432), help="width and height (default 576 432)")
    parser.add_argument("--sigma", type=float, default=20, help="brightness noise at mid-gray, 0..50 (default 20)")
    parser.add_argument("--seed", type=int, default=0, help="of the noise (default 0)")
    options = parser.parse_args()
    try:
        with Image.open(options.photo) as opened:
            image = opened.convert("RGB")
        width, height = (min(side, limit) for side, limit in zip(image.size, options.size))
        left, top = (image.width - width) // 2, (image.height - height) // 2
        clean = np.asarray(image.crop((left, top, left + width, top + height)), np.float32) / 255
        noisy = add_noise(clean, "camera", options.seed, sigma=options.sigma)
        Image.fromarray(np.rint(noisy.clip(0, 1) * 255).astype(np.uint8)).save(options.output, quality=90)
    except (OSError, ValueError) as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()

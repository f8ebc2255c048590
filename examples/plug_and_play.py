"""Deblur a picture with a denoiser as the prior: plug-and-play, with deepinv.

    pip install deepinv  # beside torch's small build first torchvision, see docs/library.md
    python examples/plug_and_play.py examples/temple.jpg -o restored.png

A network from this package is a denoiser as deepinv wants one: ``model(x, sigma)`` with pictures (B, C, H, W) in [0, 1]
and sigma on that scale. No adapter stands between them.

The method is DPIR (Zhang et al., "Plug-and-Play Image Restoration with Deep Denoiser Prior", TPAMI 2021,
https://arxiv.org/abs/2008.13751): data-fidelity steps and denoising steps alternate while the noise level falls.
"""

import argparse
from pathlib import Path

import deepinv
import numpy as np
import torch
from PIL import Image

from denoiser import Denoiser
from denoiser.analysis.metrics import psnr


def main() -> None:
    """Measure the picture, restore it, and say how well that went."""
    parser = argparse.ArgumentParser(description="Blur a picture, add noise, and restore it by plug-and-play.")
    parser.add_argument("picture", type=Path)
    parser.add_argument("-o", "--output", type=Path, default=Path("restored.png"))
    parser.add_argument("--checkpoint", default="color-base", help="bundled, a folder, or user/repo on the Hub")
    parser.add_argument("--blur", type=float, default=2.0, help="standard deviation of the blur, pixels (default 2)")
    parser.add_argument("--sigma", type=float, default=2.0, help="standard deviation of the noise, 0..255 (default 2)")
    options = parser.parse_args()

    network = Denoiser.from_pretrained(options.checkpoint).model
    with Image.open(options.picture) as image:
        clean = np.asarray(image.convert("RGB"), np.float32) / 255
    x = torch.from_numpy(clean).permute(2, 0, 1)[None]

    # What was measured: blurred (around the edges, as the Fourier transform does) and noisy.
    torch.manual_seed(0)
    physics = deepinv.physics.BlurFFT(
        img_size=tuple(x.shape[1:]),
        filter=deepinv.physics.functional.blur.gaussian_blur(sigma=(options.blur, options.blur)),
        noise_model=deepinv.physics.GaussianNoise(sigma=options.sigma / 255),
    )
    with torch.no_grad():
        measured = physics(x)
        restored = deepinv.optim.DPIR(sigma=options.sigma / 255, denoiser=network)(measured, physics)

    for name, picture in (("blurred and noisy", measured), ("restored", restored)):
        pixels = picture[0].permute(1, 2, 0).clamp(0, 1).numpy()
        print(f"{name}: {psnr(clean, np.rint(pixels * 255) / 255):.2f} dB")
    Image.fromarray(np.rint(pixels * 255).astype(np.uint8)).save(options.output)
    print(f"written to {options.output}")


if __name__ == "__main__":
    main()

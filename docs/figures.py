"""Make the figures of README and docs/ from the example photographs and the bundled checkpoints.

    python docs/figures.py
    python docs/figures.py --output somewhere

The same checkpoints give the same figures: noise has seed 0 and the networks compute in float32 on the processor.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from PIL import Image, ImageDraw, ImageFont

from denoiser import Denoiser, add_noise
from denoiser.analysis.metrics import psnr

ROOT = Path(__file__).parent.parent
CROPS = {"temple": (272, 176), "classroom": (240, 200)}
"""Left and top of the part that is shown of each photograph."""
SIDE = 192
GAIN = 4


def load(name: str) -> np.ndarray:
    """A part of an example photograph, float32 (SIDE, SIDE, 3) in [0, 1]."""
    left, top = CROPS[name]
    with Image.open(ROOT / "examples" / f"{name}.jpg") as image:
        part = image.convert("RGB").crop((left, top, left + SIDE, top + SIDE))
    return np.asarray(part, np.float32) / 255


def denoise(checkpoint: str, noisy: np.ndarray, sigma: float) -> np.ndarray:
    """The estimate in [0, 1], of the same shape; ``sigma`` in 8-bit units."""
    return Denoiser.from_pretrained(checkpoint, device="cpu", dtype="float32")(noisy, sigma)


def difference(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """first - second, times ``GAIN``, around mid-gray."""
    return 0.5 + GAIN * (first - second)


def strip(columns: list[tuple[str, np.ndarray]], path: Path) -> None:
    """Pictures (SIDE, SIDE, 3) side by side, each with its caption below."""
    gap, line = 6, 24
    sheet = Image.new("RGB", (len(columns) * (SIDE + gap) - gap, SIDE + line), "white")
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(size=13)
    for index, (caption, pixels) in enumerate(columns):
        left = index * (SIDE + gap)
        sheet.paste(Image.fromarray(np.rint(pixels.clip(0, 1) * 255).astype(np.uint8)), (left, 0))
        draw.text((left + SIDE / 2, SIDE + line / 2), caption, fill="#334155", font=font, anchor="mm")
    sheet.save(path, quality=85, subsampling=0)


def denoise_figure(path: Path) -> None:
    """Clean, noisy, denoised, and what was removed."""
    clean = load("temple")
    noisy = add_noise(clean, "gaussian", seed=0, sigma=25)
    restored = denoise("color-base", noisy, 25)
    strip(
        [
            ("clean", clean),
            (f"noisy, {psnr(clean, noisy):.2f} dB", noisy),
            (f"denoised, {psnr(clean, restored):.2f} dB", restored),
            (f"removed, x{GAIN}", difference(noisy, restored)),
        ],
        path,
    )


def missing_figure(path: Path) -> None:
    """What each of two networks lost of the same noisy picture: edges, corners and texture."""
    clean = load("classroom")
    noisy = add_noise(clean, "gaussian", seed=0, sigma=50)
    columns = [("clean", clean), (f"noisy, {psnr(clean, noisy):.2f} dB", noisy)]
    for checkpoint in ("bottleneck-color", "color-base"):
        restored = denoise(checkpoint, noisy, 50)
        columns.append((f"lost by {checkpoint}, x{GAIN}", difference(clean, restored)))
    strip(columns, path)


@torch.inference_mode()
def network(checkpoint: str, pixels: np.ndarray) -> np.ndarray:
    """The estimate of the network alone, given that there is no noise: ``Denoiser`` would return the picture itself."""
    model = Denoiser.from_pretrained(checkpoint, device="cpu").model
    estimate = model(torch.from_numpy(pixels).permute(2, 0, 1)[None], 0.0)[0].permute(1, 2, 0)
    return np.rint(estimate.numpy().clip(0, 1) * 255) / np.float32(255)


def latent_figure(path: Path) -> None:
    """Clean pictures through the bottleneck: what its latent cannot hold."""
    clean = load("temple")
    through, skipped = network("bottleneck-color", clean), network("color-base", clean)
    strip(
        [
            ("clean, no noise added", clean),
            (f"through the latent, {psnr(clean, through):.2f} dB", through),
            (f"lost in the latent, x{GAIN}", difference(clean, through)),
            (f"lost by color-base, x{GAIN}", difference(clean, skipped)),
        ],
        path,
    )


def power(pixels: np.ndarray) -> np.ndarray:
    """Mean power, in squared 8-bit levels, at each whole frequency from 1 to SIDE / 2 periods in the picture."""
    plane = pixels.mean(2) * 255
    window = np.hanning(SIDE)[:, None] * np.hanning(SIDE)[None]
    spectrum = np.abs(np.fft.fft2((plane - plane.mean()) * window)) ** 2 / (window**2).sum()
    frequency = np.fft.fftfreq(SIDE) * SIDE
    radius = np.rint(np.hypot(frequency[:, None], frequency[None])).astype(int)
    return np.bincount(radius.ravel(), spectrum.ravel())[1 : SIDE // 2] / np.bincount(radius.ravel())[1 : SIDE // 2]


def spectrum_figure(path: Path) -> None:
    """Power of a picture, of noise, and of what denoising loses, over the spatial frequency."""
    clean = load("temple")
    noisy = add_noise(clean, "gaussian", seed=0, sigma=25)
    restored = denoise("color-base", noisy, 25)
    figure = Figure(figsize=(6.4, 3.4), dpi=100)
    axes = figure.subplots()
    frequency = np.arange(1, SIDE // 2) / SIDE
    for label, pixels, color in (
        ("clean picture", clean, "#0f766e"),
        ("noise, sigma 25", noisy - clean, "#b91c1c"),
        ("clean - denoised", clean - restored, "#64748b"),
    ):
        axes.loglog(frequency, power(pixels), label=label, color=color)
    axes.set_xlabel("spatial frequency, periods a pixel")
    axes.set_ylabel("power, squared 8-bit levels")
    axes.grid(alpha=0.25, which="both")
    axes.legend(frameon=False)
    figure.tight_layout()
    figure.savefig(path, metadata={"Software": None})


FIGURES = {
    "denoise.jpg": denoise_figure,
    "missing.jpg": missing_figure,
    "latent.jpg": latent_figure,
    "spectrum.png": spectrum_figure,
}


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="Make the figures of README and docs/.")
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "figures", help="a folder")
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    for name, make in FIGURES.items():
        make(options.output / name)
        print(options.output / name)


if __name__ == "__main__":
    main()

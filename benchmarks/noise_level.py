"""How near the estimate of the noise level comes, on photographs and on what is none.

    python -m benchmarks.noise_level --data data/cbsd68 --every 8

Text, line art and screenshots are drawn here; JPEG and scaled pictures are made of the photographs. Noise is Gaussian,
and pictures are as 8-bit files hold them. At sigma 0 nothing should be found.
"""

import argparse
import io

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from denoiser import add_noise, estimate_sigma

from .clipping import data_options, load_pictures, rounded

SIGMAS = (0, 1, 2, 5, 15, 25, 50)
SIZE = (480, 320)


def text_page(seed: int) -> Image.Image:
    """Black letters on white, 10 to 26 pixels high."""
    page, random = Image.new("L", SIZE, 255), np.random.default_rng(seed)
    size = 10 + 8 * (seed % 3)
    draw, font = ImageDraw.Draw(page), ImageFont.load_default(size)
    for top in range(8, SIZE[1] - size, round(size * 1.4)):
        draw.text((8, top), "".join(map(chr, random.choice([*range(97, 123), 32, 32, 32, 32], 80))), fill=0, font=font)
    return page


def line_art(seed: int) -> Image.Image:
    """Thin black lines and circles on white."""
    page, random = Image.new("L", SIZE, 255), np.random.default_rng(seed)
    draw = ImageDraw.Draw(page)
    for _ in range(60):
        x, y, other_x, other_y, radius = random.integers(0, (480, 320, 480, 320, 60))
        draw.line((x, y, other_x, other_y), fill=0, width=1 + seed % 3)
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), outline=0)
    return page


def screenshot(seed: int) -> Image.Image:
    """Panels of flat color with lines and text."""
    screen, random = Image.new("RGB", SIZE, (52, 60, 70)), np.random.default_rng(seed)
    draw = ImageDraw.Draw(screen)
    for top in range(10, 310, 44):
        fill = tuple(int(value) for value in random.integers(30, 230, 3))
        draw.rectangle((10, top, 470, top + 36), fill=fill, outline=(9, 9, 9))
        draw.text((20, top + 10), "settings and more settings, 100 %", fill=(240, 240, 230))
    return screen


def sheet_music(seed: int) -> Image.Image:
    """Staves of five thin lines with notes."""
    sheet, random = Image.new("L", SIZE, 255), np.random.default_rng(seed)
    draw = ImageDraw.Draw(sheet)
    for top in range(20, SIZE[1] - 40, 50):
        for line in range(5):
            draw.line((10, top + 6 * line, SIZE[0] - 10, top + 6 * line), fill=0)
        for left in range(30, SIZE[0] - 30, 22 + 4 * (seed % 3)):
            y = top + 3 * int(random.integers(0, 9))
            draw.ellipse((left, y - 3, left + 8, y + 3), fill=0)
            draw.line((left + 8, y, left + 8, y - 20), fill=0)
    return sheet


def street_map(seed: int) -> Image.Image:
    """Flat areas, roads with borders, and names."""
    plan, random = Image.new("RGB", SIZE, (242, 239, 233)), np.random.default_rng(seed)
    draw, font = ImageDraw.Draw(plan), ImageFont.load_default(11)
    for fill in ((170, 211, 223), (205, 235, 176), (224, 223, 223)) * 3:
        draw.polygon([tuple(map(int, random.integers(0, SIZE))) for _ in range(4)], fill=fill)
    for width, fill in ((9, (247, 250, 191)), (5, (255, 255, 255))) * 5:
        road = [tuple(map(int, random.integers(0, SIZE))) for _ in range(3)]
        draw.line(road, fill=(150, 150, 140), width=width + 2)
        draw.line(road, fill=fill, width=width)
    for _ in range(25):
        draw.text(tuple(map(int, random.integers(0, SIZE))), "Long Street", fill=(60, 60, 60), font=font)
    return plan


def pixel_art(seed: int) -> Image.Image:
    """Squares of 4 x 4 pixels in few colors."""
    random = np.random.default_rng(seed)
    colors = random.integers(0, 256, (8, 3), np.uint8)
    small = colors[random.integers(0, 8, (SIZE[1] // 4, SIZE[0] // 4))]
    return Image.fromarray(small.repeat(4, 0).repeat(4, 1))


def scan(seed: int) -> Image.Image:
    """A text page as a scanner gives it: soft letters on paper that is darker at one side."""
    page = text_page(seed).filter(ImageFilter.GaussianBlur(0.7))
    shade = np.linspace(0.98, 0.9, SIZE[0], dtype=np.float32)
    return Image.fromarray(np.rint(np.asarray(page) * shade).astype(np.uint8))


DRAWN = {
    "text": text_page,
    "line art": line_art,
    "screenshots": screenshot,
    "sheet music": sheet_music,
    "maps": street_map,
    "pixel art": pixel_art,
    "scans": scan,
}
"""Kinds of pictures that are no photographs, and what draws one."""


def as_jpeg(pixels: np.ndarray, quality: int) -> np.ndarray:
    """A picture through JPEG."""
    buffer = io.BytesIO()
    Image.fromarray(np.rint(pixels * 255).astype(np.uint8)).save(buffer, "JPEG", quality=quality)
    return _pixels(Image.open(buffer))


def upscaled(pixels: np.ndarray) -> np.ndarray:
    """A picture at twice its size, bicubic."""
    image = Image.fromarray(np.rint(pixels * 255).astype(np.uint8))
    return _pixels(image.resize((image.width * 2, image.height * 2), Image.Resampling.BICUBIC))


def _pixels(image: Image.Image) -> np.ndarray:
    return np.asarray(image, np.float32).reshape(image.height, image.width, -1) / 255


def groups(photographs: list[np.ndarray]) -> dict[str, list[np.ndarray]]:
    """Clean pictures by kind, float32 (H, W, C)."""
    return {
        "photographs": photographs,
        "the same, gray": [np.rint(one.mean(2, keepdims=True) * 255) / np.float32(255) for one in photographs],
        "half as bright": [one / 2 for one in photographs],
        **{name: [_pixels(draw(seed)) for seed in range(6)] for name, draw in DRAWN.items()},
        "JPEG 75": [as_jpeg(one, 75) for one in photographs],
        "JPEG 90": [as_jpeg(one, 90) for one in photographs],
        "upscaled x2": [upscaled(one) for one in photographs],
    }


def estimates(pictures: list[np.ndarray], sigma: float) -> list[float]:
    """The estimate for each picture with noise of this level."""
    noisy = [add_noise(one, "gaussian", seed, sigma=sigma) for seed, one in enumerate(pictures)]
    return [estimate_sigma(rounded(one)) for one in noisy]


def main(arguments: list[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.noise_level", description="The estimated noise level.")
    data_options(parser)
    pictures = load_pictures(parser.parse_args(arguments), channels=3)
    print(f"{len(pictures)} photographs; mean and highest estimate\n")
    print("| | " + " | ".join(f"&sigma; {sigma}" for sigma in SIGMAS) + " |")
    print("| --- |" + " --- |" * len(SIGMAS))
    for name, group in groups(pictures).items():
        columns = [estimates(group, sigma) for sigma in SIGMAS]
        print(f"| {name} | " + " | ".join(f"{np.mean(c):.1f} ({max(c):.1f})" for c in columns) + " |", flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

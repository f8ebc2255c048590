"""What correcting clipped noise gains: PSNR on pictures as 8-bit files hold them, with and without it.

    python -m benchmarks.clipping color-small --data data/cbsd68 --every 9

Noise is added, clipped and rounded to 8 bits; the network is given the standard deviation of the noise before clipping.
"""

import argparse
import statistics

import numpy as np
import torch
from tqdm import tqdm

from denoiser import Denoiser, DenoiserError
from denoiser.analysis.clipping import undo_clipping
from denoiser.analysis.metrics import psnr
from denoiser.noise import add_noise
from train.data.sources import find_images
from train.evaluate import load_clean

from .results import positive

NOISES = [
    ("gaussian", {"sigma": 5}),
    ("gaussian", {"sigma": 15}),
    ("gaussian", {"sigma": 25}),
    ("gaussian", {"sigma": 50}),
    ("poisson", {"peak": 60}),
    ("sensor", {"gain": 3, "read": 6}),
    ("uniform", {"width": 40}),
    ("speckle", {"sigma": 0.2}),
    ("salt_and_pepper", {"amount": 5}),
    ("correlated", {"sigma": 25, "grain": 1}),
    ("camera", {"sigma": 8}),
]


def rounded(pixels: np.ndarray) -> np.ndarray:
    """As an 8-bit file holds it."""
    return np.rint(pixels.clip(0, 1) * 255).astype(np.float32) / 255


def data_options(parser: argparse.ArgumentParser) -> None:
    """The options that say which clean pictures to take."""
    parser.add_argument(
        "--data", required=True, nargs="+", help="clean pictures: folders, tar files, hf://datasets/..."
    )
    parser.add_argument("--every", type=positive, default=1, help="take every n-th picture")


def load_pictures(options: argparse.Namespace, channels: int) -> list[np.ndarray]:
    """The clean pictures, float32 (H, W, C) in [0, 1]; the program ends with a sentence where there are none."""
    try:
        pictures = [load_clean(source, channels) for source in find_images(options.data)[:: options.every]]
    except (DenoiserError, OSError, ValueError) as error:
        raise SystemExit(f"error: {error}") from error
    return [picture.reshape(*picture.shape[:2], channels) for picture in pictures]


def label(kind: str, parameters: dict) -> str:
    """A noise for reading: "sensor, gain 3, read 6"."""
    return ", ".join([kind, *(f"{name} {value:g}" for name, value in parameters.items())])


def gains(model: torch.nn.Module, pictures: list[np.ndarray], kind: str, parameters: dict) -> list[tuple[float, float]]:
    """(PSNR as the network has it, PSNR with clipping undone) of each picture."""
    rows = []
    for index, clean in enumerate(pictures):
        degraded = add_noise(clean, kind, index, **parameters)
        level = float(np.sqrt(np.mean((degraded - clean) ** 2)))
        noisy = rounded(degraded)
        with torch.inference_mode():
            restored = model(torch.from_numpy(noisy).permute(2, 0, 1)[None], level)[0].permute(1, 2, 0).numpy()
        rows.append((psnr(clean, rounded(restored)), psnr(clean, rounded(undo_clipping(restored, noisy, level)))))
    return rows


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.clipping", description="What undoing it is worth.")
    parser.add_argument("checkpoint")
    data_options(parser)
    options = parser.parse_args()
    try:
        denoiser = Denoiser.from_pretrained(options.checkpoint, device="cpu", dtype="float32")
    except DenoiserError as error:
        raise SystemExit(f"error: {error}") from error
    pictures = load_pictures(options, denoiser.model.config.channels)
    print(f"{options.checkpoint} on {len(pictures)} pictures\n")
    print("| noise | as the network has it | clipping undone | least / most gained by a picture |")
    print("| --- | --- | --- | --- |")
    for kind, parameters in tqdm(NOISES, leave=False):
        rows = gains(denoiser.model, pictures, kind, parameters)
        differences = [after - before for before, after in rows]
        before, after = (statistics.fmean(column) for column in zip(*rows))
        least, most = min(differences), max(differences)
        print(f"| {label(kind, parameters)} | {before:.2f} | {after:.2f} | {least:.2f} / {most:.2f} |", flush=True)


if __name__ == "__main__":
    main()

"""How near the estimate of the noise level comes.

python -m benchmarks.noise_level --data data/cbsd68 --every 8
"""

import argparse

import numpy as np

from denoiser import add_noise, estimate_sigma

from .clipping import data_options, label, load_pictures, rounded

CASES = [
    *(("gaussian", {"sigma": sigma}) for sigma in (0, 5, 15, 25, 50)),
    ("poisson", {"peak": 60}),
    ("sensor", {"gain": 3, "read": 6}),
    ("correlated", {"sigma": 15, "grain": 0.7}),
    ("camera", {"sigma": 8}),
]


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.noise_level", description="The estimated noise level.")
    data_options(parser)
    pictures = load_pictures(parser.parse_args(), channels=3)
    print(f"{len(pictures)} pictures; mean and standard deviation of the estimates\n")
    print("| noise | added | as it is | as an 8-bit file | as a JPEG | gray, as it is |")
    print("| --- | --- | --- | --- | --- | --- |")
    for kind, parameters in CASES:
        noisy = [add_noise(picture, kind, index, **parameters) for index, picture in enumerate(pictures)]
        added = np.mean([np.sqrt(np.mean((a - b) ** 2)) * 255 for a, b in zip(noisy, pictures)])
        gray = [
            add_noise(picture.mean(2, keepdims=True), kind, index, **parameters)
            for index, picture in enumerate(pictures)
        ]
        columns = [noisy, [rounded(one) for one in noisy], [add_noise(one, "jpeg", quality=95) for one in noisy], gray]
        levels = [[estimate_sigma(one) for one in column] for column in columns]
        cells = " | ".join(f"{np.mean(column):.1f} ± {np.std(column):.1f}" for column in levels)
        print(f"| {label(kind, parameters)} | {added:.1f} | {cells} |", flush=True)


if __name__ == "__main__":
    main()

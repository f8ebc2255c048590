"""The checkpoints by the protocol of deepinv's public benchmark of denoisers, with deepinv's own code.

    pip install deepinv benchopt
    python -m benchmarks.deepinv --data data/cbsd68

The benchmark is ``cbsd68_gaussian_denoising`` of https://github.com/deepinv/benchmarks: ``torchvision`` scales the
pictures to 256 x 256, whatever their shape; the physics is ``Denoising(GaussianNoise(0.1))``, sigma 25.5 in 8-bit
units, neither clipped nor rounded; ``deepinv.test`` reports the PSNR of what the model returns, as it is: mean and
deviation over the pictures. The model is what ``benchmarks/deepinv_solver.py`` gives the benchmark. Here the noise has
a seed, and LPIPS, which the benchmark reports too, is left out: its weights are a download.
"""

import argparse
import sys
from pathlib import Path

from train.data.sources import find_images

SIDE, SIGMA = 256, 0.1


def measure(model, sources: list, seed: int = 0) -> dict[str, float]:
    """What ``deepinv.test`` reports: ``PSNR``, ``PSNR_std``, and ``PSNR no learning`` of the noisy pictures.

    Args:
        model: Called with measurements and physics, as the solver returns it.
        sources: Pictures.
        seed: Of the noise.
    """
    import deepinv
    import torch
    from torchvision import transforms

    shape = transforms.Compose([transforms.Resize((SIDE, SIDE)), transforms.ToTensor()])
    clean = [shape(source.read(3)) for source in sources]
    torch.manual_seed(seed)
    return deepinv.test(
        model,
        torch.utils.data.DataLoader(clean),
        deepinv.physics.Denoising(deepinv.physics.GaussianNoise(sigma=SIGMA)),
        metrics=[deepinv.loss.PSNR()],
        online_measurements=True,
        device=model.device,
        verbose=False,
        show_progress_bar=False,
    )


def main(arguments: list[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.deepinv", description="deepinv's benchmark.")
    parser.add_argument("checkpoints", nargs="*", help="default: those of the solver")
    parser.add_argument("--data", type=Path, required=True, help="the folder of CBSD68")
    options = parser.parse_args(arguments)
    try:
        from .deepinv_solver import Solver
    except ImportError as error:
        print(f"error: {error}; install what this needs: pip install deepinv benchopt", file=sys.stderr)
        return 2
    sources = find_images([options.data])
    print(f"{len(sources)} pictures\n\n| checkpoint | PSNR | deviation | noisy |\n| --- | --- | --- | --- |")
    for name in options.checkpoints or Solver.parameters["checkpoint"]:
        solver = Solver.get_instance(checkpoint=name)
        solver.set_objective()
        figures = measure(solver.get_result()["model"], sources)
        print(f"| `{name}` | {figures['PSNR']:.2f} | {figures['PSNR_std']:.2f} | {figures['PSNR no learning']:.2f} |")
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""The solver of this package for deepinv's public benchmark of denoisers, as a file to add there.

It belongs into ``deepinv_bench/benchmarks/cbsd68_gaussian_denoising/solvers`` of https://github.com/deepinv/benchmarks,
which benchopt runs. ``benchmarks.deepinv`` measures with it by the benchmark's protocol.
"""

from typing import ClassVar

import deepinv
import torch
from benchopt import BaseSolver

from denoiser import Denoiser


class Solver(BaseSolver):
    """A checkpoint as a reconstruction network: its network on the adjoint, with the level of the physics."""

    name = "DenoisingAutoencoder"
    parameters: ClassVar = {"checkpoint": ["color-small", "color-base", "color-large"]}
    requirements: ClassVar = ["pip::git+https://github.com/OWNER/denoising-autoencoder"]
    sampling_strategy = "run_once"

    def set_objective(self, train_dataset=None, physics=None):
        device = "cuda" if torch.cuda.is_available() else "cpu"
        network = Denoiser.from_pretrained(self.checkpoint, device=device).model
        self.model = deepinv.models.ArtifactRemoval(network, device=device)
        self.model.device = device  # where the benchmark puts the pictures

    def run(self, _):
        """Nothing: there is nothing to iterate, and the benchmark evaluates the model."""

    def get_result(self):
        return {"model": self.model}

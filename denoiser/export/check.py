"""Does an exported graph compute what the network does?"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from .quantize import noisy_photographs

if TYPE_CHECKING:
    from .onnx_graph import Exported

# Each side below, at and above a multiple of 8, sides of one and two pixels, and both orders of long and short.
SIZES = [(1, 1), (1, 7), (2, 3), (5, 1), (7, 8), (8, 8), (9, 16), (15, 2), (16, 9), (17, 23)]
SIZES += [(24, 40), (31, 33), (33, 31), (40, 64), (50, 70), (63, 65), (64, 64), (70, 50), (96, 41), (100, 128)]


def load_session(model: Path | bytes, threads: int = 0) -> Any:
    """An ONNX Runtime session on the processor, for a file or its content; by default with a thread for each core."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors
    options.intra_op_num_threads = threads
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


@torch.inference_mode()
def largest_difference(session: Any, module: "Exported") -> float:
    """The largest difference between a graph and its network, over pictures of 20 sizes and all forms of ``sigma``."""
    *_, last = session.get_inputs()
    takes_level, any_rank = last.name == "sigma", not last.shape
    random, worst = torch.Generator().manual_seed(0), 0.0
    for index, (height, width) in enumerate(SIZES):
        batch = 1 + index % 3
        image = torch.rand(batch, module.network.config.channels, height, width, generator=random)
        level_shapes = [(batch, 1, height, width), (batch, 1, 1, 1), (1, 1, 1, 1)]
        sigma = torch.rand(level_shapes[index // 3 % 3], generator=random) / 5 if takes_level else None
        given = {"image": image.numpy()}
        if sigma is not None:
            given["sigma"] = sigma.flatten().numpy() if any_rank and sigma.shape[2:] == (1, 1) else sigma.numpy()
        computed = torch.from_numpy(session.run(None, given)[0])
        expected = module(image, sigma)
        if computed.shape != expected.shape:
            return float("inf")
        worst = max(worst, float((computed - expected).abs().max()))
    return worst


@torch.inference_mode()
def mean_difference(session: Any, module: "Exported") -> float:
    """The root of the mean squared difference, over noisy photographs that :func:`.quantize.quantize` did not see."""
    takes_level, squares = len(session.get_inputs()) == 2, []
    for image, sigma in noisy_photographs(module.network.config, ("chelsea",)):
        given = {"image": image} | ({"sigma": sigma} if takes_level else {})
        level = None if sigma is None or not takes_level else torch.from_numpy(sigma)
        expected = module(torch.from_numpy(image), level).numpy()
        squares.append(np.mean((session.run(None, given)[0] - expected) ** 2))
    return float(np.sqrt(np.mean(squares)))

"""The convolutions of the coarse levels in 8-bit integers: faster, at hardly any cost in quality.

Below a network's finest level its features say what is there; the finest level carries the values of the pixels, which
8 bits would round (``python -m benchmarks.runtimes`` shows both). So do, at half of the picture's resolution, the first
convolution and the last block, and all convolutions of a level of few channels. Weights are quantized for each output
channel, activations by the mean of the ranges that they have on a few photographs with noise of the levels of the
training: wider ranges, with the extremes of all, would triple the loss. The graph states both by pairs of
QuantizeLinear and DequantizeLinear, which runtimes merge with the convolutions.
"""

import contextlib
import logging
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..errors import CannotExport
from ..models import DenoisingAutoencoder, ModelConfig

SIDE = 192
"""Side of the pictures that ranges are measured on, pixels."""
LEVELS = (0.1, 0.3, 0.5, 1.0)
"""Noise levels of these pictures, as shares of the highest of the training."""
MIN_CHANNELS = 64
"""At half of the picture's resolution; the sum over fewer averages out too little of the rounding."""
PHOTOGRAPHS = ("astronaut", "coffee", "camera")  # of scikit-image, all in the public domain


def noisy_photographs(
    config: ModelConfig, names: tuple[str, ...] = PHOTOGRAPHS
) -> Iterator[tuple[np.ndarray, np.ndarray | None]]:
    """Pictures (1, C, H, W) and their levels (1, 1, 1, 1), None for a blind network, as the graph takes them."""
    from skimage import color, data

    for index, name in enumerate(names):
        photograph = np.asarray(getattr(data, name)(), np.float32) / 255
        photograph = photograph if photograph.ndim == 3 else color.gray2rgb(photograph)
        clean = photograph[:SIDE, :SIDE].transpose(2, 0, 1)[None, : config.channels]
        for share in LEVELS:
            sigma = np.float32(share * config.sigma_range[1] / 255)
            random = np.random.default_rng(index)
            noisy = clean + sigma * random.standard_normal(clean.shape, dtype=np.float32)
            yield noisy, None if config.blind else np.full((1, 1, 1, 1), sigma, np.float32)


def coarse_convolutions(network: DenoisingAutoencoder) -> set[str]:
    """Names of the convolutions below the finest level, at half of the picture's resolution without those at the ends.

    Those with few channels there are left out, too.

    Raises:
        CannotExport: There are none.
    """
    side, sides, wide = 64, {}, set()

    def note(name: str) -> Any:
        def hook(module: torch.nn.Module, given: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
            sides[name] = max(given[0].shape[-1], output.shape[-1])
            if output.shape[1] >= MIN_CHANNELS:
                wide.add(name)

        return hook

    modules = network.named_modules()
    hooks = [part.register_forward_hook(note(name)) for name, part in modules if isinstance(part, torch.nn.Conv2d)]
    try:
        with torch.inference_mode():
            network(torch.zeros(1, network.config.channels, side, side), None if network.config.blind else 0.1)
    finally:
        for hook in hooks:
            hook.remove()
    coarse = [name for name, own in sides.items() if 2 * own <= max(sides.values())]  # as they follow each other
    ends = {*coarse[:1], *coarse[-2:]}
    chosen = {name for name in coarse if 4 * sides[name] <= side or name in wide - ends}
    if not chosen:
        raise CannotExport("this network has no coarse levels to compute in integers: export it without int8")
    return chosen


@contextlib.contextmanager
def _without_advice() -> Iterator[None]:
    """Without ONNX Runtime's log lines on preparing a graph, which ours needs not."""

    def drop(record: logging.LogRecord) -> bool:
        return "pre-processing" not in record.getMessage()

    root = logging.getLogger()
    root.addFilter(drop)
    try:
        yield
    finally:
        root.removeFilter(drop)


def quantize(content: bytes, network: DenoisingAutoencoder, names: set[str] | None = None) -> bytes:
    """An exported graph with convolutions in integers.

    Args:
        content: The graph of :mod:`denoiser.export.onnx_graph`, serialized.
        network: What it was exported from.
        names: Of the convolutions; by default the coarse ones.
    """
    import onnx
    from onnxruntime import quantization

    class Reader(quantization.CalibrationDataReader):
        pictures = noisy_photographs(network.config)

        def get_next(self) -> dict[str, np.ndarray] | None:  # pyright: ignore[reportIncompatibleMethodOverride]
            image, sigma = next(self.pictures, (None, None))
            given = {"image": image, "sigma": sigma if "sigma" in inputs else None}
            return None if image is None else {name: value for name, value in given.items() if value is not None}

    model = onnx.load_model_from_string(content)
    inputs = {value.name for value in model.graph.input}
    weights = {f"network.{name}.weight" for name in names or coarse_convolutions(network)}
    with tempfile.TemporaryDirectory() as folder, _without_advice():
        target = Path(folder) / "quantized.onnx"
        quantization.quantize_static(
            model,
            target,
            Reader(),
            per_channel=True,
            activation_type=quantization.QuantType.QUInt8,
            weight_type=quantization.QuantType.QInt8,
            extra_options={"CalibMovingAverage": True},  # the mean of the ranges
            nodes_to_quantize=[node.name for node in model.graph.node if weights & set(node.input)],
        )
        return target.read_bytes()

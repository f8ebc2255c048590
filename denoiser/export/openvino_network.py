"""A checkpoint computed by OpenVINO, with the coarse levels in 8-bit integers: see docs/export.md for what it gains."""

from typing import Any

import numpy as np
import torch

from ..errors import CannotExport
from ..hub.checkpoints import Checkpoint
from .onnx_graph import MAP, make_graph

MISSING = "the backend openvino needs more packages ({}): pip install 'denoising-autoencoder[openvino]'"


class OpenvinoNetwork:
    """An exported graph that is called as a network is. Thread-safe.

    Args:
        graph: An ONNX model, serialized.
        precision: "f32" or "bf16" for what is not in integers; "" takes bfloat16 where the processor has it.

    Raises:
        CannotExport: OpenVINO is not installed.
    """

    def __init__(self, graph: bytes, precision: str = ""):
        self.graph: bytes = graph
        self.precision: str = precision
        self._compiled: Any = self._compile()

    @classmethod
    def from_checkpoint(cls, checkpoint: Checkpoint, blind: bool, precision: str = "") -> "OpenvinoNetwork":
        """Export, quantize and compile a checkpoint, ``blind`` if it takes no noise level: some seconds.

        Raises:
            CannotExport: A package is missing, or the graph computes something else than the network.
        """
        return cls(make_graph(checkpoint, None if blind else MAP, int8=True)[0], precision)

    def _compile(self) -> Any:
        try:
            import openvino
        except ImportError as error:
            raise CannotExport(MISSING.format(error)) from error
        options = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": torch.get_num_threads()}
        if self.precision:
            options["INFERENCE_PRECISION_HINT"] = self.precision
        core = openvino.Core()
        return core.compile_model(core.read_model(self.graph), "CPU", options)

    def __call__(self, x: torch.Tensor, sigma: torch.Tensor | None = None) -> torch.Tensor:
        """``x`` float (B, C, H, W), ``sigma`` (B,) or (B, 1, H, W) on its scale -> the estimate (B, C, H, W)."""
        given = {"image": np.ascontiguousarray(x.numpy(), np.float32)}
        if sigma is not None and len(self._compiled.inputs) > 1:
            given["sigma"] = np.ascontiguousarray((sigma[:, None, None, None] if sigma.ndim == 1 else sigma).numpy())
        return torch.from_numpy(self._compiled.create_infer_request().infer(given)[0].copy())

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.graph, self.precision)  # what is compiled belongs to its process

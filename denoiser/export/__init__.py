"""A checkpoint as one ONNX graph for any size, checked against the network it comes from."""

from .onnx_graph import export_onnx, fetch_onnx

__all__ = ["export_onnx", "fetch_onnx"]

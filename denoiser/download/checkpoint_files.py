"""The files of a checkpoint folder, and how large each may be."""

CONFIG_FILE = "config.json"
WEIGHTS_FILE = "model.safetensors"
CARD_FILE = "README.md"
ONNX_FILE = "onnx/model.onnx"
"""Downloaded only when it is asked for."""

MAX_CONFIG_BYTES = 100_000
"""A config takes a few hundred bytes; anything large is not one of ours."""
MAX_CARD_BYTES = 1_000_000
MAX_WEIGHTS_BYTES = 500_000_000
"""Larger weights are refused unless ``max_bytes`` says otherwise: the largest denoisers in use take a quarter of it."""

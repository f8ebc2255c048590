"""Export: a network as an ONNX graph for any height, width and batch, that says what it takes.

The graph is made by ``torch.onnx.export`` from one traced program. It has the input ``image``, float32 (B, C, H, W) in
[0, 1], the output ``denoised`` of the same shape, and, unless the checkpoint is blind or a level is fixed, the input
``sigma``: the noise's standard deviation on the scale of the image, as a map (B, 1, H, W), one level for each picture
(B,) or one for all (1,). The file leaves the number of its dimensions open, which ONNX Runtime takes; where a program
wants it stated, as the ONNX standard does of inputs, ``sigma="map"`` states four.
"""

import hashlib
import json
import logging
import os
import tempfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from ..download.checkpoint_files import CONFIG_FILE, ONNX_FILE, WEIGHTS_FILE
from ..errors import CannotExport, CheckpointInvalid
from ..hub.checkpoints import Checkpoint, find_on_hub
from ..hub.facts import facts_of
from ..models import DenoisingAutoencoder, load_model
from .check import largest_difference, load_session, mean_difference
from .quantize import quantize

TOLERANCE = 1e-4
"""Largest accepted difference from the network, on the scale where white is 1."""
INT8_TOLERANCE = 0.5 / 255
"""The same of the mean difference (root mean square), where convolutions are in integers."""
MAP = "map"
"""The value of ``sigma`` that makes a graph for maps (B, 1, H, W) and what broadcasts to them alone."""
MAP_SHAPE = ("sigma_batch", 1, "sigma_height", "sigma_width")
MISSING = "exporting needs more packages ({}): pip install 'denoising-autoencoder[export]'"


class Exported(nn.Module):
    """A network with the inputs of the graph.

    Args:
        network: To export.
        sigma: A level that is fixed in the graph, on the scale of the pictures; None leaves it an input.
    """

    def __init__(self, network: DenoisingAutoencoder, sigma: float | None = None):
        super().__init__()
        self.network: DenoisingAutoencoder = network
        self.sigma: float | None = sigma

    def forward(self, image: torch.Tensor, sigma: torch.Tensor | None = None) -> torch.Tensor:
        """``image`` (B, C, H, W), ``sigma`` (B, 1, H, W) or broadcast to it -> (B, C, H, W)."""
        if sigma is None and self.sigma is not None:
            sigma = image.new_full((1, 1, 1, 1), self.sigma)
        if sigma is not None:
            sigma = sigma.expand(image.shape[0], 1, *image.shape[2:])
        return self.network(image, sigma)


def export_onnx(
    checkpoint: Checkpoint, path: str | Path, sigma: float | str | None = None, int8: bool = False
) -> float:
    """Write a checkpoint as an ONNX file, after ONNX Runtime computed with it what the network does.

    Args:
        checkpoint: As :func:`denoiser.hub.checkpoints.find_checkpoint` finds it.
        path: The file to write; it is replaced only by a graph that passed.
        sigma: A noise level, 8-bit units, that becomes part of the graph, whose only input is then the picture: what
            programs expect that load any image model. None makes it an input, a map or (B,); "map" an input of four
            dimensions, for programs that want their number stated: OpenVINO, or ``onnx.checker``.
        int8: Compute the coarse levels in integers, see :mod:`denoiser.export.quantize`.

    Returns:
        The largest difference from the network over pictures of 20 sizes, where white is 1; with ``int8`` the mean one
        (root mean square) over photographs.

    Raises:
        CannotExport: A package is missing, ``sigma`` does not fit, or the graph computes something else.
        CheckpointInvalid: The checkpoint does not load.
    """
    content, difference = make_graph(checkpoint, sigma, int8)
    _write(content, Path(path))
    return difference


def make_graph(checkpoint: Checkpoint, sigma: float | str | None = None, int8: bool = False) -> tuple[bytes, float]:
    """What :func:`export_onnx` writes, and the difference that it returns."""
    level = None if isinstance(sigma, str) else sigma
    network = load_model(checkpoint.folder, label=checkpoint.name).requires_grad_(False)
    if isinstance(sigma, str) and sigma != MAP:
        raise CannotExport(f"sigma must be a level from 0 to 255 or '{MAP}', got {sigma!r}")
    if sigma is not None and network.config.blind:
        raise CannotExport(f"{checkpoint.name} takes no noise level: leave sigma out")
    if level is not None and not 0 <= level <= 255:
        raise CannotExport(f"sigma must be from 0 to 255, got {level:g}")
    module = Exported(network, None if level is None else level / 255).eval()
    try:
        any_rank = sigma is None and not network.config.blind
        content = _graph(module, _metadata(checkpoint, network, sigma, int8), any_rank)
        if int8:
            content = quantize(content, network)
        difference = (mean_difference if int8 else largest_difference)(load_session(content), module)
    except ImportError as error:
        raise CannotExport(MISSING.format(error)) from error
    if int8 and not difference <= INT8_TOLERANCE:
        raise CannotExport(
            f"in integers {graph_name(checkpoint)} is off by {255 * difference:.1f} 8-bit levels (at most "
            f"{255 * INT8_TOLERANCE:g}): export it without int8, or use the backend torch"
        )
    if not int8 and not difference <= TOLERANCE:
        raise CannotExport(f"the graph of {checkpoint.name} differs from the network by {difference:.1e}: not written")
    return content, difference


def fetch_onnx(repo_id: str, revision: str | None = None, token: str | bool | None = None) -> Path:
    """The graph that a repository on the Hub holds beside its weights, verified: by its hash, and as theirs.

    Args:
        repo_id: "user/repo" or "user/repo@revision".
        revision: Branch, tag or commit.
        token: For private repositories; by default the one the ``hf`` command line stored.

    Raises:
        CannotExport: ONNX Runtime is missing.
        CheckpointInvalid: The repository has no graph, or one of other weights, or it arrives damaged twice.
        CheckpointNotFound, CheckpointGated, HubUnreachable: See :func:`denoiser.hub.checkpoints.find_on_hub`.
    """
    found = find_on_hub(repo_id, revision, token=token, also=(ONNX_FILE,))
    path = found.folder / ONNX_FILE
    try:
        known = load_session(path).get_modelmeta().custom_metadata_map
    except ImportError as error:
        raise CannotExport(MISSING.format(error)) from error
    if known.get("weights_sha256") != _weights_hash(found.folder):
        raise CheckpointInvalid(f"{found.name}: {ONNX_FILE} is not of these weights: export the checkpoint anew.")
    return path


def graph_name(checkpoint: Checkpoint) -> str:
    """The name of a checkpoint in a file for others: a folder's without its place on this machine, or its run's."""
    path = Path(os.path.expanduser(checkpoint.name))
    if not path.is_dir():
        return checkpoint.name
    folder = path.resolve()
    return folder.parent.name if folder.name == "checkpoint" else folder.name


def _weights_hash(folder: Path) -> str:
    return hashlib.sha256((folder / WEIGHTS_FILE).read_bytes()).hexdigest()


def _graph(module: Exported, metadata: dict[str, str], any_rank: bool) -> bytes:
    """The serialized ONNX model, with ``sigma`` as a map or, if ``any_rank``, of fewer dimensions as well."""
    import onnx

    model = _trace(module)
    graph = model.graph
    for part in (graph, *graph.node, *graph.input, *graph.output, *graph.initializer):
        part.ClearField("metadata_props")  # traces of the Python code, with the paths of this machine
    graph.ClearField("value_info")
    for value in graph.input:
        if value.name == "sigma":
            value.CopyFrom(onnx.helper.make_tensor_value_info("sigma", onnx.TensorProto.FLOAT, MAP_SHAPE))
    model.doc_string = f"{metadata['name']}: a denoising autoencoder for pictures"
    onnx.helper.set_model_props(model, metadata)
    onnx.checker.check_model(model)
    if any_rank:
        _take_any_rank(graph)
    return model.SerializeToString()


def _trace(module: Exported) -> Any:
    """The ONNX model as torch makes it.

    The trace is made with a level for each picture, ``sigma`` (B, 1, 1, 1), which the graph expands by ONNX's rules of
    broadcasting: so it takes maps as well, and only the declared shape of the input has to say so.
    """
    dim = torch.export.Dim
    smallest = module.network.multiple + 1  # for smaller pictures torch would make another trace; the graph is the same
    height, width = dim("height", min=smallest), dim("width", min=smallest)
    arguments: tuple[torch.Tensor, ...] = (torch.rand(2, module.network.config.channels, 64, 48),)
    shapes: dict[str, Any] = {"image": {0: dim("batch"), 2: height, 3: width}}
    if not module.network.config.blind and module.sigma is None:
        arguments += (torch.rand(2, 1, 1, 1),)
        shapes["sigma"] = {0: dim("batch")}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecations inside torch, and packages that it would use if they were there
        logging.getLogger("torch.onnx").setLevel(logging.ERROR)
        program = torch.onnx.export(
            module,
            arguments,
            input_names=list(shapes),
            output_names=["denoised"],
            dynamic_shapes=tuple(shapes.values()),
            dynamo=True,
            verbose=False,
        )
    assert program
    return program.model_proto


def _take_any_rank(graph: Any) -> None:
    """Let a graph whose ``sigma`` is a map take one of fewer dimensions as well: ones are appended up to four."""
    from onnx import TensorProto, helper, numpy_helper

    for node in graph.node:
        node.input[:] = ["sigma_map" if name == "sigma" else name for name in node.input]
    given = next(value for value in graph.input if value.name == "sigma")
    given.CopyFrom(helper.make_tensor_value_info("sigma", TensorProto.FLOAT, None))
    graph.value_info.append(helper.make_tensor_value_info("sigma_map", TensorProto.FLOAT, MAP_SHAPE))
    constants = {"sigma_ones": [1, 1, 1, 1], "sigma_start": [0], "sigma_end": [4]}
    graph.initializer.extend(numpy_helper.from_array(np.array(one), name) for name, one in constants.items())
    nodes = [
        helper.make_node("Shape", ["sigma"], ["sigma_shape"]),
        helper.make_node("Concat", ["sigma_shape", "sigma_ones"], ["sigma_longer"], axis=0),
        helper.make_node("Slice", ["sigma_longer", "sigma_start", "sigma_end"], ["sigma_four"]),
        helper.make_node("Reshape", ["sigma", "sigma_four"], ["sigma_map"]),
    ]
    for node in reversed(nodes):  # before all that uses it
        graph.node.insert(0, node)


def _metadata(
    checkpoint: Checkpoint, network: DenoisingAutoencoder, sigma: float | str | None, int8: bool
) -> dict[str, str]:
    """What a program or a person has to know who has only the file."""
    config, facts = network.config, facts_of(checkpoint)
    low, high = config.sigma_range
    known = {
        "name": graph_name(checkpoint),
        "revision": checkpoint.revision or "",
        "license": facts.license,
        "architecture": config.architecture,
        "channels": "1, gray" if config.channels == 1 else "3, RGB",
        "image": "float32 (batch, channels, height, width), any size; black 0, white 1",
        "denoised": "as image, not clamped",
        "sigma": "standard deviation of the noise on the scale of image: 8-bit level / 255; "
        "(batch, 1, height, width), or broadcast to it" + (", or (batch,)" if sigma is None else ""),
        "sigma_range": f"{low:g} {high:g}",
        "sigma_units": f"{config.sigma_units} levels, of sigma_range",
        "precision": "int8 at coarse levels, float32 elsewhere" if int8 else "float32",
        "config": json.dumps(json.loads((checkpoint.folder / CONFIG_FILE).read_bytes()), sort_keys=True),
        "weights_sha256": _weights_hash(checkpoint.folder),
    }
    if config.blind:
        known["sigma"] = "none: the network takes no noise level"
    elif isinstance(sigma, float | int):
        known |= {"sigma": "none: fixed in this graph", "fixed_sigma": f"{sigma:g}"}
    return {name: value for name, value in known.items() if value}


def _write(content: bytes, path: Path) -> None:
    """Write a file whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, partial = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        os.chmod(partial, 0o644)
        os.replace(partial, path)
    except BaseException:
        os.unlink(partial)
        raise

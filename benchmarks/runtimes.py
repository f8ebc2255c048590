"""Time and quality of a checkpoint by runtime and precision, interleaved in one process.

    python -m benchmarks.runtimes --data data/cbsd68
    python -m benchmarks.runtimes color-base --data photographs --pictures 20 --runs 15

Each runtime computes the same network on the same noisy pictures. Times are medians of runs that take turns in random
order, so that a busy machine slows all; the ratio is to torch in the precision that it takes here by itself. PSNR is
that of ``train.evaluate``: noise neither clipped nor rounded, results clipped and rounded to 8 bits, compared with
torch in float32. What a library cannot do is a row with its reason. It needs the extras [export] and [openvino].
"""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from denoiser import Denoiser, DenoiserError, add_noise
from denoiser.analysis.metrics import psnr
from denoiser.export.check import load_session
from denoiser.export.onnx_graph import MAP, make_graph
from denoiser.export.openvino_network import OpenvinoNetwork
from denoiser.export.quantize import coarse_convolutions, quantize
from denoiser.hub.checkpoints import find_checkpoint
from train.data.sources import find_images
from train.evaluate import load_clean, machine

from .results import positive
from .speed import measure

Runtime = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""Pictures (1, C, H, W) and levels (1,) -> the estimate."""
SIGMAS = (5, 15, 25, 50)
NO_TORCH_INT8 = "no: its own quantization covers linear layers; convolutions need another package and a compiler"


def torch_runtime(network: torch.nn.Module, dtype: torch.dtype) -> Runtime:
    """The network as :class:`denoiser.Denoiser` computes it."""

    @torch.inference_mode()
    def compute(x: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
            return network(x.contiguous(memory_format=torch.channels_last), sigma).float()

    return compute


def onnx_runtime(graph: bytes) -> Runtime:
    """A graph in ONNX Runtime."""
    session = load_session(graph, torch.get_num_threads())

    def compute(x: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        given = {"image": x.numpy(), "sigma": sigma[:, None, None, None].numpy()}
        return torch.from_numpy(session.run(None, {one.name: given[one.name] for one in session.get_inputs()})[0])

    return compute


def bfloat16_graph() -> bytes:
    """One convolution in bfloat16: what ONNX Runtime says of it, it says of every network."""
    import onnx
    from onnx import TensorProto, helper

    made = [helper.make_tensor_value_info(name, TensorProto.BFLOAT16, (1, 1, 8, 8)) for name in ("x", "y")]
    weight = helper.make_tensor("w", TensorProto.BFLOAT16, (1, 1, 3, 3), [0.0] * 9)
    node = helper.make_node("Conv", ["x", "w"], ["y"], pads=[1, 1, 1, 1])
    graph = helper.make_graph([node], "one", made[:1], made[1:], [weight])
    # The opset in which convolutions take bfloat16.
    return onnx.helper.make_model(graph, opset_imports=[helper.make_opsetid("", 22)], ir_version=10).SerializeToString()


def all_runtimes(denoiser: Denoiser) -> dict[tuple[str, str], Runtime | str]:
    """Each runtime and precision: what computes, or why there is nothing."""
    network = denoiser.model
    graph, _ = make_graph(find_checkpoint(denoiser.name), None if network.config.blind else MAP)
    coarse = f"int8 at {len(coarse_convolutions(network))} convolutions"
    everywhere = {key for key, part in network.named_modules() if isinstance(part, torch.nn.Conv2d)}
    graphs = {coarse: quantize(graph, network), "int8 at all": quantize(graph, network, everywhere)}

    def attempt(make: Callable[[], Any]) -> Any:
        try:
            return make()
        except Exception as error:  # the library's own words
            return "no: " + str(error).replace("\n", " ").rpartition(" : ")[2][:80]

    made: dict[tuple[str, str], Runtime | str] = {
        ("torch", "float32"): torch_runtime(network, torch.float32),
        ("torch", "bfloat16"): torch_runtime(network, torch.bfloat16),
        ("torch", "int8"): NO_TORCH_INT8,
        ("onnxruntime", "float32"): onnx_runtime(graph),
        ("onnxruntime", "bfloat16"): attempt(lambda: onnx_runtime(bfloat16_graph())),
    }
    made |= {("onnxruntime", label): onnx_runtime(content) for label, content in graphs.items()}
    made |= {
        ("openvino", "float32"): OpenvinoNetwork(graph, "f32"),
        ("openvino", "bfloat16"): OpenvinoNetwork(graph, "bf16"),
    }
    made |= {("openvino", f"{label}, else by itself"): OpenvinoNetwork(content) for label, content in graphs.items()}
    return made


def mean_psnr(runtime: Runtime, pictures: list[np.ndarray], sigma: float) -> float:
    """Mean PSNR in dB over clean pictures (H, W, C) at a noise level, 8-bit units."""
    values = []
    for seed, clean in enumerate(pictures):
        noisy = torch.from_numpy(add_noise(clean, "gaussian", seed, sigma=sigma)).permute(2, 0, 1)[None].contiguous()
        result = runtime(noisy, torch.tensor([sigma / 255]))[0].permute(1, 2, 0).numpy()
        values.append(psnr(clean, np.rint(result.clip(0, 1) * 255) / 255))
    return float(np.mean(values))


def report(name: str, data: Path, count: int, size: int, runs: int) -> str:
    """The measurements of one checkpoint as Markdown."""
    denoiser = Denoiser.from_pretrained(name, device="cpu")
    channels = denoiser.model.config.channels
    # Whether they are there is known before what takes time.
    pictures = [load_clean(source, channels) for source in find_images([data])[:count]]
    pictures = [clean.reshape(*clean.shape[:2], channels) for clean in pictures]
    made = all_runtimes(denoiser)
    runtimes = {key: one for key, one in made.items() if not isinstance(one, str)}
    timed = {key: lambda x, sigma, one=one: one(x, torch.tensor([sigma])) for key, one in runtimes.items()}
    seconds = measure(timed, channels, torch.float32, size, runs)
    measured = tqdm(runtimes.items(), "PSNR", leave=False)
    quality = {key: [mean_psnr(one, pictures, sigma) for sigma in SIGMAS] for key, one in measured}
    reference, base = quality["torch", "float32"], seconds["torch", str(denoiser.dtype).removeprefix("torch.")]
    levels = ", ".join(map(str, SIGMAS))
    lines = [
        f"| `{name}` | precision | s/MP | times as fast | dB lost at sigma {levels} |",
        "| --- | --- | --- | --- | --- |",
    ]
    for key, one in made.items():
        if isinstance(one, str):
            lines.append(f"| {key[0]} | {key[1]} | {one} | | |")
            continue
        lost = ", ".join(f"{best - value:.3f}" for best, value in zip(reference, quality[key]))
        lines.append(f"| {key[0]} | {key[1]} | {seconds[key]:.2f} | {base / seconds[key]:.2f} | {lost} |")
    return "\n".join(lines)


def main() -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.runtimes", description="Compare runtimes.")
    parser.add_argument("checkpoints", nargs="*", default=["color-base"], help="default: color-base")
    parser.add_argument("--data", type=Path, required=True, help="folder with clean pictures")
    parser.add_argument("--pictures", type=int, default=10, help="pictures for PSNR (default 10)")
    parser.add_argument("--size", type=int, default=512, help="side of the timed picture (default 512)")
    parser.add_argument("--runs", type=positive, default=9, help="timed runs (default 9)")
    options = parser.parse_args()
    try:
        print(f"{machine(torch.device('cpu'))}, median of {options.runs} runs\n")
        for name in options.checkpoints:
            print(report(name, options.data, options.pictures, options.size, options.runs), "\n", sep="")
    except (DenoiserError, OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())

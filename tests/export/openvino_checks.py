"""``backend="openvino"``: the same results but for the integers, from any thread and process."""

import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from denoiser import Denoiser
from denoiser.errors import CannotExport
from denoiser.models import Bottleneck, BottleneckConfig, Unet, UnetConfig


def test_the_backend_computes_what_torch_does(tmp_path, photo):
    torch.manual_seed(0)
    checkpoint = tmp_path / "small"
    Unet(UnetConfig(widths=(8, 12), blocks=(1, 1))).save_pretrained(checkpoint)
    faster = Denoiser.from_pretrained(checkpoint, backend="openvino", dtype="float32")
    torch_alone = Denoiser.from_pretrained(checkpoint, device="cpu", dtype="float32")
    assert "OpenVINO" in repr(faster) and "OpenVINO" not in repr(torch_alone)
    photo = photo[:70, :90]
    level_map = np.linspace(5, 40, 70 * 90, dtype=np.float32).reshape(70, 90)
    for image, sigma in ((photo, 25), (photo, level_map), (photo[..., 0], 10)):
        results = [one(image, sigma).astype(float) for one in (faster, torch_alone)]
        assert np.sqrt(np.mean((results[0] - results[1]) ** 2)) < 0.7 and results[0].shape == image.shape
    assert np.array_equal(pickle.loads(pickle.dumps(faster))(photo, 25), faster(photo, 25))
    with ThreadPoolExecutor(4) as pool:
        pictures = [np.roll(photo, shift, 0) for shift in range(8)]
        at_once = list(pool.map(lambda one: faster(one, 25), pictures))
    assert all(np.array_equal(one, faster(picture, 25)) for one, picture in zip(at_once, pictures))


def test_what_the_backend_cannot_do_is_said(tiny_checkpoint, tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="on the processor"):
        Denoiser.from_pretrained(tiny_checkpoint, backend="openvino", device="cuda")
    with pytest.raises(ValueError, match="'torch' or 'openvino'"):
        Denoiser.from_pretrained(tiny_checkpoint, backend="tensorrt")
    torch.manual_seed(0)
    # Without skip connections everything passes the coarsest level.
    Bottleneck(BottleneckConfig(widths=(8, 12), blocks=1, latent=6)).save_pretrained(tmp_path / "narrow")
    with pytest.raises(CannotExport, match=r"in integers narrow is off by .* 8-bit levels .* backend torch"):
        Denoiser.from_pretrained(tmp_path / "narrow", backend="openvino")
    monkeypatch.setitem(__import__("sys").modules, "onnx", None)
    with pytest.raises(CannotExport, match="pip install"):
        Denoiser.from_pretrained(tiny_checkpoint, backend="openvino")

"""ZeroGPU Spaces, with a stand-in for the Hub's package ``spaces``: what crosses processes there is pickled here."""

import pickle
import sys
import types

import numpy as np
import pytest

from denoiser import CheckpointInvalid, Denoiser
from denoiser.demo import zero_gpu
from denoiser.demo.compute_gate import CallCancelled
from denoiser.demo.model_pool import ModelPool
from denoiser.images.picture import read

PICTURE = np.random.default_rng(0).integers(0, 256, (40, 56, 3), np.uint8)


@pytest.fixture
def spaces(monkeypatch):
    """A package whose decorator runs functions as on a ZeroGPU Space; the durations that were asked for."""
    asked = []

    def decorate(duration):
        def decorated(task):
            def call(*args):
                asked.append(duration(*args))
                return pickle.loads(pickle.dumps(task(*pickle.loads(pickle.dumps(args)))))

            return call

        return decorated

    monkeypatch.setitem(sys.modules, "spaces", types.SimpleNamespace(GPU=lambda duration: decorate(duration)))
    return asked


def test_a_checkpoint_computes_on_the_gpu_and_is_tried_out_before(hub, spaces):
    pool = ModelPool(zero_gpu=zero_gpu.find_zero_gpu())
    loaded = pool.get("user/tiny")
    assert not spaces and loaded.seconds_per_megapixel > 0
    expected = Denoiser.from_pretrained("user/tiny")
    shares = []
    assert np.array_equal(loaded.denoiser(PICTURE, 25, 0.5, shares.append), expected(PICTURE, 25, 0.5))
    picture = read(PICTURE)
    assert np.array_equal(loaded.denoiser.denoise_pixels(picture), expected.denoise_pixels(picture))
    assert spaces == [11, 11] and shares == [1.0] and repr(loaded.denoiser) == repr(expected)


def test_its_errors_are_ours_and_a_cancelled_call_ends(hub, spaces):
    compute = zero_gpu.find_zero_gpu()
    denoiser = zero_gpu.ZeroGpuDenoiser(Denoiser.from_pretrained("user/tiny", device="cpu"), compute)

    def cancel(share):
        raise CallCancelled

    with pytest.raises(CallCancelled):
        denoiser(PICTURE, 25, progress=cancel)
    with pytest.raises(ValueError, match="strength must be from 0 to 1"):
        denoiser(PICTURE, 25, strength=2)
    denoiser.model.tail.weight.data.fill_(float("inf"))
    with pytest.raises(CheckpointInvalid, match="not finite"):
        denoiser(PICTURE, 25)


def test_elsewhere_it_does_nothing(monkeypatch):
    monkeypatch.setitem(sys.modules, "spaces", None)  # as if it were not installed
    assert zero_gpu.find_zero_gpu() is None
    monkeypatch.delitem(sys.modules, "spaces")
    pytest.importorskip("spaces", reason="the Hub's own package, which its Spaces have: pip install spaces")
    assert zero_gpu.find_zero_gpu() is None

import functools
import hashlib
import signal

import numpy as np
import pytest
import safetensors.torch
import yaml
from PIL import Image

from denoiser import add_noise
from denoiser.analysis.signal_dependence import estimate_noise
from tests.conftest import PHOTO
from train.__main__ import main
from train.trainer import Trainer

TINY = {
    "model": {"architecture": "unet", "widths": [8, 16], "blocks": [1, 1]},
    "data": {"scale": [0.5, 1.0], "copies": 1, "candidates": 2},
    "stages": [{"until": 0.5, "patch": 32, "batch": 4}, {"until": 1.0, "patch": 40, "batch": 2, "loss": "mse"}],
    "optimizer": {"rate": 2e-3, "warmup": 5, "ema": 0.9},
    "budget": {"steps": 60},
    "bfloat16": False,
}


@pytest.fixture(scope="session")
def photographs(tmp_path_factory):
    """Four crops of a photograph, one of them small, two files that are no pictures, and a table of licences."""
    folder = tmp_path_factory.mktemp("photographs")
    with Image.open(PHOTO) as image:
        for index in range(3):
            image.crop((index * 64, 0, index * 64 + 160, 160)).save(folder / f"p{index}.png")
        image.crop((0, 0, 20, 30)).save(folder / "small.png")
    (folder / "broken.jpg").write_bytes(b"broken")
    (folder / "notes.txt").write_text("no picture")
    (folder / "about.tsv").write_text("file\tlicence\np0.png\tCC0\np1.png\tCC BY\np2.png\tCC0\nsmall.png\tCC0\n")
    return folder


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    """Six noisy/clean pairs, named as camera data sets name them."""
    folder = tmp_path_factory.mktemp("pairs")
    with Image.open(PHOTO) as image:
        whole = np.asarray(image)
    for index in range(6):
        clean = whole[index * 40 : index * 40 + 80, :90]
        noisy = add_noise(clean / 255, "sensor", seed=index, gain=4, read=10).clip(0, 1)
        for role, pixels in (("gt", clean), ("noise", np.rint(noisy * 255).astype(np.uint8))):
            (folder / role).mkdir(exist_ok=True)
            Image.fromarray(pixels).save(folder / role / f"{index:02d}_{role}.png")
    return folder


@pytest.fixture(scope="session")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="session")
def trained(photographs, cache, tmp_path_factory):
    """A finished run of 30 steps on the photographs, for tests that start from one: they copy it."""
    folder = tmp_path_factory.mktemp("trained")
    (folder / "config.yaml").write_text(yaml.safe_dump(TINY | {"budget": {"steps": 30}}))
    assert main(command(cache, folder / "config.yaml", photographs, folder / "run")) == 0
    return folder / "run"


@pytest.fixture(scope="session", autouse=True)
def one_rendering():
    """Curves with the same axes and lines are rendered once, which takes a fifth of a short run."""
    from matplotlib.figure import Figure

    rendered: dict[tuple, bytes] = {}
    render = Figure.savefig

    def save(figure, path, **options):
        looks = tuple((axes.get_title(), axes.get_ylabel(), len(axes.lines)) for axes in figure.axes)
        if looks not in rendered:
            render(figure, path, **options)
            rendered[looks] = path.read_bytes()
        path.write_bytes(rendered[looks])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Figure, "savefig", save)
        yield


@pytest.fixture(scope="module", autouse=True)
def one_estimate():
    """The noise of the same picture is estimated once: of short runs that takes up to half of the time."""
    known: dict[tuple, object] = {}

    def estimate_once(picture):
        if picture.alpha is not None or picture.beyond is not None:
            return estimate_noise(picture)
        looks = hashlib.sha256(picture.pixels.tobytes()).digest(), picture.pixels.shape, picture.dtype, picture.maximum
        if looks not in known:
            known[looks] = estimate_noise(picture)
        return known[looks]

    with pytest.MonkeyPatch.context() as patch:
        for user in ("train.data.noisy", "denoiser.network_input"):
            patch.setattr(f"{user}.estimate_noise", estimate_once)
        yield


@pytest.fixture
def config(tmp_path):
    def write(**changes):
        path = tmp_path / "config.yaml"
        path.write_text(yaml.safe_dump(TINY | changes))
        return path

    return write


def command(cache, config, photographs, run, *more):
    start = ["--config", str(config), "--output", str(run), "--cpu", "--cache", str(cache), "--workers", "0"]
    return [*start, *(["--data", str(photographs)] if photographs else []), *more]


@pytest.fixture
def arguments(cache):
    return functools.partial(command, cache)


MIXTURE = [
    {"kind": "gaussian", "sigma": [0, 50]},
    {"kind": "sensor", "gain": [0.1, 4], "read": 3, "share": 2},
    {"kind": "correlated", "grain": [0.5, 2]},
    {"kind": "jpeg", "quality": [20, 90]},
    {"kind": "salt_and_pepper"},
    {"kind": "poisson"},
]


ONE_STAGE = [{"until": 1.0, "patch": 32, "batch": 4}]


def weights(run):
    return safetensors.torch.load_file(run / "checkpoint" / "model.safetensors")


@pytest.fixture
def stop_at(monkeypatch):
    def stop_at(step):
        def train_step(trainer, batches, original=Trainer._train_step):
            original(trainer, batches)
            if trainer.step == step:
                trainer._signals.append(signal.SIGTERM)

        monkeypatch.setattr(Trainer, "_train_step", train_step)

    yield stop_at

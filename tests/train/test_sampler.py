import multiprocessing
import os
import signal
import subprocess
import sys
import time
from itertools import islice

import pytest
import torch
from PIL import Image

from tests.conftest import PHOTO, ROOT
from train.config import Data, Stage
from train.data import sampler
from train.data.mixture import NoiseMixture
from train.data.photographs import Photographs
from train.data.sampler import BatchSampler, data_loader
from train.data.sources import find_images

STAGES = (Stage(0.5, 24, 4), Stage(1.0, 32, 2))


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photographs")
    with Image.open(PHOTO) as image:
        for index in range(3):
            image.crop((index * 64, 0, index * 64 + 100, 90)).save(folder / f"p{index}.png")
    return Photographs(find_images([folder]), 3, (0.5, 1.0), 2, 32, torch.device("cpu"))


def draws(photographs, process=0, processes=1, **data):
    mixture = NoiseMixture(({"kind": "gaussian", "sigma": [0, 50]}, {"kind": "camera"}))
    return BatchSampler(photographs, mixture, Data(**data), 3, process, processes)


@pytest.mark.parametrize("workers", [1, 2])
def test_workers_draw_ahead_what_would_be_drawn_without_them(photographs, workers):
    asked = []

    def requests():
        for step in range(100):
            asked.append(step)
            yield step, STAGES[step >= 4]

    drawn = draws(photographs, flat=0.3, clip=0.5)
    batches = data_loader(drawn, requests(), workers)
    ahead = list(islice(batches, 7))
    assert len(asked) == 7 + 2 * workers  # no further: what is asked for late may follow the clock
    for step, batch in enumerate(ahead):
        for one, other in zip(batch, drawn[step, STAGES[step >= 4]]):
            assert torch.equal(one, other) and one.stride() == other.stride()


@pytest.mark.parametrize("batch", [4, 64])  # the second does not fit into a pipe: the worker waits within it
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_batches_are_drawn_in_the_main_process_after_a_worker_dies_or_hangs(
    photographs, number, batch, monkeypatch, capsys
):
    drawn, stage = draws(photographs), Stage(1.0, 24, batch)
    batches = data_loader(drawn, iter([(step, stage) for step in range(8)]), 1)
    received = [next(batches)]
    (worker,) = multiprocessing.active_children()
    time.sleep(0.3)  # time for it to begin with the next ones
    os.kill(worker.pid, number)
    monkeypatch.setattr(sampler, "WORKER_TIMEOUT", 0.2)
    received += list(batches)
    assert len(received) == 8 and "a worker stopped" in capsys.readouterr().err
    for step, one in enumerate(received):
        assert all(torch.equal(part, other) for part, other in zip(one, drawn[step, stage]))
    worker.join(600)
    assert not worker.is_alive()


def test_batches_need_no_shared_memory(photographs, monkeypatch):
    """Containers have 64 MB of it: a batch is sent through a pipe instead."""
    monkeypatch.setattr(torch.UntypedStorage, "_share_fd_cpu_", lambda *_: pytest.fail("shared memory"), raising=False)
    batches = data_loader(draws(photographs), iter([(0, STAGES[0])]), 1)
    assert next(batches)[0].shape == (4, 3, 24, 24)


def test_processes_share_the_batch_that_one_would_draw(photographs):
    whole = draws(photographs)[5, STAGES[0]]
    shares = [draws(photographs, process, 2)[5, STAGES[0]] for process in range(2)]
    for part, one, other in zip(whole, *shares):
        assert torch.equal(part, torch.cat([one, other]))


ON_A_DEVICE = """
import copy, sys, torch
from tests import device
device.register()
class Generator(torch.Generator):  # the toy has none of its own
    def __new__(cls, device=None):
        return super().__new__(cls)
torch.Generator = Generator
from denoiser import NOISES
from denoiser.models import Unet
from train.optim import update_ema
from train.config import Data, Optimizer, Stage
from train.data.photographs import Photographs
from train.data.sources import find_images
from train.data.mixture import NoiseMixture
from train.data.sampler import BatchSampler, data_loader
from train.optim import build_optimizer

torch.set_num_threads(1)
photographs = Photographs(find_images([sys.argv[1]]), 3, (0.5, 1.0), 2, 32, torch.device("toy"))
assert photographs.pixels.device.type == "toy" and photographs.pixels.dtype == torch.uint8
stage = Stage(1.0, 32, 4)
def draws(mixture, **data):
    sampler = BatchSampler(photographs, mixture, Data(**data), 0, 0, 1)
    return data_loader(sampler, iter([(step, stage) for step in range(3)]), 0)
for kind in NOISES:
    batches = draws(NoiseMixture(({"kind": kind},)), permute_channels=0.5, flat=0.5, clip=0.5)
    next(batches)  # tables are brought there once
    device.OPERATIONS.clear()
    batch = next(batches)
    assert all(part.device.type == "toy" for part in batch), kind
    waits = [name for name in device.OPERATIONS if "local_scalar" in name or "nonzero" in name]
    assert not waits, (kind, waits)

model = Unet(Unet.Config(widths=(8, 16), blocks=(1, 1))).to("toy")
average = copy.deepcopy(model)
optimizer = build_optimizer(model, Optimizer(kind="muon", center_update=True))
before = [parameter.detach().clone() for parameter in model.parameters()]
for step, (clean, noisy, level) in enumerate(draws(NoiseMixture(({"kind": "gaussian"}, {"kind": "camera"})), clip=0.5)):
    waits = [name for name in device.OPERATIONS if "local_scalar" in name or "nonzero" in name]
    assert not step or not waits, waits
    loss = (model(noisy, level) - clean).abs().mean()
    loss.backward()
    optimizer.step()
    update_ema(average, model, step, 0.9)
    device.OPERATIONS.clear()
assert all((one != other).any().item() for one, other in zip(before, model.parameters()))
print("drawn and learned on", loss.device)
"""


def test_on_a_device_photographs_lie_there_and_crops_and_noise_are_made_there(tmp_path):
    """No GPU is needed: PyTorch takes a simulated device for one, and refuses what was left on the CPU."""
    pytest.importorskip("torch.utils.backend_registration")
    with Image.open(PHOTO) as image:
        for index in range(2):
            image.crop((index * 64, 0, index * 64 + 100, 90)).save(tmp_path / f"p{index}.png")
    done = subprocess.run(
        [sys.executable, "-c", ON_A_DEVICE, str(tmp_path)], cwd=ROOT, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stderr
    assert "drawn and learned on toy:0" in done.stdout

"""Training batches: clean crops, noisy crops and noise levels, as a function of the seed and the step's number."""

import multiprocessing
import os
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Generator, Iterable, Iterator

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from denoiser.self_supervised import Objective

from ..config import Data, Stage
from .augment import flat_areas, permute_channels
from .drawings import draw_crops, noise_gains
from .mixture import NoiseMixture
from .noisy import NoisyPictures
from .photographs import Photographs
from .stream import PhotographStream

WORKER_TIMEOUT = 50
"""Seconds without a batch after which a worker counts as hanging."""

Batch = tuple[torch.Tensor, torch.Tensor, torch.Tensor]


class BatchSampler(Dataset):
    """Batches by (step, stage), drawn on the device where the photographs lie.

    Args:
        photographs: Clean ones, streamed or not, pairs of 2 C channels, or noisy ones alone.
        mixture: The noise; None for pairs, which bring their own.
        data: How crops are drawn.
        seed: Of all that is drawn.
        process, processes: Which share of each batch is this process's.
        objective: What noisy pictures alone are for.
    """

    def __init__(
        self,
        photographs: Photographs | NoisyPictures | PhotographStream,
        mixture: NoiseMixture | None,
        data: Data,
        seed: int,
        process: int,
        processes: int,
        objective: Objective | None = None,
    ):
        self.photographs, self._mixture, self._data, self._seed = photographs, mixture, data, seed
        self._process, self._processes, self._objective = process, processes, objective

    def __getitem__(self, request: tuple[int, Stage]) -> Batch:
        """Clean and noisy crops (B, C, patch, patch) in [0, 1], channels_last, and noise levels (B,).

        Of noisy pictures alone, the clean crops have no channels and the noisy ones those of all shots.
        """
        step, stage = request
        photographs, data = self.photographs.at(step), self._data
        device = photographs.pixels.device
        generator = torch.Generator(device).manual_seed(self._seed * 1_000_003 + step)
        if isinstance(photographs, NoisyPictures):
            shots, turns = self._objective.shots, self._objective.turns
            noisy, level = photographs.crops(stage.batch, stage.patch, shots, turns, generator)
            return self._share(noisy[:, :0], noisy, level)
        crops = photographs.crops(stage.batch, stage.patch, data.candidates, generator)
        if self._mixture is None:
            clean, noisy = crops.chunk(2, dim=1)
            level = (noisy - clean).square().mean((1, 2, 3)).sqrt()
        else:
            if data.permute_channels:
                crops = permute_channels(crops, data.permute_channels, generator)
            if data.flat:
                crops = flat_areas(crops, data.flat, generator)
            if data.drawings:
                drawn = torch.rand(stage.batch, generator=generator, device=device) < data.drawings
                crops = draw_crops(crops, drawn, generator)
            # Gray pictures with gray noise, which a color network otherwise never learns to trust.
            gray = torch.rand(stage.batch, 1, 1, 1, generator=generator, device=device) < data.grayscale
            clean = torch.where(gray, crops.mean(1, keepdim=True), crops)
            noisy, level = self._mixture(clean, generator)
            noisy = torch.where(gray, noisy[:, :1], noisy)
            if data.drawings:
                gain = torch.where(drawn, noise_gains(level, generator), 1)
                noisy, level = clean + gain[:, None, None, None] * (noisy - clean), gain * level
            if data.clip:
                clipped = torch.rand(stage.batch, 1, 1, 1, generator=generator, device=device) < data.clip
                noisy = torch.where(clipped, noisy.clamp(0, 1), noisy)
            if data.quantize:
                quantized = torch.rand(stage.batch, 1, 1, 1, generator=generator, device=device) < data.quantize
                noisy = torch.where(quantized, (noisy * 255).round() / 255, noisy)
        return self._share(clean, noisy, level)

    def _share(self, clean: torch.Tensor, noisy: torch.Tensor, level: torch.Tensor) -> Batch:
        """This process's part of a batch."""
        share = len(level) // self._processes
        mine = slice(self._process * share, (self._process + 1) * share)
        clean, noisy = (part[mine].contiguous(memory_format=torch.channels_last) for part in (clean, noisy))
        return clean, noisy, level[mine]


def _ignore_signals(worker: int) -> None:
    """Ignore signals that are sent to every process of a terminal, service or job.

    A worker must hand over batches until the training process has saved; it ends with that process.
    """
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if hasattr(os, "setsid"):
        os.setsid()
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()


def _end_with(parent: int) -> None:
    """End this process when its parent is gone: a batch that nobody takes out of the pipe would hold it forever."""
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)


def data_loader(
    sampler: BatchSampler, requests: Iterable[tuple[int, Stage]], workers: int
) -> Generator[Batch, None, None]:
    """A batch for each request, in order; ``workers`` processes draw ahead (at 0 each is drawn when it is asked for).

    Requests are taken two a worker ahead. On a GPU nothing is drawn ahead: kernels are queued before they are needed.
    If a worker dies or hangs, the same batches are drawn in this process from then on.
    """
    if not workers:
        yield from (sampler[request] for request in requests)
        return
    requests = iter(requests)
    taken: deque[tuple[int, Stage]] = deque()

    def record() -> Iterator[tuple[int, Stage]]:
        for request in requests:
            taken.append(request)
            yield request

    loader = DataLoader(
        _NumpyBatches(sampler),
        sampler=record(),
        batch_size=None,
        collate_fn=_unchanged,
        num_workers=workers,
        prefetch_factor=2,
        worker_init_fn=_ignore_signals,
        generator=torch.Generator(),  # not the global one, whose draws would be others with and without workers
    )
    try:
        on_death = signal.getsignal(signal.SIGCHLD) if hasattr(signal, "SIGCHLD") else None
        batches = iter(loader)
        if on_death is not None:  # that of the loader raises wherever this process is when a worker dies, as in a step
            signal.signal(signal.SIGCHLD, on_death)
        # The workers' end of the pipe: held open here, it would hide that one died in the middle of a batch.
        batches._worker_result_queue._writer.close()
        while batch := _next_in_time(batches):
            taken.popleft()
            clean, noisy, level = batch
            yield _to_crops(clean), _to_crops(noisy), torch.from_numpy(level)
        return
    except (RuntimeError, EOFError, OSError) as error:
        reason = str(error).partition("\n")[0] or "its pipe ended"
        print(f"a worker stopped ({reason}); batches are drawn without workers now", file=sys.stderr)
        _kill_workers()
    while taken:
        yield sampler[taken.popleft()]
    yield from (sampler[request] for request in requests)


def _next_in_time(batches: Iterator) -> tuple[np.ndarray, ...] | None:
    """The next batch, None after the last; a worker that does not give one in time is killed, which is an error here.

    The loader's own timeout ends with the first byte, and most of the time a worker waits in the middle of a batch.
    """
    watch = threading.Timer(WORKER_TIMEOUT, _kill_workers)
    watch.daemon = True
    watch.start()
    try:
        return next(batches, None)
    finally:
        watch.cancel()


def _kill_workers() -> None:
    for child in multiprocessing.active_children():
        child.kill()


class _NumpyBatches(Dataset):
    """Batches as numpy arrays (B, H, W, C), which go through pipes: tensors would need shared memory, and containers
    have little of that."""

    def __init__(self, sampler: BatchSampler):
        self._sampler = sampler

    def __getitem__(self, request: tuple[int, Stage]) -> tuple[np.ndarray, ...]:
        clean, noisy, level = self._sampler[request]
        return *(crops.permute(0, 2, 3, 1).numpy() for crops in (clean, noisy)), level.numpy()


def _unchanged(batch: tuple[np.ndarray, ...]) -> tuple[np.ndarray, ...]:
    return batch


def _to_crops(array: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(array).permute(0, 3, 1, 2)

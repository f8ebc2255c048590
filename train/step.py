"""One training step: forward, backward, update of the weights and of their average."""

import copy
import os
import shutil
from collections import Counter
from collections.abc import Callable

import torch
from accelerate import Accelerator
from torch.profiler import record_function

from .config import Stage
from .data.sampler import Batch
from .losses import LOSSES
from .optim import build_optimizer, learning_rate, update_ema
from .plan import Plan

PLAIN_STEPS = 3
"""Steps of a stage before its step is captured: in them kernels are compiled and chosen, and state is made."""


class CapturedStep:
    """A step on CUDA crops as one graph: its hundreds of kernels start together, not one by one from Python."""

    def __init__(self, step: Callable[..., torch.Tensor], batch: Batch):
        self._batch = [tensor.clone() for tensor in batch]
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph):
            self._loss = step(*self._batch)

    def __call__(self, batch: Batch) -> torch.Tensor:
        """The step with other crops of the same size."""
        for ours, given in zip(self._batch, batch):
            ours.copy_(given)
        self._graph.replay()
        return self._loss.clone()  # the next replay writes over it


def has_compiler() -> bool:
    """Whether there is the C++ compiler that torch.compile calls."""
    return any(shutil.which(name) for name in (os.environ.get("CXX", "g++"), "g++", "clang++", "cl"))


class TrainingStep:
    """The network with its optimizer, average and teacher, on the device; a call makes one step.

    Attributes:
        model: The network that is trained.
        average: The moving average of its weights, which is validated and saved.
        rate: The learning rate of the last step.
        compiling: Whether a step is under way that compiles the network, and has not yet changed a weight.
    """

    def __init__(self, plan: Plan, accelerator: Accelerator):
        self._plan, self._config, self._accelerator = plan, plan.config, accelerator
        device = accelerator.device
        self.model = plan.model.to(device, memory_format=torch.channels_last).train()
        self.average = copy.deepcopy(self.model).eval()
        self.rate = 0.0
        self.compiling = False
        self._optimizer = build_optimizer(self.model, self._config.optimizer)
        self._teacher = plan.teacher and plan.teacher.to(device, memory_format=torch.channels_last)
        self._compiled: set[tuple[int, int]] = set()
        self._compile: bool = self._config.compile and has_compiler()
        self._plain_steps: Counter[Stage] = Counter()
        self._captured: tuple[Stage, CapturedStep] | None = None

    def restore(self, state: dict) -> None:
        """Take over what :meth:`state` returned."""
        self.model.load_state_dict(state["model"])
        self.average.load_state_dict(state["average"])
        self._optimizer.load_state_dict(state["optimizer"])

    def state(self) -> dict:
        """What a run needs to go on."""
        return {
            "model": self.model.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self._optimizer.state_dict(),
        }

    def prepare(self) -> None:
        """Make the network ready for several processes, and compile it."""
        prepared, self._optimizer = self._accelerator.prepare(self.model, self._optimizer)
        # Compiled for each stage's size: with dynamic sizes inductor has failed.
        self._forward = torch.compile(prepared, dynamic=False) if self._compile else prepared
        if self._teacher:
            self._teach = torch.compile(self._teacher, dynamic=False) if self._compile else self._teacher
        for group in self._optimizer.param_groups:
            group["lr"] = torch.zeros((), device=self._accelerator.device)  # a captured step reads it anew
        # An objective makes its generator in the step, and several processes exchange gradients in it.
        alone = self._accelerator.num_processes == 1 and not self._plan.objective
        self._captures = self._compile and alone and self._accelerator.device.type == "cuda"

    def compiles(self, stage: Stage) -> bool:
        """Whether the next step, of this stage, compiles the network; asked once before each."""
        size = stage.batch, stage.patch
        self.compiling = self._compile and size not in self._compiled
        self._compiled.add(size)
        return self.compiling

    def __call__(self, batch: Batch, stage: Stage, number: int, progress: float) -> torch.Tensor:
        """Make a step.

        Args:
            batch: Clean and noisy crops, noise levels.
            stage: Its stage.
            number: Its number.
            progress: The share of the budget that is used.

        Returns:
            The loss; not finite if a gradient is not.
        """
        settings = self._config.optimizer
        self.rate = learning_rate(settings, number, progress)
        for group in self._optimizer.param_groups:
            group["lr"].fill_(self.rate * group["scale"])
        loss = self._captured_update(batch, stage) if self._captures else self._update(batch, stage, number)
        update_ema(self.average, self.model, number, settings.ema)
        return loss

    def _captured_update(self, batch: Batch, stage: Stage) -> torch.Tensor:
        """:meth:`_update`, captured once the stage has made a few plain steps, on a stream of their own as capture
        asks for."""
        if self._captured and self._captured[0] == stage:
            return self._captured[1](batch)
        self._captured = None  # frees the memory of the stage before
        if self._plain_steps[stage] == PLAIN_STEPS:
            self._captured = stage, CapturedStep(lambda *batch: self._update(batch, stage, 0), batch)
            return self._captured[1](batch)
        self._plain_steps[stage] += 1
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            loss = self._update(batch, stage, 0)
        torch.cuda.current_stream().wait_stream(stream)
        return loss

    def _update(self, batch: Batch, stage: Stage, number: int) -> torch.Tensor:
        """Forward, backward, and an update of the weights; returns the loss. ``number`` counts for objectives alone."""
        with record_function("forward"):
            loss = self._loss(batch, stage, number)
        with record_function("backward"):
            self._optimizer.zero_grad(set_to_none=True)
            self._accelerator.backward(loss)
            norm = self._accelerator.clip_grad_norm_(self.model.parameters(), self._config.optimizer.clip)
        self.compiling = False
        with record_function("optimizer"):
            self._optimizer.step()
        return loss.detach() + 0 * norm

    def _loss(self, batch: Batch, stage: Stage, number: int) -> torch.Tensor:
        clean, noisy, level = batch
        if self._plan.objective:
            return self._plan.objective.loss(self._network, noisy, level, self._generator(number))
        loss_function, restored = LOSSES[stage.loss], self._network(noisy, level)
        loss = loss_function(restored, clean)
        if stage.distill:
            with torch.no_grad(), self._accelerator.autocast():
                target = self._teach(noisy, None if self._teacher.config.blind else level)
            loss = torch.lerp(loss, loss_function(restored, target.float()), stage.distill)
        return loss

    def _network(self, noisy: torch.Tensor, level: torch.Tensor) -> torch.Tensor:
        """The network's estimate, float32; a blind one is not given the level."""
        with self._accelerator.autocast():
            return self._forward(noisy, None if self.model.config.blind else level).float()

    def _generator(self, number: int) -> torch.Generator:
        """For what an objective draws: of the seed, the step and the process, apart from what the sampler draws."""
        processes = self._accelerator.num_processes
        seed = (self._config.seed * 1_000_003 + number) * processes + self._accelerator.process_index
        return torch.Generator(self._accelerator.device).manual_seed(2**40 + seed)

"""The run itself: prepare, step, validate, save, finish.

The crops and noise of a step depend on the seed, the step's number and the stage only: a run that was killed draws the
same ones when it resumes, and several processes, each with its share, see the global batch of one.
"""

import contextlib
import dataclasses
import itertools
import math
import signal
import statistics
import sys
import time
from collections import deque
from collections.abc import Generator, Iterator
from datetime import date

import torch
from accelerate import Accelerator
from accelerate.utils import reduce
from safetensors import SafetensorError
from torch.profiler import record_function
from tqdm import tqdm

from denoiser.errors import CheckpointInvalid
from denoiser.hub.card_measurements import MIN_GAIN, mean_gain

from . import evaluate, report
from .config import ConfigError, Stage
from .data.sampler import Batch, BatchSampler, data_loader
from .facts import print_summary, run_facts
from .pictures import read_pictures
from .plan import Plan, recipe
from .profile import step_profiler
from .state import STATE_FILE, read_json, save_checkpoint, save_state
from .step import TrainingStep
from .validation import group_means, overall_psnr
from .without_clean import read_noisy_pictures, write_outcome

DIVERGED = 2.0  # dB below its best validation at which a run counts as diverged
DRAW_EVERY = 60  # seconds at least between curves and samples
CHECK_EVERY = 20  # steps between looks at the loss: each look makes a GPU wait


class StoppedCompiling(BaseException):
    """Asked to stop while the network was being compiled: the step under way has changed nothing yet."""


class Trainer:
    """One run in one process: ``prepare``, then ``train``. Its files are in ``--output``."""

    def __init__(self, plan: Plan):
        self.plan, self.config, self.run = plan, plan.config, plan.options.output
        self.accelerator = Accelerator(
            cpu=plan.options.cpu,
            mixed_precision="bf16" if self.config.bfloat16 else "no",
            log_with=plan.tracker,
        )
        self.device, self.is_main = self.accelerator.device, self.accelerator.is_main_process
        self.step, self.seconds, self.progress = 0, 0.0, 0.0
        self.loss, self.loss_name = torch.zeros((), device=self.device), None
        self.diverged, self.saved, self.best = False, True, -math.inf
        self._signals: list[int] = []
        self._stages: deque[Stage] = deque()

    # -- prepare

    def prepare(self) -> None:
        """Read the pictures, put the network on the device, and go on where an earlier call stopped.

        Raises:
            ConfigError: No picture can be used, or the processes do not share the run's folder.
        """
        torch.backends.cudnn.benchmark = True
        if self.plan.tracker:
            names = {"config": str(self.plan.options.config), "output": str(self.run)}
            self.accelerator.init_trackers("denoiser", names, self.plan.tracker_options)
        if self.plan.objective:
            self.pictures = read_noisy_pictures(self.plan, self.device)
        else:
            self.pictures = read_pictures(self.plan, self.device, self.accelerator.local_main_process_first)
        self.training_step = TrainingStep(self.plan, self.accelerator)
        self._restore()
        self.facts = run_facts(self.plan, self.pictures, self.training_step.model, self.accelerator.num_processes)
        if self.is_main:
            print_summary(self.plan, self.pictures, self.facts)

    def _restore(self) -> None:
        state = self.plan.state
        if state:
            self.training_step.restore(state)
            self.step, self.seconds, self.best = state["step"], state["seconds"], state["best"]
            self.loss, self.loss_name = state["loss"].to(self.device), state["loss_name"]
            if self.is_main:
                report.trim_log(self.run, self.step)
        elif self.is_main:
            report.begin_anew(self.run)
        steps = self.accelerator.gather(torch.tensor([self.step], device=self.device)).tolist()
        if len(set(steps)) > 1:
            raise ConfigError(f"{self.run} is not the same folder on all machines; put it on a shared disk")
        self.training_step.prepare()
        for name, now in (("commits", report.commit()), ("machines", evaluate.machine(self.device))):
            if now not in self.plan.lineage[name]:
                self.plan.lineage[name].append(now)
        if not state:  # initial weights may diverge before the first save
            self.best = overall_psnr(self.pictures.validation.measure(self.training_step.average))

    # -- step

    def _should_stop(self) -> bool:
        """Agree with the other processes on the share of the budget used, and on whether to stop."""
        now = self.config.budget.progress(self.step, self.seconds)
        stop = bool(self._signals or self._stream_failure)
        if self.accelerator.num_processes > 1:
            values = [now if self.is_main else 0.0, float(stop), float(self.diverged)]
            now, stop, diverged = reduce(torch.tensor(values, device=self.device), "sum").tolist()
            self.diverged = diverged > 0
        self.progress = now
        return now >= 1 or stop > 0 or self.diverged

    @property
    def _stream_failure(self) -> Exception | None:
        return self.pictures.photographs.failure if self.config.data.window else None

    def _requests(self) -> Iterator[tuple[int, Stage]]:
        """The steps to come and their stages; under a wall-clock budget the stage of when a batch is asked for."""
        stages, budget = self.config.stages, self.config.budget
        for number in itertools.count(self.step):
            share = number / budget.steps if budget.steps else self.progress
            self._stages.append(next((stage for stage in stages if share < stage.until), stages[-1]))
            yield number, self._stages[-1]

    def _train_step(self, batches: Iterator[Batch]) -> bool:
        """Make one step; returns whether the network was compiled in it."""
        with record_function("draw"):
            batch = next(batches)
        stage = self._stages.popleft()
        if (compiles := self.training_step.compiles(stage)) and self.is_main:
            print(f"compiling for crops of {stage.patch}x{stage.patch}, outside the budget: this can take minutes")
        loss = self.training_step(batch, stage, self.step, self.progress)
        # Losses of two kinds are not averaged with each other.
        name = self.config.objective["kind"] if self.config.objective else stage.loss
        self.loss = torch.lerp(self.loss, loss, 0.01) if name == self.loss_name else loss
        self.loss_name = name
        self.step += 1
        return compiles

    # -- validate and save

    def save(self) -> dict[str, float] | None:
        """Validate, save the state and the averaged checkpoint, log. None, and nothing saved, if it has diverged."""
        if not math.isfinite(float(self.loss)):
            return None
        try:
            results = self.pictures.validation.measure(self.training_step.average)
        except CheckpointInvalid:  # what it computes is no picture
            return None
        scores = group_means(results)
        if statistics.fmean(scores.values()) < self.best - DIVERGED:
            return None
        self.best = max(self.best, overall_psnr(results))
        try:
            self._write(scores, results)
            self.saved = True
        except (OSError, RuntimeError, SafetensorError) as error:  # torch and safetensors have errors of their own
            self.saved = False
            print(f"not saved at step {self.step}: {error}. Make room in {self.run}; trying again.", file=sys.stderr)
        return scores

    def _write(self, scores: dict[str, float], results: dict[str, dict[str, float]]) -> None:
        """The state, the averaged checkpoint and a line of the log."""
        save_state(
            self.run,
            recipe=recipe(self.config),
            budget=dataclasses.asdict(self.config.budget),
            decay_only=bool(self.plan.state and self.plan.state["decay_only"]),
            step=self.step,
            seconds=self.seconds,
            loss=self.loss.cpu(),
            loss_name=self.loss_name,
            best=self.best,
            lineage=self.plan.lineage,
            stream=self.pictures.photographs.state if self.config.data.window else None,
            **self.training_step.state(),
        )
        save_checkpoint(self.training_step.average, self.run / "checkpoint", self.config.checkpoint_dtype)
        record = {
            "step": self.step,
            "seconds": round(self.seconds, 1),
            "loss": float(self.loss),
            "rate": self.training_step.rate,
        }
        record |= {"objective": self.loss_name} | scores
        report.add_to_log(self.run, record | {"groups": results})
        self.accelerator.log({name: value for name, value in record.items() if name != "step"}, step=self.step)

    def draw(self) -> None:
        """Draw the curve and the samples."""
        if self.plan.objective:
            report.draw_curve(self.run)
            self.pictures.validation.draw(self.run, self.training_step.average)
            return
        noises = self.pictures.validation.noises
        shown = [noises[level] for level in ("25", "50") if level in noises] or list(noises.values())[:2]
        report.draw_curve(self.run)
        report.draw_samples(self.run, self.pictures.validation.crops, shown)

    # -- the whole run

    def train(self) -> int:
        """Run; returns the exit status: 0 done, 1 diverged or out of photographs, 130 stopped early."""
        before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

        def ask_to_stop(number: int, frame) -> None:
            """Finish the step, or leave it while it compiles; save, leave; asked again, leave at once."""
            self._signals.append(number)
            signal.signal(number, before[number])
            # Several processes stop after a step: each would wait for the gradients of one that has left.
            if self.training_step.compiling and self.accelerator.num_processes == 1:
                self.training_step.compiling = False
                raise StoppedCompiling

        for number in before:
            signal.signal(number, ask_to_stop)
        self._loop()
        # All leave the group together, here: Gloo's threads abort a process that exits as a member of it, now and then
        # (pytorch/pytorch#179291), and NCCL waits for the others.
        self.accelerator.state.destroy_process_group()
        for number, handler in before.items():
            signal.signal(number, handler)
        if not self.step and not self.diverged:
            if self.is_main:
                print("stopped before the first step; the same command begins again")
            return 130
        if self.diverged or (self.is_main and self.save() is None):
            if self.is_main:
                self._report_divergence()
            return 1
        if not self.saved:
            print(
                f"error: the last steps are not saved; make room in {self.run}, then the same command", file=sys.stderr
            )
            return 1
        try:
            if self.is_main:
                self.draw()
            if self.progress >= 1:
                return self._finish() if self.is_main else 0
        except OSError as error:
            print(f"error: {error}. Make room in {self.run}, then the same command finishes the run", file=sys.stderr)
            return 1
        if self.is_main:
            minutes = self.seconds / 60
            print(f"stopped at step {self.step}, {minutes:.1f} minutes in; the same command goes on from there")
        if failure := self._stream_failure:
            print(
                f"error: no further photographs can be read ({type(failure).__name__}: {failure}). The same command "
                "tries again; another data set needs another --output, with --init "
                f"{self.run}",
                file=sys.stderr,
            )
            return 1
        return 130

    def _loop(self) -> None:
        """Step until the budget is used up, somebody asks to stop, or the run diverges; save now and then."""
        steps = self.config.budget.steps
        bar = tqdm(
            total=steps or round(self.config.budget.minutes * 60),
            unit="step" if steps else "s",
            initial=int(self.step if steps else self.seconds),
            disable=not self.is_main,
        )
        saved_at, drawn_at, scores = time.monotonic(), -math.inf, {}
        looked_at, looked_step = saved_at, self.step
        self._should_stop()
        batches = self._batches()
        profiler = step_profiler(self.device) if self.plan.options.profile and self.is_main else None
        if profiler:
            profiler.start()
        while True:
            started = time.monotonic()
            if self._should_stop():
                break
            try:
                compiled = self._train_step(batches)
            except StoppedCompiling:
                break
            if profiler:
                profiler.step()
            save_now = time.monotonic() - saved_at > self.plan.options.save_every
            if self.step % CHECK_EVERY == 0 or save_now:
                self.diverged |= not math.isfinite(float(self.loss))
                now = time.monotonic()
                speed = (self.step - looked_step) / (now - looked_at)
                looked_at, looked_step = now, self.step
                shown = {"step": self.step, "loss": f"{float(self.loss):.5f}", "steps/s": f"{speed:.1f}"}
                decibels = {name.replace("psnr_", "dB@"): f"{value:.2f}" for name, value in scores.items()}
                bar.set_postfix(decibels | shown)
            self.seconds += 0.0 if compiled else time.monotonic() - started
            bar.update(1 if steps else int(self.seconds) - bar.n)
            if save_now:
                saved = self.save() if self.is_main else {}
                self.diverged |= saved is None
                scores = saved or {}
                if scores and self.saved and time.monotonic() - drawn_at > DRAW_EVERY:
                    with contextlib.suppress(OSError):  # a full disk, of which the next save tells
                        self.draw()
                    drawn_at = time.monotonic()
                saved_at = looked_at = time.monotonic()
                looked_step = self.step
        bar.close()
        if profiler:
            profiler.stop()
        batches.close()  # its workers end now
        if self.config.data.window:
            self.pictures.photographs.close()

    def _batches(self) -> Generator[Batch, None, None]:
        """The batches to come, drawn ahead on a CPU."""
        sampler = BatchSampler(
            self.pictures.photographs,
            None if self.plan.paired else self.plan.mixture,
            self.config.data,
            self.config.seed,
            self.accelerator.process_index,
            self.accelerator.num_processes,
            self.plan.objective,
        )
        # A stream is read ahead by a thread of its own.
        on_cpu = self.device.type == "cpu" and not self.config.data.window
        return data_loader(sampler, self._requests(), self.plan.options.workers if on_cpu else 0)

    def _report_divergence(self) -> None:
        saved = (self.run / STATE_FILE).exists()
        hint = f", from the last good weights with --init {self.run}" if saved else ""
        print(
            f"error: the run diverged by step {self.step} (loss {float(self.loss):.4g}): begin again in another "
            f"--output with a lower optimizer.rate{hint}",
            file=sys.stderr,
        )

    def _finish(self) -> int:
        """Write what a finished run leaves, and measure it; returns the exit status."""
        length = {"steps": self.step, "minutes": self.seconds / 60, "finished": date.today().isoformat()}
        if self.plan.objective:
            gain = write_outcome(self.run, self.facts | length, self.plan, self.pictures, self.training_step.average)
        else:
            report.write_facts(self.run, self.facts | length)
            report.draw_failure(self.run, *self.pictures.validation.find_worst(self.training_step.average))
            measured = self.pictures.validation.write(self.run / "validation", self.plan.paired)
            measured += ["--name", evaluate.HELD_OUT, "--device", self.device.type]
            if evaluate.main([str(self.run), *measured]):  # its file comes last: without it a run is not finished
                return 1
            gain = mean_gain(read_json(self.run / evaluate.EVALUATION_FILE))
        if gain < MIN_GAIN:
            print(
                f"warning: the checkpoint improves its noisy input by {gain:.2f} dB only: it has learned next to "
                "nothing"
            )
        print(f"checkpoint: {self.run / 'checkpoint'}")
        return 0

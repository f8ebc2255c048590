"""Train a denoising autoencoder.

    python -m train --config train/configs/color-small.yaml --data photographs --output runs/color-small
    accelerate launch --num_processes 2 -m train --config ... --data ... --output ...

Reads top to bottom. RUN (``--output``) then holds ``checkpoint/`` (the averaged weights as a checkpoint folder),
``state.pt`` (everything needed to go on after a kill; the same command resumes), ``log.jsonl``, ``curve.png``,
``samples.png``, ``validation/`` (the held-out crops), ``evaluation.json`` (measured on those) and ``run.json``.

Everything drawn in a step follows from the seed, the step's number and the stage alone: a run that was killed draws the
same crops and noise when it goes on, and several processes, each working on its share, see the global batch of one.
"""

import argparse
import contextlib
import copy
import ctypes
import dataclasses
import itertools
import json
import math
import os
import signal
import statistics
import sys
import time
from collections import Counter, deque
from collections.abc import Iterator
from datetime import date
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.tracking import get_available_trackers
from accelerate.utils import reduce
from PIL import Image
from tqdm import tqdm

from denoiser import Denoiser, DenoiserError
from denoiser.metrics import psnr
from denoiser.noise import add_noise

from . import evaluate, publish, report
from .adopt import adopt_weights
from .config import LOSSES, Budget, Config, ConfigError, Stage, load_config
from .data import (
    HUB_PREFIX,
    Photographs,
    Source,
    find_images,
    fingerprint,
    match_pairs,
    split_by_name,
    validation_pictures,
)
from .degrade import Mixture
from .draw import Draws, stream
from .optim import build_optimizer
from .start import history, load_network, load_teacher, which_weights
from .state import STATE_FILE, load_state, save_checkpoint, save_state

VALIDATION_SIGMAS = (15, 25, 50)
COLLAPSE = 2.0  # dB below its best validation at which a run counts as come apart
DRAW_EVERY = 60  # seconds at least between curves and samples
CHECK_EVERY = 20  # steps between looks at the loss: each look makes a GPU wait
CACHE = Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser() / "denoiser"


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m train", description="Train a denoising autoencoder.")
    parser.add_argument("--config", type=Path, required=True, help="YAML file, see train/configs")
    parser.add_argument(
        "--data",
        nargs="+",
        action="extend",
        default=[],
        help="photographs: folders, tar files, hf://datasets/user/name",
    )
    parser.add_argument("--clean", nargs="+", default=[], help="own pairs: the clean pictures, instead of --data")
    parser.add_argument("--noisy", nargs="+", default=[], help="own pairs: the noisy pictures, matched by name")
    parser.add_argument("--output", type=Path, required=True, metavar="RUN", help="folder of the run; resumed if begun")
    parser.add_argument(
        "--init", metavar="CHECKPOINT", help="start from these weights: run, folder, bundled, user/repo"
    )
    parser.add_argument(
        "--teacher", metavar="CHECKPOINT", help="what the stages with `distil` learn from; given as for --init"
    )
    budget = parser.add_mutually_exclusive_group()
    budget.add_argument("--minutes", type=float, help="wall-clock budget, instead of the config's")
    budget.add_argument("--steps", type=int, help="step budget, instead of the config's")
    parser.add_argument("--seed", type=int, help="instead of the config's")
    parser.add_argument(
        "--save-every", type=float, default=120, metavar="SECONDS", help="how often to save and validate"
    )
    parser.add_argument("--cpu", action="store_true", help="train on the processor even if there is a GPU")
    parser.add_argument(
        "--workers",
        type=int,
        default=1,
        help="processes that draw ahead, on a CPU (default 1; 0: none, a little faster where there are two cores)",
    )
    parser.add_argument("--cache", type=Path, default=CACHE, help=f"folder for decoded photographs (default {CACHE})")
    parser.add_argument("--tracker", help="also log to this of accelerate's trackers, such as trackio (local) or wandb")
    parser.add_argument("--push-to-hub", metavar="user/name", help="publish the finished run there")
    return parser.parse_args(arguments)


def read_config(options: argparse.Namespace) -> Config:
    """The configuration file with what the command line overrides."""
    config = load_config(options.config)
    if options.minutes is not None or options.steps is not None:
        budget = type(config.budget)(minutes=options.minutes, steps=options.steps)
        config = dataclasses.replace(config, budget=budget)
    return config if options.seed is None else dataclasses.replace(config, seed=options.seed)


def begin(options: argparse.Namespace, state: dict | None, pictures: str) -> dict:
    """What a run is known by from its first call on: what it began from, and the commits and machines it ran at.

    Raises:
        ConfigError: The run was begun from other weights or pictures, or without a teacher.
        DenoiserError: What it starts or learns from is not there.
    """
    if not state:
        return {
            **history(options.init),
            "teacher": options.teacher,
            "teacher_weights": which_weights(options.teacher) if options.teacher else None,
            "pictures": pictures,
            "commits": [],
            "machines": [],
        }
    began = dict(state["began"])
    for option in ("init", "teacher"):
        given, known = getattr(options, option), began[option]
        if given and not known:
            raise ConfigError(f"{options.output} was begun without --{option}; choose another --output")
        if option == "init" and given and Path(given).resolve() != Path(known).resolve():
            raise ConfigError(f"{options.output} was begun with --init {known}; choose another --output")
    began["teacher"] = options.teacher or began["teacher"]  # it may have moved
    if pictures != began["pictures"]:
        raise ConfigError(f"{options.output} was begun with other pictures; give the same or choose another --output")
    return began


def is_finished(run: Path, state: dict | None, budget: Budget) -> bool:
    """Whether nothing is left of the budget, and all that a run leaves is there."""
    done = state and (state["step"] >= budget.steps if budget.steps else state["seconds"] >= budget.minutes * 60)
    return bool(done) and all((run / name).exists() for name in (report.RUN_FILE, evaluate.EVALUATION_FILE))


def count(model: torch.nn.Module) -> int:
    """How many parameters a network has."""
    return sum(parameter.numel() for parameter in model.parameters())


def check_output(run: Path) -> None:
    """Raise OSError now rather than after an hour if the run's folder cannot be written."""
    run.mkdir(parents=True, exist_ok=True)
    probe = run / f".probe-{os.getpid()}"  # every process of a run tries
    probe.touch()
    probe.unlink(missing_ok=True)


@torch.no_grad()
def follow(average, model, updates: int, decay: float) -> None:
    """Move ``average``, after so many updates, towards ``model``.

    Exponential, with a memory that grows with the run, so that the random start is soon forgotten.
    """
    kept = min(decay, (1 + updates) / (10 + updates)) if updates else 0.0
    torch._foreach_lerp_(list(average.parameters()), list(model.parameters()), 1 - kept)


def keep_memory() -> None:
    """Have glibc keep what is freed: each step needs it again, and page faults cost a tenth of its time on a CPU."""
    with contextlib.suppress(OSError, AttributeError):  # another system, another allocator
        libc = ctypes.CDLL("libc.so.6")
        libc.mallopt(-3, 32 << 20)  # M_MMAP_THRESHOLD, at its most: larger pieces are mapped anew each time
        libc.mallopt(-1, 2**31 - 1)  # M_TRIM_THRESHOLD


def push_finished(options: argparse.Namespace) -> int:
    """Publish a finished run if that was asked for; returns the exit status."""
    asked = options.push_to_hub
    return 1 if asked and publish.main([str(options.output), asked]) else 0


def validation_noises(config: Config, mixture: Mixture, paired: bool) -> dict[str, tuple[str, dict] | None]:
    """What the held-out crops are validated under, by name: the pairs' own noise, Gaussian levels, or the mixture."""
    if paired:
        return {"real": None}
    if config.noise and any(component["kind"] != "gaussian" for component in config.noise):
        return mixture.middles()
    return {str(sigma): ("gaussian", {"sigma": sigma}) for sigma in VALIDATION_SIGMAS}


def validate(model, pictures: list[np.ndarray], noises: dict[str, tuple[str, dict] | None]) -> dict[str, float]:
    """Mean PSNR on the held-out crops under each noise; the level is told where it is Gaussian."""
    denoiser = Denoiser(model, device=str(next(model.parameters()).device))
    results = {}
    for name, noise in noises.items():
        values = []
        for index, picture in enumerate(pictures):
            planes = picture.astype(np.float32) / 255
            if noise is None:
                clean, noisy = np.split(planes, 2, axis=2)
            else:
                clean, noisy = planes, add_noise(planes, noise[0], seed=index, **noise[1])
                noisy = noisy.clip(-8, 8)  # what lies beyond, a pixel in a million, would be refused
            sigma = noise[1]["sigma"] if noise and noise[0] == "gaussian" else None
            values.append(psnr(clean, np.rint(denoiser(noisy, sigma) * 255) / 255))
        results[f"psnr_{name}"] = sum(values) / len(values)
    return results


def finite_mean(scores: dict[str, float]) -> float:
    """The mean of validation scores to judge later ones by; minus infinity if there is none (pairs without noise)."""
    mean = statistics.fmean(scores.values())
    return mean if math.isfinite(mean) else -math.inf


def write_validation(run: Path, pictures: list[np.ndarray], paired: bool) -> list[str]:
    """The held-out crops as files, so that ``train.evaluate`` can measure on them again; its arguments for them."""
    folders = [run / "validation" / "clean", run / "validation" / "noisy"] if paired else [run / "validation"]
    for index, picture in enumerate(pictures):
        for folder, part in zip(folders, np.split(picture, len(folders), axis=2)):
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(part.squeeze()).save(folder / f"{index:03d}.png")
    return ["--data", str(folders[0]), *(["--noisy", str(folders[1])] if paired else [])]


def main(arguments: list[str] | None = None) -> int:
    """Train; returns the exit status: 0 done, 1 diverged or not published, 2 cannot start, 130 stopped early."""
    options = parse_arguments(arguments)
    keep_memory()
    paired = bool(options.clean or options.noisy)
    speaks = os.environ.get("LOCAL_RANK", "0") == "0"  # the process of a machine that prints

    # Everything that can be wrong is found before any work is done.
    try:
        config = read_config(options)
        torch.manual_seed(config.seed)
        model = config.build_model()
        low, high = model.config.sigma_range
        mixture = Mixture(config.noise or ({"kind": "gaussian", "sigma": [low, min(high, 100)]},))
        if paired == bool(options.data) or bool(options.clean) != bool(options.noisy):
            raise ConfigError("give --data, or --clean and --noisy together")
        if options.tracker and options.tracker not in map(str, get_available_trackers()):
            raise ConfigError(f"--tracker {options.tracker} is not installed, or accelerate does not know it")
        if options.workers < 0:
            raise ConfigError(f"--workers must not be negative, got {options.workers}")
        if options.push_to_hub:
            publish.check_target(options.push_to_hub)
        processes = int(os.environ.get("WORLD_SIZE", "1"))
        if uneven := [stage.batch for stage in config.stages if stage.batch % processes]:
            raise ConfigError(f"a batch of {uneven[0]} cannot be shared by {processes} processes")
        check_output(options.output)
        places = [*options.data, *options.clean, *options.noisy]
        partners: dict[Source, Source] = {}
        if paired:
            sources, noisy = match_pairs(options.clean, options.noisy)
            partners = dict(zip(sources, noisy))
        else:
            sources = find_images(options.data)
        recipe = json.dumps(dataclasses.asdict(config), sort_keys=True)
        state = load_state(options.output)
        if state and state["recipe"] != recipe:
            raise ConfigError(f"{options.output} holds a run of another configuration; choose another --output")
        began = begin(options, state, fingerprint(sources + list(partners.values())))
        if options.init and not state:
            adopt_weights(model, load_network(options.init))
        finished = is_finished(options.output, state, config.budget)
        teacher = None if finished else load_teacher(began["teacher"], began["teacher_weights"], config)
    except (ConfigError, DenoiserError, publish.CannotPublish, OSError, ValueError, RuntimeError) as error:
        if speaks:
            print(f"error: {error}", file=sys.stderr)
        return 2
    if finished:
        if not speaks:
            return 0
        print(f"{options.output} is finished: {options.output / 'checkpoint'}")
        return push_finished(options)

    accelerator = Accelerator(
        cpu=options.cpu, mixed_precision="bf16" if config.bfloat16 else "no", log_with=options.tracker
    )
    device, main_process = accelerator.device, accelerator.is_main_process
    torch.backends.cudnn.benchmark = True
    if options.tracker:
        accelerator.init_trackers("denoiser", {"config": str(options.config), "output": str(options.output)})

    training, held_out = split_by_name(sources, config.data.validation, config.data.held_out)
    if not training:
        if main_process:
            print(f"error: data.held_out names all {len(held_out)} pictures; none is left to train on", file=sys.stderr)
        return 2
    channels = model.config.channels
    pictures, unread = validation_pictures(held_out, channels, [partners[source] for source in held_out if paired])
    while not pictures and len(training) > 1:  # of a handful of pictures the one held out may be broken: the next, then
        held_out = [training.pop(0)]
        pictures, more = validation_pictures(held_out, channels, [partners[source] for source in held_out if paired])
        unread += more
    if not pictures:
        if main_process:
            print(f"error: none of the pictures could be used; the first: {unread[0]}", file=sys.stderr)
        return 2
    with accelerator.local_main_process_first():  # the others of this machine find the cache filled
        photographs = Photographs(
            training,
            channels,
            config.data.scale,
            config.data.copies,
            max(stage.patch for stage in config.stages),
            device,
            config.seed,
            [partners[source] for source in training if paired],
            options.cache,
            config.data.subsampled,
        )
    if not len(photographs):
        if main_process:
            print(f"error: none of the pictures could be used; the first: {photographs.skipped[0]}", file=sys.stderr)
        return 2

    model = model.to(device, memory_format=torch.channels_last).train()
    average = copy.deepcopy(model).eval()
    optimizer = build_optimizer(model, config.optimizer)

    # Go on where an earlier call stopped, if there was one.
    step, spent, loss_average, loss_kind = 0, 0.0, torch.zeros((), device=device), None
    if state:
        model.load_state_dict(state["model"])
        average.load_state_dict(state["average"])
        optimizer.load_state_dict(state["optimizer"])
        step, spent, loss_average = state["step"], state["seconds"], state["loss"].to(device)
        loss_kind = state["loss_kind"]
        if main_process:
            report.trim_log(options.output, step)
    if len(set(accelerator.gather(torch.tensor([step], device=device)).tolist())) > 1:
        if speaks:
            print(
                f"error: {options.output} is not the same folder on all machines; put it on a shared disk",
                file=sys.stderr,
            )
        return 2
    prepared, optimizer = accelerator.prepare(model, optimizer)
    # Compiled anew for each stage's size: with sizes left open (after the second one seen) inductor has failed.
    forward = torch.compile(prepared, dynamic=False) if config.compile else prepared
    if teacher:
        teacher.to(device, memory_format=torch.channels_last)
        teach = torch.compile(teacher, dynamic=False) if config.compile else teacher

    for known, now in ((began["commits"], report.commit()), (began["machines"], evaluate.machine(device))):
        if now not in known:
            known.append(now)
    facts = {
        "config": dataclasses.asdict(config),
        "model": dataclasses.asdict(model.config),
        "model_class": type(model).__name__,
        "compression": getattr(model, "compression", None),
        "parameters": count(model),
        "data": {
            "training": len(training) - len(photographs.skipped),
            "held_out": len(pictures),
            "apart": not set(training) & set(held_out),
            "megapixels": photographs.pixels.shape[0] / 1e6,
            "licences": report.licences(
                [source.path for source in training],
                list((Counter(source.name for source in training) - Counter(photographs.unused)).elements()),
            ),
            "places": [place if place.startswith(HUB_PREFIX) else Path(place).resolve().name for place in places],
            "paired": paired,
        },
        **{name: began[name] for name in ("init", "init_run", "init_card")},
        "teacher": teacher and began["teacher_weights"] | {"parameters": count(teacher)},
        "commit": ", then ".join(began["commits"]),
        "machine": ", then ".join(began["machines"]),
        "processes": accelerator.num_processes,
    }
    if main_process:
        for line in photographs.skipped + unread:
            print(f"skipped {line}", file=sys.stderr)
        if absent := set(config.data.held_out) - {source.name for source in held_out}:
            print(f"data.held_out: not in --data, so not held out: {', '.join(sorted(absent))}", file=sys.stderr)
        print(
            f"{facts['data']['training']} photographs, {facts['data']['megapixels']:.0f} MP; {len(pictures)} held out; "
            f"{facts['parameters'] / 1e6:.2f} M parameters; {facts['machine']}, {processes} process(es)"
        )
        if paired and config.noise:
            print("the pairs bring their own noise: the configuration's `noise` is not used")
        if not model.config.blind and (paired or any(noise["kind"] != "gaussian" for noise in config.noise)):
            print(
                "this network is told the noise's level, which is only estimated later: `blind: true` may serve better"
            )
        if state:
            print(f"resuming {options.output} at step {step}, {spent / 60:.1f} minutes in")

    def progress_and_stop() -> tuple[float, bool, bool]:
        """Share of the budget used, by the main process's clock; whether any process was asked to stop, or failed."""
        budget = config.budget
        now = step / budget.steps if budget.steps else spent / (budget.minutes * 60)
        if accelerator.num_processes == 1:
            return now, bool(stop), diverged
        said = torch.tensor([now if main_process else 0.0, float(bool(stop)), float(diverged)], device=device)
        now, asked, failed = reduce(said, "sum").tolist()
        return now, asked > 0, failed > 0

    def save() -> dict[str, float] | None:
        """Validate, save the state and the averaged checkpoint, log. None, and nothing saved, if it has come apart."""
        nonlocal best
        scores = validate(average, pictures, noises)
        if not math.isfinite(float(loss_average)) or not statistics.fmean(scores.values()) >= best - COLLAPSE:
            return None
        best = max(best, finite_mean(scores))
        save_state(
            options.output,
            recipe=recipe,
            model=model.state_dict(),
            average=average.state_dict(),
            optimizer=optimizer.state_dict(),
            step=step,
            seconds=spent,
            loss=loss_average.cpu(),
            loss_kind=loss_kind,
            best=best,
            began=began,
        )
        save_checkpoint(average, options.output / "checkpoint", config.storage)
        record = {"step": step, "seconds": round(spent, 1), "loss": float(loss_average), "rate": rate}
        record |= {"objective": loss_kind} | scores
        with open(options.output / report.LOG_FILE, "a", encoding="utf-8") as log:
            log.write(json.dumps(record) + "\n")
        accelerator.log({name: value for name, value in record.items() if name != "step"}, step=step)
        return scores

    def draw() -> None:
        """The curve and the samples, for whoever follows the run."""
        report.draw_curve(options.output)
        report.draw_samples(options.output, pictures, shown)

    stop: list[int] = []
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def ask_to_stop(number: int, frame) -> None:
        """Finish the step, save, leave; asked again, leave at once."""
        stop.append(number)
        signal.signal(number, before[number])

    for number in before:
        signal.signal(number, ask_to_stop)

    rate, known, saved_at, diverged = 0.0, {}, time.monotonic(), False
    noises = validation_noises(config, mixture, paired)
    shown = [noises[level] for level in ("25", "50") if level in noises] or list(noises.values())[:2]
    # A run that begins from good weights may ruin them before it saves for the first time.
    best = state["best"] if state else finite_mean(validate(average, pictures, noises))
    drawn_at = -math.inf
    total = config.budget.steps or round(config.budget.minutes * 60)
    bar = tqdm(
        total=total,
        unit="step" if config.budget.steps else "s",
        initial=int(step if config.budget.steps else spent),
        disable=not main_process,
    )
    looked_at, looked_step = time.monotonic(), step
    asked_for: deque[Stage] = deque()

    def requests() -> Iterator[tuple[int, Stage]]:
        """The steps to come and their stages; under a wall-clock budget the stage of when a batch is asked for."""
        for number in itertools.count(step):
            share = number / config.budget.steps if config.budget.steps else progress
            asked_for.append(next((stage for stage in config.stages if share < stage.until), config.stages[-1]))
            yield number, asked_for[-1]

    progress, _, _ = progress_and_stop()
    draws = Draws(
        photographs,
        None if paired else mixture,
        config.data,
        config.seed,
        accelerator.process_index,
        accelerator.num_processes,
    )
    batches = stream(draws, requests(), options.workers if device.type == "cpu" else 0)
    while True:
        started = time.monotonic()
        progress, asked, diverged = progress_and_stop()
        if progress >= 1 or asked or diverged:
            break
        rate = config.optimizer.rate * min(1, (step + 1) / (config.optimizer.warmup + 1))
        rate *= 0.5 * (1 + math.cos(math.pi * progress))
        for group in optimizer.param_groups:
            group["lr"] = rate * group["share"]

        clean, noisy, level = next(batches)
        stage = asked_for.popleft()
        with accelerator.autocast():
            restored = forward(noisy, None if model.config.blind else level)
        loss = LOSSES[stage.loss](restored.float(), clean)
        if stage.distil:
            with torch.no_grad(), accelerator.autocast():
                taught = teach(noisy, None if teacher.config.blind else level)
            loss = torch.lerp(loss, LOSSES[stage.loss](restored.float(), taught.float()), stage.distil)
        optimizer.zero_grad(set_to_none=True)
        accelerator.backward(loss)
        norm = accelerator.clip_grad_norm_(model.parameters(), config.optimizer.clip)
        optimizer.step()
        follow(average, model, step, config.optimizer.ema)
        healthy = loss.detach() + 0 * norm  # a gradient that is not finite shows in the loss, too
        # Losses of two kinds are not averaged with each other.
        loss_average = torch.lerp(loss_average, healthy, 0.01) if stage.loss == loss_kind else healthy
        loss_kind = stage.loss
        step += 1

        save_now = time.monotonic() - saved_at > options.save_every
        if step % CHECK_EVERY == 0 or save_now:
            diverged |= not math.isfinite(float(loss_average))
            now = time.monotonic()
            speed = (step - looked_step) / (now - looked_at)
            looked_at, looked_step = now, step
            bar.set_postfix(known | {"step": step, "loss": f"{float(loss_average):.5f}", "steps/s": f"{speed:.1f}"})
        spent += time.monotonic() - started
        bar.update(1 if config.budget.steps else int(spent) - bar.n)
        if save_now:
            scores = save() if main_process else {}
            diverged |= scores is None
            known = {name.replace("psnr_", "dB@"): f"{value:.2f}" for name, value in (scores or {}).items()}
            if scores and time.monotonic() - drawn_at > DRAW_EVERY:
                draw()
                drawn_at = time.monotonic()
            saved_at = looked_at = time.monotonic()
            looked_step = step
    bar.close()
    del batches  # its workers end now
    for number, handler in before.items():
        signal.signal(number, handler)
    if diverged or (main_process and save() is None):
        if main_process:
            kept = (options.output / STATE_FILE).exists()
            print(
                f"error: the run came apart by step {step} (loss {float(loss_average):.4g}): begin again in another "
                "--output with a lower optimizer.rate"
                + (f", from the last good weights with --init {options.output}" if kept else ""),
                file=sys.stderr,
            )
        return 1
    if not main_process:
        return 130 if progress < 1 else 0

    draw()
    if progress < 1:
        print(f"stopped at step {step}, {spent / 60:.1f} minutes in; the same command goes on from there")
        return 130
    report.write_facts(
        options.output, facts | {"steps": step, "minutes": spent / 60, "finished": date.today().isoformat()}
    )
    measured = write_validation(options.output, pictures, paired)
    measured += ["--name", "held-out photographs", "--device", device.type]
    if evaluate.main([str(options.output), *measured]):
        return 1
    accelerator.end_training()
    print(f"checkpoint: {options.output / 'checkpoint'}")
    return push_finished(options)


if __name__ == "__main__":
    sys.exit(main())

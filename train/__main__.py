"""Train a denoising autoencoder.

    python -m train --config train/configs/color-small.yaml --data photographs --output runs/color-small

Reads top to bottom. RUN (``--output``) then holds ``checkpoint/`` (the averaged weights as a checkpoint folder),
``state.pt`` (everything needed to go on after a kill; the same command resumes) and ``log.jsonl``.
"""

import argparse
import dataclasses
import json
import math
import os
import signal
import sys
import time
from contextlib import nullcontext
from pathlib import Path

import torch
import torch.nn.functional as F
from torch.optim.swa_utils import AveragedModel
from tqdm import tqdm

from denoiser import noise
from denoiser.metrics import psnr

from .config import Config, ConfigError, load_config
from .data import Photographs, find_images, split_by_name, validation_pictures

LOSSES = {"l1": F.l1_loss, "mse": F.mse_loss}
VALIDATION_SIGMAS = (15, 25, 50)


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m train", description="Train a denoising autoencoder.")
    parser.add_argument("--config", type=Path, required=True, help="YAML file, see train/configs")
    parser.add_argument("--data", type=Path, required=True, nargs="+", action="extend", help="folders of photographs")
    parser.add_argument("--output", type=Path, required=True, metavar="RUN", help="folder of the run; resumed if begun")
    parser.add_argument("--minutes", type=float, help="wall-clock budget, instead of the config's")
    parser.add_argument("--steps", type=int, help="step budget, instead of the config's")
    parser.add_argument("--seed", type=int, help="instead of the config's")
    parser.add_argument(
        "--save-every", type=float, default=120, metavar="SECONDS", help="how often to save and validate"
    )
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    return parser.parse_args(arguments)


def read_config(options: argparse.Namespace) -> Config:
    """The configuration file with what the command line overrides."""
    config = load_config(options.config)
    if options.minutes or options.steps:
        budget = {"minutes": options.minutes} if options.minutes else {"steps": options.steps}
        config = dataclasses.replace(config, budget=type(config.budget)(**budget))
    return config if options.seed is None else dataclasses.replace(config, seed=options.seed)


def save_atomically(path: Path, write) -> None:
    """Write beside the file and rename: whoever reads, or comes after a kill, sees the old file or the new one."""
    temporary = path.with_name(f".{path.name}.partial")
    write(temporary)
    os.replace(temporary, path)


def moving_average(decay: float):
    """Exponential moving average whose memory grows with the run, so that the random start is soon forgotten."""

    def update(averages, currents, count):
        now = min(decay, (1 + int(count)) / (10 + int(count)))
        torch._foreach_lerp_(averages, currents, 1 - now)

    return torch.no_grad()(update)


@torch.no_grad()
def validate(model, pictures: list[torch.Tensor], device: torch.device, autocast) -> dict[int, float]:
    """Mean PSNR per sigma on the held-out photographs, protocol of the README."""
    results = {}
    for sigma in VALIDATION_SIGMAS:
        values = []
        for index, clean in enumerate(pictures):
            noisy = noise.add_noise(clean[0], "gaussian", seed=index, sigma=sigma)[None].to(device)
            with autocast():
                restored = model(noisy, sigma / 255)
            restored = (restored.float().clamp(0, 1) * 255).round() / 255
            values.append(psnr(clean[0].numpy(), restored[0].cpu().numpy()))
        results[sigma] = sum(values) / len(values)
    return results


def main(arguments: list[str] | None = None) -> int:
    """Train; returns the exit status: 0 done, 1 diverged, 2 cannot start, 130 stopped early and resumable."""
    options = parse_arguments(arguments)
    try:
        config = read_config(options)
        training_files, validation_files = split_by_name(find_images(options.data), config.data.validation)
        options.output.mkdir(parents=True, exist_ok=True)
    except (ConfigError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2

    device = torch.device(options.device)
    torch.manual_seed(config.seed)
    torch.backends.cudnn.benchmark = True
    model = config.build_model().to(device, memory_format=torch.channels_last).train()
    average = AveragedModel(model, multi_avg_fn=moving_average(config.optimizer.ema)).eval()
    optimizer = torch.optim.AdamW(
        model.parameters(), config.optimizer.rate, weight_decay=config.optimizer.weight_decay, fused=True
    )
    generator = torch.Generator(device).manual_seed(config.seed)
    random = noise.TorchRandom(generator)
    low, high = model.config.sigma_range

    def autocast():
        return torch.autocast(device.type, torch.bfloat16) if config.bfloat16 else nullcontext()

    # Go on where an earlier call stopped, if there was one.
    step, spent, best_known = 0, 0.0, {}
    state_path, checkpoint = options.output / "state.pt", options.output / "checkpoint"
    recipe = json.loads(json.dumps(dataclasses.asdict(config)))
    if state_path.exists():
        state = torch.load(state_path, map_location="cpu", weights_only=True)
        if json.loads(state["recipe"]) != recipe:
            print(
                f"error: {options.output} holds a run of another configuration; choose another --output",
                file=sys.stderr,
            )
            return 2
        model.load_state_dict(state["model"])
        average.load_state_dict(state["average"])
        optimizer.load_state_dict(state["optimizer"])
        generator.set_state(state["generator"])
        step, spent = state["step"], state["seconds"]
        print(f"resuming {options.output} at step {step}, {spent / 60:.1f} minutes in")

    photographs = Photographs(
        training_files,
        model.config.channels,
        config.data.scale,
        config.data.copies,
        max(stage.patch for stage in config.stages),
        device,
        config.seed,
    )
    pictures = validation_pictures(validation_files, model.config.channels)
    for line in photographs.skipped:
        print(f"skipped {line}", file=sys.stderr)
    print(
        f"{len(training_files) - len(photographs.skipped)} photographs, {photographs.pixels.shape[0] / 1e6:.0f} MP; "
        f"{len(pictures)} held out; {sum(p.numel() for p in model.parameters()) / 1e6:.2f} M parameters on {device}"
    )
    forward = torch.compile(model) if config.compile else model

    def save() -> dict[int, float]:
        """Save the state and the averaged checkpoint, validate, log."""
        state = {
            "recipe": json.dumps(recipe),
            "model": model.state_dict(),
            "average": average.state_dict(),
            "optimizer": optimizer.state_dict(),
            "generator": generator.get_state(),
            "step": step,
            "seconds": spent,
        }
        save_atomically(state_path, lambda path: torch.save(state, path))
        average.module.save_pretrained(checkpoint)
        scores = validate(average.module, pictures, device, autocast)
        record = {"step": step, "seconds": round(spent, 1), "loss": loss_average, "rate": rate}
        with open(options.output / "log.jsonl", "a", encoding="utf-8") as log:
            log.write(json.dumps(record | {f"psnr_{sigma}": value for sigma, value in scores.items()}) + "\n")
        return scores

    stop = []
    for signum in (signal.SIGINT, signal.SIGTERM):  # finish the step, save, leave
        signal.signal(signum, lambda number, frame: stop.append(number))

    loss_average, rate, saved_at = None, 0.0, time.monotonic()
    total = config.budget.steps or round(config.budget.minutes * 60)
    bar = tqdm(
        total=total, unit="step" if config.budget.steps else "s", initial=int(step if config.budget.steps else spent)
    )
    while not stop:
        started = time.monotonic()
        progress = step / config.budget.steps if config.budget.steps else spent / (config.budget.minutes * 60)
        if progress >= 1:
            break
        stage = next(stage for stage in config.stages if progress < stage.until)
        rate = config.optimizer.rate * min(1, (step + 1) / (config.optimizer.warmup + 1))
        rate *= 0.5 * (1 + math.cos(math.pi * progress))
        for group in optimizer.param_groups:
            group["lr"] = rate

        clean = photographs.crops(stage.batch, stage.patch, config.data.candidates, generator)
        sigma = torch.rand(stage.batch, 1, 1, 1, generator=generator, device=device) * (high - low) + low
        # Some crops are grey pictures with grey noise, which a colour network otherwise never learns to trust.
        gray = torch.rand(stage.batch, 1, 1, 1, generator=generator, device=device) < config.data.gray
        clean = torch.where(gray, clean.mean(1, keepdim=True), clean)
        noisy = noise.gaussian(clean, random, sigma)
        noisy = torch.where(gray, noisy[:, :1], noisy)
        with autocast():
            restored = forward(noisy, None if model.config.blind else sigma.flatten() / 255)
        loss = LOSSES[stage.loss](restored.float(), clean)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), config.optimizer.clip)
        optimizer.step()
        average.update_parameters(model)
        step += 1

        value = loss.item()
        if not math.isfinite(value):
            print(
                f"\nerror: the loss is {value} at step {step}; the last good state is in {state_path}", file=sys.stderr
            )
            return 1
        loss_average = value if loss_average is None else 0.99 * loss_average + 0.01 * value
        elapsed = time.monotonic() - started
        spent += elapsed
        bar.update(1 if config.budget.steps else int(spent) - bar.n)
        if step % 20 == 0:
            bar.set_postfix(best_known | {"step": step, "loss": f"{loss_average:.5f}", "steps/s": f"{1 / elapsed:.1f}"})
        if time.monotonic() - saved_at > options.save_every:
            best_known = {f"dB@{sigma}": f"{value:.2f}" for sigma, value in save().items()}
            saved_at = time.monotonic()
    bar.close()
    scores = save()
    print(f"step {step}, {spent / 60:.1f} minutes: " + ", ".join(f"{v:.2f} dB at sigma {s}" for s, v in scores.items()))
    if stop:
        print(f"stopped early; the same command goes on from {state_path}")
        return 130
    print(f"checkpoint: {checkpoint}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

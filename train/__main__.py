"""Train a denoising autoencoder.

    python -m train --config train/configs/color-small.yaml --data photographs --output runs/color-small
    accelerate launch --num_processes 2 -m train --config ... --data ... --output ...

RUN (``--output``) then holds ``checkpoint/`` (the averaged weights as a checkpoint folder), ``state.pt`` (everything
needed to go on after a kill; the same command resumes), ``log.jsonl``, ``curve.png``, ``samples.png``, ``validation/``
(the held-out crops), ``evaluation.json`` (measured on those) and ``run.json``.
"""

import argparse
import contextlib
import ctypes
import os
import sys
from pathlib import Path

from denoiser import DenoiserError

from . import publish
from .config import ConfigError
from .plan import make_plan
from .state import escape_unprintable, lock_run
from .trainer import Trainer


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m train", description="Train a denoising autoencoder.")
    add = parser.add_argument
    cache = Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser() / "denoiser"
    add("--config", type=Path, required=True, help="YAML file, see train/configs")
    add(
        "--data",
        nargs="+",
        action="extend",
        default=[],
        help="photographs: folders, tar files, hf://datasets/user/name",
    )
    add("--clean", nargs="+", default=[], help="own pairs: the clean pictures, instead of --data")
    add("--noisy", nargs="+", default=[], help="own pairs: the noisy pictures, matched by name")
    add("--output", type=Path, required=True, metavar="RUN", help="folder of the run; resumed if started")
    add("--init", metavar="CHECKPOINT", help="start from these weights: run, folder, bundled, user/repo")
    add("--teacher", metavar="CHECKPOINT", help="what the stages with `distill` learn from; given as for --init")
    budget = parser.add_mutually_exclusive_group()
    budget.add_argument("--minutes", type=float, help="wall-clock budget, instead of the config's")
    budget.add_argument("--steps", type=int, help="step budget, instead of the config's")
    budget.add_argument(
        "--decay-from",
        type=Path,
        metavar="RUN",
        help="take over the state of a run in its constant phase, which stays as it is, and let the rate decay now",
    )
    add("--seed", type=int, help="instead of the config's")
    add("--save-every", type=float, default=120, metavar="SECONDS", help="how often to save and validate")
    add("--cpu", action="store_true", help="train on the processor even if there is a GPU")
    add(
        "--workers",
        type=int,
        default=1,
        help="processes that draw ahead, on a CPU (default 1; 0: none, a little faster where there are two cores)",
    )
    add("--cache", type=Path, default=cache, help=f"folder for decoded photographs (default {cache})")
    add("--tracker", help="also log to one of accelerate's trackers: trackio, trackio:user/space, wandb ...")
    add("--profile", action="store_true", help="print where the time of a step goes, once the run is under way")
    add("--push-to-hub", metavar="user/name", help="publish the finished run there")
    return parser.parse_args(arguments)


def keep_freed_memory() -> None:
    """Have glibc keep what is freed: each step needs it again, and page faults cost a tenth of its time on a CPU."""
    with contextlib.suppress(OSError, AttributeError):  # another system, another allocator
        libc = ctypes.CDLL("libc.so.6")
        libc.mallopt(-3, 32 << 20)  # M_MMAP_THRESHOLD, at its most: larger pieces are mapped again each time
        libc.mallopt(-1, 2**31 - 1)  # M_TRIM_THRESHOLD


def main(arguments: list[str] | None = None) -> int:
    """Train; returns the exit status: 0 done, 1 broken off or not published, 2 cannot start, 130 stopped early."""
    options = parse_arguments(arguments)
    escape_unprintable()
    keep_freed_memory()
    is_local_main = os.environ.get("LOCAL_RANK", "0") == "0"  # one process of each machine prints
    try:
        plan = make_plan(options)
        lock = None if plan.finished or os.environ.get("RANK", "0") != "0" else lock_run(options.output)
    except (ConfigError, DenoiserError, OSError, ValueError, RuntimeError) as error:
        if is_local_main:
            print(f"error: {error}", file=sys.stderr)
        return 2
    if plan.finished:
        if is_local_main:
            print(f"{options.output} is finished: {options.output / 'checkpoint'}")
    else:
        trainer = Trainer(plan)
        try:
            trainer.prepare()
            status = trainer.train()
        except (ConfigError, DenoiserError, OSError) as error:
            if is_local_main:
                way_on = ". Once that is mended, the same command goes on" if isinstance(error, OSError) else ""
                print(f"error: {error}{way_on}", file=sys.stderr)
            return 2
        finally:
            trainer.accelerator.end_training()
        if lock:
            lock.release()
        if status:
            return status
        is_local_main = trainer.is_main
    if is_local_main and options.push_to_hub:
        return 1 if publish.main([str(options.output), options.push_to_hub]) else 0
    return 0


if __name__ == "__main__":
    sys.exit(main())

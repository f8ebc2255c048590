"""The plan of a training run. Mistakes are found here, before any work is done."""

import argparse
import dataclasses
import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import torch
from accelerate.tracking import get_available_trackers

from denoiser.hub.card_text import HUB_PREFIX
from denoiser.hub.push_checks import check_target
from denoiser.models import DenoisingAutoencoder
from denoiser.self_supervised import OBJECTIVES, Objective

from . import report
from .config import Budget, Config, ConfigError, load_config
from .data.mixture import NoiseMixture
from .data.noisy import find_scenes
from .data.sources import Source, find_images, fingerprint, match_pairs
from .evaluate import EVALUATION_FILE, HELD_OUT
from .lineage import load_network, load_teacher, resume_lineage, start_lineage
from .state import load_state, read_json
from .transfer import transfer_weights


@dataclass
class Plan:
    """A checked run.

    Attributes:
        options: The command line.
        config: The configuration with what the command line overrides.
        model: The network, with the weights it starts from.
        mixture: The noise.
        sources: The pictures; of pairs the clean ones; none of a stream.
        partners: The noisy picture of each clean one; empty without pairs.
        state: What was saved last, or None for a new run.
        lineage: Initial weights, teacher, commits and machines, see :mod:`train.lineage`.
        teacher: The network whose output is learned from, or None.
        objective: How to learn from noisy pictures alone, or None.
        finished: Whether nothing is left to do.
    """

    options: argparse.Namespace
    config: Config
    model: DenoisingAutoencoder
    mixture: NoiseMixture
    sources: list[Source]
    partners: dict[Source, Source]
    state: dict | None
    lineage: dict
    teacher: DenoisingAutoencoder | None
    objective: Objective | None
    finished: bool

    @property
    def paired(self) -> bool:
        """Whether the pictures are pairs."""
        return bool(self.partners)

    @property
    def tracker(self) -> str | None:
        """The name of the tracker, without the Space."""
        return self.options.tracker and self.options.tracker.partition(":")[0]

    @property
    def tracker_options(self) -> dict:
        """Options of the tracker: the Space that shows what trackio logs."""
        name, _, space = (self.options.tracker or "").partition(":")
        return {name: {"space_id": space}} if space else {}


def make_plan(options: argparse.Namespace) -> Plan:
    """Check everything.

    Raises:
        ConfigError, DenoiserError, OSError, ValueError, RuntimeError: Each says what is wrong.
    """
    config = load_config(options.config)
    if options.seed is not None:
        config = dataclasses.replace(config, seed=options.seed)
    if options.minutes is not None or options.steps is not None:
        config = dataclasses.replace(config, budget=Budget(options.minutes, options.steps))
    if "architecture" not in config.model:
        config = dataclasses.replace(config, model=_model_of_init(options) | config.model)
    torch.manual_seed(config.seed)
    model = config.build_model()
    low, high = model.config.sigma_range
    mixture = NoiseMixture(config.noise or ({"kind": "gaussian", "sigma": [low, min(high, 100)]},))
    _check_options(options, config)
    _check_writable(options.output)
    partners: dict[Source, Source] = {}
    objective = config.build_objective()
    if objective:
        sources: list[Source] = list(find_scenes(options.noisy, objective.shots))
    elif options.clean:
        sources, noisy = match_pairs(options.clean, options.noisy)
        partners = dict(zip(sources, noisy))
    else:
        sources = [] if config.data.window else find_images(options.data)
    pictures = options.data[0] if config.data.window else fingerprint(sources + list(partners.values()))
    state = load_state(options.output)
    if options.decay_from and not (state and state["decay_only"]):
        if state:
            raise ConfigError(f"--output {options.output} holds a run already, no branch of another: choose another")
        state = _branch(options.decay_from, options.output, config)
    if state:
        config = _resume_config(config, state, options.output)
        lineage = resume_lineage(state["lineage"], options.output, options.init, options.teacher, pictures)
    else:
        lineage = start_lineage(options.init, options.teacher, pictures)
        if options.init:
            transfer_weights(model, load_network(options.init))
    finished = _is_finished(options.output, config.budget, state)
    teacher = None if finished else load_teacher(lineage["teacher"], lineage["teacher_weights"], config)
    return Plan(options, config, model, mixture, sources, partners, state, lineage, teacher, objective, finished)


def recipe(config: Config) -> str:
    """The configuration but for its budget, which may change while the rate is constant; for comparing."""
    values = dataclasses.asdict(config)
    del values["budget"]
    if not config.objective:  # the recipes of earlier runs have none
        del values["objective"]
    if not config.data.window:
        del values["data"]["window"], values["data"]["window_steps"]
    return json.dumps(values, sort_keys=True)


def _check_options(options: argparse.Namespace, config: Config) -> None:
    if config.objective:
        if not options.noisy or options.clean or options.data:
            raise ConfigError("the configuration has an `objective`, for noisy pictures alone: give --noisy only")
    elif options.noisy and not (options.clean or options.data):
        raise ConfigError(
            f"--noisy alone needs a configuration with an `objective` ({', '.join(OBJECTIVES)}): train/configs has a "
            "recipe of each; with clean pictures, give --clean too"
        )
    elif bool(options.clean or options.noisy) == bool(options.data) or bool(options.clean) != bool(options.noisy):
        raise ConfigError("give --data, or --clean and --noisy together, or --noisy alone")
    if config.data.window and (len(options.data) != 1 or not options.data[0].startswith(HUB_PREFIX)):
        raise ConfigError(f"data.window is for one data set on the Hub: give --data {HUB_PREFIX}user/name")
    tracker, _, space = (options.tracker or "").partition(":")
    if tracker and tracker not in map(str, get_available_trackers()):
        raise ConfigError(f"--tracker {tracker} is not installed, or accelerate does not know it")
    if space and (tracker != "trackio" or space.count("/") != 1):
        raise ConfigError(f"--tracker {options.tracker}: only trackio takes a Space, as trackio:user/space")
    output = Path(os.path.realpath(options.output))
    if any(output.is_relative_to(os.path.realpath(name)) for name in options.data + options.clean + options.noisy):
        raise ConfigError(f"--output {options.output} is in the folder of the pictures: choose another")
    if options.workers < 0:
        raise ConfigError(f"--workers must not be negative, got {options.workers}")
    if not options.save_every >= 0:  # NaN, too
        raise ConfigError(f"--save-every must be 0 or more seconds, got {options.save_every}")
    if "" in (options.init, options.teacher):
        raise ConfigError("--init and --teacher take the name of a checkpoint, got an empty one")
    if options.push_to_hub:
        check_target(options.push_to_hub)
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    if uneven := [stage.batch for stage in config.stages if stage.batch % processes]:
        raise ConfigError(f"a batch of {uneven[0]} cannot be shared by {processes} processes")


def _model_of_init(options: argparse.Namespace) -> dict:
    """The network's config of ``--init``, for a configuration without one of its own."""
    if not options.init:
        raise ConfigError(f"{options.config.name} takes its network from --init: give a checkpoint, such as color-base")
    return dataclasses.asdict(load_network(options.init).config)


def _check_writable(run: Path) -> None:
    """Raise ConfigError now rather than after an hour if the run's folder cannot be written."""
    probe = run / f".probe-{os.getpid()}"  # every process of a run tries
    try:
        run.mkdir(parents=True, exist_ok=True)
        probe.touch()
        probe.unlink(missing_ok=True)
    except OSError as error:
        raise ConfigError(f"--output {run} cannot be written ({error.strerror}): choose another folder") from error


def _branch(source: Path, run: Path, config: Config) -> dict:
    """The state of ``source``, in its constant phase, with the budget that lets the decay begin now.

    Raises:
        ConfigError: There is no such run, or its rate is not constant.
    """
    state = load_state(source)
    if state is None:
        raise ConfigError(f"--decay-from {source}: there is no run that was saved")
    used, decay = Budget(**state["budget"]).progress(state["step"], state["seconds"]), config.optimizer.decay
    if decay == 1 or used > 1 - decay or state["step"] < config.optimizer.warmup:
        raise ConfigError(f"--decay-from {source}: its rate is not constant (step {state['step']}, {used:.0%} done)")
    if config.budget.steps:
        budget = Budget(steps=round(state["step"] / (1 - decay)))
    else:
        budget = Budget(minutes=state["seconds"] / 60 / (1 - decay))
    if (log := source / report.LOG_FILE).exists():
        shutil.copyfile(log, run / report.LOG_FILE)
    return state | {"budget": dataclasses.asdict(budget), "decay_only": True}


def _resume_config(config: Config, state: dict, run: Path) -> Config:
    """The configuration to go on with: another budget is taken while the rate is constant.

    Raises:
        ConfigError: The run has another recipe, or its rate is falling and the budget is another.
    """
    if state["recipe"] != recipe(config):
        raise ConfigError(f"{run} holds a run of another configuration; choose another --output")
    known = Budget(**state["budget"])
    if state["decay_only"] or config.budget == known:
        return dataclasses.replace(config, budget=known)
    before, now = (budget.progress(state["step"], state["seconds"]) for budget in (known, config.budget))
    if before > 1 - config.optimizer.decay:
        raise ConfigError(f"{run}: its rate is falling already, for {_describe(known)}; give the same budget")
    if now > 1 - config.optimizer.decay:
        raise ConfigError(
            f"{run} was started for {_describe(known)}, and of {_describe(config.budget)} {now:.0%} are used already: "
            f"give a larger budget, or --decay-from {run} with another --output to end now"
        )
    return config


def _describe(budget: Budget) -> str:
    return f"{budget.steps} steps" if budget.steps else f"{budget.minutes:g} minutes"


def _is_finished(run: Path, budget: Budget, state: dict | None) -> bool:
    """Whether nothing is left of the budget, and all that a run leaves is there."""
    done = state and budget.progress(state["step"], state["seconds"]) >= 1
    if not done or not all((run / name).exists() for name in (report.RUN_FILE, EVALUATION_FILE)):
        return False
    if "self_supervised" in read_json(run / report.RUN_FILE):
        return True
    # Somebody may have measured it before its end.
    return any(entry["dataset"] == HELD_OUT for entry in read_json(run / EVALUATION_FILE))

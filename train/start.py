"""What a run starts from and learns from: another run, a folder, a bundled checkpoint or one on the Hub."""

import json
import re
from pathlib import Path

from denoiser import Denoiser, card
from denoiser._hub import Checkpoint, find_checkpoint
from denoiser.models import DenoisingAutoencoder
from denoiser.safe_markdown import safe_markdown

from .config import Config, ConfigError
from .evaluate import weights_hash
from .report import RUN_FILE

CHECKPOINT = "checkpoint"


def find_start(start: str) -> Checkpoint:
    """The checkpoint that is meant: of a run's folder the one in it.

    Raises:
        DenoiserError: There is none, or it cannot be had.
    """
    checkpoint = Path(start) / CHECKPOINT
    return find_checkpoint(str(checkpoint) if checkpoint.is_dir() else start)


def which_weights(start: str) -> dict:
    """What tells a checkpoint from any other: ``name``, ``revision`` on the Hub, ``weights``, a hash."""
    found = find_start(start)
    return {"name": _name(start), "revision": found.revision, "weights": weights_hash(found.folder)}


def load_network(start: str) -> DenoisingAutoencoder:
    """The network of a checkpoint, on the CPU."""
    return Denoiser.from_checkpoint(find_start(start), device="cpu").model


def load_teacher(start: str | None, known: dict | None, config: Config) -> DenoisingAutoencoder | None:
    """The network whose output is learnt from, if any stage does so.

    Args:
        start: As given for ``--teacher``.
        known: What it was when the run began, see :func:`which_weights`.
        config: The run's.

    Raises:
        ConfigError: A teacher that no stage wants, or a stage that wants one without it, or one for other pictures, or
            other weights than the run began with.
        DenoiserError: It cannot be loaded.
    """
    if not start and any(stage.distil for stage in config.stages):
        raise ConfigError("a stage has `distil`: give --teacher, the checkpoint to learn from")
    if not start:
        return None
    if not any(stage.distil for stage in config.stages):
        raise ConfigError("--teacher: no stage has `distil`, the share of the loss that is against its output")
    if which_weights(start)["weights"] != known["weights"]:
        raise ConfigError(f"the run was begun with --teacher {known['name']}, of other weights than {start} has now")
    teacher, wanted = load_network(start), config.build_model().config.channels
    if teacher.config.channels != wanted:
        raise ConfigError(f"the teacher {start} has {teacher.config.channels} channels, the network {wanted}")
    return teacher.eval().requires_grad_(False)


def history(start: str | None) -> dict:
    """What is known of the weights a run starts from, so that its card can tell the whole way.

    Returns:
        ``init``: as it was given. ``init_run``: of a finished run's folder its length, data, config and own start.
        ``init_card``: of any other checkpoint its name, which weights they are, and what its card says of its
        training.

    Raises:
        DenoiserError: There is no such checkpoint, or it cannot be had.
    """
    if not start:
        return {"init": None, "init_run": None, "init_card": None}
    if (file := _folder(start) / RUN_FILE).is_file():
        facts = json.loads(file.read_text(encoding="utf-8"))
        kept = ("steps", "minutes", "commit", "machine", "data", "config", "init", "init_run", "init_card", "teacher")
        return {"init": start, "init_run": {name: facts.get(name) for name in kept}, "init_card": None}
    readme = find_start(start).folder / "README.md"
    text = readme.read_text(encoding="utf-8", errors="replace") if readme.is_file() else ""
    told = which_weights(start) | {
        "data": _quoted(card.section(text, "data")),
        "procedure": _quoted(card.section(text, "procedure")),
    }
    return {"init": start, "init_run": None, "init_card": told}


def _folder(start: str) -> Path:
    """The run's folder, if a run or the checkpoint in it is meant."""
    folder = Path(start).resolve()
    return folder.parent if folder.name == CHECKPOINT else folder


def _name(start: str) -> str:
    """What others may know it by: of a folder the last part alone."""
    return _folder(start).name if Path(start).is_dir() else start


def _quoted(section: str | None) -> str | None:
    """Anyone's words made fit to stand in another card: its pictures are not there, and tags could swallow the rest."""
    text = re.sub(r"!\[[^\]\n]{0,300}\]\([^)\n]{0,500}\)", "", section or "")
    return re.sub(r"\n{3,}", "\n\n", safe_markdown(text)).strip() or None

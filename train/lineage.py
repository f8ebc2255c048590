"""Where a run's weights come from: the run, folder, bundled or Hub checkpoint it starts from, and its teacher."""

import re
from pathlib import Path

from denoiser import CheckpointInvalid, Denoiser
from denoiser.hub import card, card_text
from denoiser.hub.checkpoints import Checkpoint, find_checkpoint
from denoiser.hub.safe_markdown import safe_markdown
from denoiser.models import WEIGHTS_FILE, DenoisingAutoencoder

from .config import Config, ConfigError
from .evaluate import weights_hash
from .report import RUN_FILE
from .state import read_json

CHECKPOINT = "checkpoint"


def resolve_checkpoint(start: str) -> Checkpoint:
    """The checkpoint of a name; of a run's folder the one in it.

    Raises:
        DenoiserError: There is none, or it cannot be had.
    """
    checkpoint = Path(start) / CHECKPOINT
    found = find_checkpoint(str(checkpoint) if checkpoint.is_dir() else start)
    if not (found.folder / WEIGHTS_FILE).is_file():
        raise CheckpointInvalid(f"{start} holds no checkpoint: {WEIGHTS_FILE} is missing")
    return found


def identify_weights(start: str) -> dict:
    """The identity of a checkpoint: ``name``, ``revision`` on the Hub and ``weights``, a hash."""
    found = resolve_checkpoint(start)
    return {"name": _name(start), "revision": found.revision, "weights": weights_hash(found.folder)}


def load_network(start: str) -> DenoisingAutoencoder:
    """The network of a checkpoint, on the CPU."""
    return Denoiser.from_checkpoint(resolve_checkpoint(start), device="cpu").model


def load_teacher(start: str | None, known: dict | None, config: Config) -> DenoisingAutoencoder | None:
    """The network whose output is learned from, if any stage does so.

    Args:
        start: As given for ``--teacher``.
        known: What it was when the run started, see :func:`identify_weights`.
        config: The run's.

    Raises:
        ConfigError: A teacher that no stage wants, or a stage that wants one without it, or one for other pictures, or
            other weights than the run started with.
        DenoiserError: It cannot be loaded.
    """
    if not start and any(stage.distill for stage in config.stages):
        raise ConfigError("a stage has `distill`: give --teacher, the checkpoint to learn from")
    if not start:
        return None
    if not any(stage.distill for stage in config.stages):
        raise ConfigError("--teacher: no stage has `distill`, the share of the loss that is against its output")
    if identify_weights(start)["weights"] != known["weights"]:
        raise ConfigError(f"the run was started with --teacher {known['name']}, of other weights than {start} has now")
    teacher, wanted = load_network(start), config.build_model().config.channels
    if teacher.config.channels != wanted:
        raise ConfigError(f"the teacher {start} has {teacher.config.channels} channels, the network {wanted}")
    return teacher.eval().requires_grad_(False)


def init_lineage(start: str | None) -> dict:
    """What is known of the initial weights of a run, for its card.

    Returns:
        ``init``: as given. ``init_run``: for a finished run, its length, data, config and own lineage. ``init_card``:
        for any other checkpoint, its name, weight hash, and of its card the license and the section about the pictures.

    Raises:
        DenoiserError: There is no such checkpoint, or it cannot be loaded.
    """
    if not start:
        return {"init": None, "init_run": None, "init_card": None}
    if (file := _folder(start) / RUN_FILE).is_file():
        facts = read_json(file)
        kept = ("steps", "minutes", "commit", "machine", "data", "config", "init", "init_run", "init_card", "teacher")
        return {"init": start, "init_run": {name: facts.get(name) for name in kept}, "init_card": None}
    found = resolve_checkpoint(start)
    readme = found.folder / "README.md"
    text = readme.read_text(encoding="utf-8", errors="replace") if readme.is_file() else ""
    facts = identify_weights(start) | {
        "data": _quote(card_text.section(text, "data")),
        "license": card.license_of(found),
    }
    return {"init": start, "init_run": None, "init_card": facts}


def start_lineage(init: str | None, teacher: str | None, pictures: str) -> dict:
    """The lineage of a new run: initial weights, teacher and pictures. Commits and machines are added when it runs.

    Args:
        init: As given for ``--init``.
        teacher: As given for ``--teacher``.
        pictures: The fingerprint of its pictures.

    Raises:
        DenoiserError: The initial weights or the teacher cannot be loaded.
    """
    return {
        **init_lineage(init),
        "teacher": teacher,
        "teacher_weights": identify_weights(teacher) if teacher else None,
        "pictures": pictures,
        "commits": [],
        "machines": [],
    }


def resume_lineage(known: dict, run: Path, init: str | None, teacher: str | None, pictures: str) -> dict:
    """The lineage of a run that resumes.

    Raises:
        ConfigError: It was started from other weights or pictures, or without a teacher.
    """
    for option, given in (("init", init), ("teacher", teacher)):
        if given and not known[option]:
            raise ConfigError(f"{run} was started without --{option}; choose another --output")
    if init and Path(init).resolve() != Path(known["init"]).resolve():
        raise ConfigError(f"{run} was started with --init {known['init']}; choose another --output")
    if pictures != known["pictures"]:
        raise ConfigError(f"{run} was started with other pictures; give the same or choose another --output")
    return known | {"teacher": teacher or known["teacher"]}  # it may have moved


def _folder(start: str) -> Path:
    """The run's folder, if a run or the checkpoint in it is meant."""
    folder = Path(start).resolve()
    return folder.parent if folder.name == CHECKPOINT else folder


def _name(start: str) -> str:
    """The public name: of a folder, its last part only."""
    return _folder(start).name if Path(start).is_dir() else start


def _quote(section: str | None) -> str | None:
    """A section of an untrusted card, made safe for another card: without pictures, HTML escaped."""
    text = re.sub(r"!\[[^\]\n]{0,300}\]\([^)\n]{0,500}\)", "", section or "")
    return re.sub(r"\n{3,}", "\n\n", safe_markdown(text)).strip() or None

"""What a repository of a checkpoint holds, put together from a run or from a checkpoint folder."""

import shutil
from pathlib import Path

import yaml
from PIL import Image

from denoiser.download.checkpoint_files import CARD_FILE
from denoiser.errors import CannotPublish, CheckpointInvalid
from denoiser.hub import card, card_text
from denoiser.hub.card_measurements import MIN_GAIN, mean_gain
from denoiser.hub.card_sections import RECIPE_FILE, plain
from denoiser.hub.card_without_clean import NO_ERROR
from denoiser.hub.checkpoints import Checkpoint
from denoiser.hub.evaluation_files import EVALUATION_FOLDER, evaluation_files
from denoiser.hub.push import copy_checkpoint, staged
from denoiser.models import CONFIG_FILE, WEIGHTS_FILE, load_model

from .evaluate import EVALUATION_FILE, weights_hash
from .report import CURVE_FILE, FAILURE_FILE, RUN_FILE, SAMPLES_FILE
from .state import read_json, write_text


def assemble(source: Path, target: Path, name: str, existing: str | None, force: bool = False) -> list[Path]:
    """Put into ``target`` exactly what a repository holds.

    Args:
        source: A run's folder, or a checkpoint folder with a card.
        target: An empty folder, or one that holds an earlier version.
        name: The argument of ``from_pretrained`` in the card.
        existing: The card that is there already; what a person wrote in it stays. Where a checkpoint folder's card has
            other words, those are taken, and what they replace is printed.
        force: Take a run whose checkpoint does not improve its input, too.

    Raises:
        CannotPublish: The run is not finished, not measured or has learned nothing, or the checkpoint does not load.
    """
    try:
        if (source / CONFIG_FILE).exists() and not (source / "checkpoint").exists():
            load_model(source)
            copy_checkpoint(Checkpoint(name, source), target, name, existing, own=True)
            text = card_text.read(target / CARD_FILE)
            if words := card_text.replaced_words(existing or "", text):
                print(f"replaced in the card that was there, by {source}'s: {' / '.join(words)}")
            files = [name for name in dict.fromkeys(card_text.linked_files(text)) if (source / name).is_file()]
            if left := [name for name in files if not (target / name).exists()]:
                print(f"the card links to files of {source} that are not published: {', '.join(left)}")
        else:
            _assemble_run(source, target, name, existing, force)
    except CheckpointInvalid as error:
        raise CannotPublish(f"the checkpoint does not load: {error}") from error
    except FileNotFoundError as error:
        if not Path(error.filename).is_relative_to(source):
            raise
        missing = Path(error.filename).name
        kind = "no finished run" if missing != CARD_FILE else "no checkpoint with a card"
        raise CannotPublish(f"{source} is {kind}: {missing} is missing") from error
    except ValueError as error:
        raise CannotPublish(str(error)) from error
    return sorted(path for path in target.rglob("*") if path.is_file())


def _assemble_run(run: Path, target: Path, name: str, existing: str | None, force: bool) -> None:
    load_model(run / "checkpoint")
    facts = read_json(run / RUN_FILE)
    measured = run / EVALUATION_FILE
    evaluation = read_json(measured) if measured.exists() else []
    weights = weights_hash(run / "checkpoint")
    for file in (CURVE_FILE, SAMPLES_FILE):  # missing ones are reported before anything is written
        (run / file).stat()
    if stale := sorted({entry["dataset"] for entry in evaluation if entry["weights"] != weights}):
        raise CannotPublish(
            f"{', '.join(stale)} was measured with other weights than these: measure again with "
            f"`python -m train.evaluate {run} --data DIR --name NAME`, or delete {measured}"
        )
    gain = mean_gain(evaluation)
    if (method := facts.get("self_supervised")) and not evaluation:
        gain = method["score"] - method["noisy_score"]
        if method.get("impossible") and not force:
            raise CannotPublish(
                f"{NO_ERROR.format(**method)} Train again with the right level, or publish it with "
                "`python -m train.publish ... --force`"
            )
    if gain < MIN_GAIN and not force:
        raise CannotPublish(
            f"the checkpoint improves its noisy input by {gain:.2f} dB on the mean, less than {MIN_GAIN:g}: it has "
            "learned next to nothing. Train for longer, or publish it with `python -m train.publish ... --force`"
        )
    pictures = [file for file in (SAMPLES_FILE, FAILURE_FILE) if (run / file).exists()]
    text = card.render(facts, evaluation, name, existing, failure=FAILURE_FILE in pictures)
    with staged(target) as staging:
        for file in (CONFIG_FILE, WEIGHTS_FILE):
            shutil.copyfile(run / "checkpoint" / file, staging / file)
        with Image.open(run / CURVE_FILE) as curve:
            curve.convert("RGB").quantize(64).save(staging / CURVE_FILE, optimize=True)  # of lines and letters, a third
        for file in pictures:
            with Image.open(run / file) as picture:
                # Noise hardly packs without loss, and a megabyte of it is much beside the weights of a small network.
                picture.save(staging / Path(file).with_suffix(".webp"), format="webp", quality=75, method=6)
        recipe = yaml.safe_dump(plain(facts["config"]), sort_keys=False, default_flow_style=None)
        write_text(staging / RECIPE_FILE, recipe)
        for file, content in evaluation_files(evaluation).items():
            (staging / EVALUATION_FOLDER).mkdir(exist_ok=True)
            write_text(staging / EVALUATION_FOLDER / file, content)
        write_text(staging / CARD_FILE, text)

"""Checkpoints on their way out: what a folder of one holds, and a push of it to the Hub in one commit."""

import contextlib
import hashlib
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import huggingface_hub

from ..download.checkpoint_files import CARD_FILE, CONFIG_FILE, ONNX_FILE, WEIGHTS_FILE
from ..errors import CannotPublish
from ..models import DenoisingAutoencoder, holds_weights
from . import card, card_text
from .card_measurements import SAMPLES_FILE
from .card_sections import FAILURE_FILE, RECIPE_FILE
from .checkpoints import ADDRESS, Checkpoint
from .evaluation_files import EVALUATION_FOLDER, outdated_files
from .push_checks import check_options, check_target, existing_card

PUBLISHED = (
    CONFIG_FILE,
    WEIGHTS_FILE,
    RECIPE_FILE,
    "*.png",
    "*.webp",
    f"{EVALUATION_FOLDER}/*.yaml",
    "LICENSE",
    "LICENSE.md",
    "LICENSE.txt",
)
"""What is taken from a checkpoint folder beside its card: whatever else lies there may be private."""
OF_THE_WEIGHTS = (
    RECIPE_FILE,
    "curve.png",
    SAMPLES_FILE,
    FAILURE_FILE,
    f"{EVALUATION_FOLDER}/*.yaml",
    ONNX_FILE,
)
"""What says something of weights, or is made of them: with other weights beside it, it would be wrong."""


def write_checkpoint(
    model: DenoisingAutoencoder, source: Checkpoint | None, target: Path, name: str, existing: str | None
) -> None:
    """Write the folder of a network: config, weights and card.

    Args:
        model: The network.
        source: What it was loaded from. If its weights are still those, its card and pictures are taken along; a card
            with the figures of other weights would be wrong.
        target: The folder, made if needed.
        name: The argument of ``from_pretrained`` in the card.
        existing: The card that is there already; what a person wrote in it stays.
    """
    if source and (source.folder / CARD_FILE).is_file() and holds_weights(source.folder, model):
        copy_checkpoint(source, target, name, existing)
        return
    text = card.render(card.describe(model, source), [], name, existing)
    with staged(target) as staging:
        model.save_pretrained(staging)
        (staging / CARD_FILE).write_text(text, encoding="utf-8")


def copy_checkpoint(source: Checkpoint, target: Path, name: str, existing: str | None, own: bool = False) -> None:
    """Copy a checkpoint folder that has a card, in which the name becomes ``name``; see :func:`write_checkpoint`.

    ``own``: the words in its card come before those in ``existing``, see :func:`denoiser.hub.card_text.merge`.
    """
    text = card_text.rename(card_text.read(source.folder / CARD_FILE), name)
    if source.revision:  # its pictures were not fetched
        text = card_text.link_files(text, f"{ADDRESS}{source.name}/resolve/{source.revision}/")
    text = card_text.merge(existing, text, own)
    with staged(target) as staging:
        if not target.samefile(source.folder):
            for path in (path for pattern in PUBLISHED for path in source.folder.glob(pattern)):
                copy = staging / path.relative_to(source.folder)
                copy.parent.mkdir(exist_ok=True)
                shutil.copyfile(path, copy)
        (staging / CARD_FILE).write_text(text, encoding="utf-8")


@contextlib.contextmanager
def staged(target: Path) -> Iterator[Path]:
    """A folder whose files become those of ``target`` in the end: what is interrupted before leaves it as it was.

    What says something of the weights that ``target`` has is deleted, if it gets others.
    """
    target.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".partial-", dir=target) as folder:
        staging = Path(folder)
        yield staging
        if (staging / WEIGHTS_FILE).exists():
            _delete_earlier(target)
        for path in [path for path in staging.rglob("*") if path.is_file()]:
            final = target / path.relative_to(staging)
            final.parent.mkdir(exist_ok=True)
            path.replace(final)  # someone may have the former one open: as it was


def _delete_earlier(folder: Path) -> None:
    for path in [path for pattern in OF_THE_WEIGHTS for path in folder.glob(pattern)]:
        path.unlink()
        if path.parent != folder and not any(path.parent.iterdir()):
            path.parent.rmdir()


def push(
    api: huggingface_hub.HfApi,
    repo_id: str,
    fill: Callable[[Path, str | None], object],
    message: str,
    private: bool = False,
    branch: str | None = None,
    tag: str | None = None,
    create_pr: bool = False,
    announce: Callable[[str], object] = lambda account: None,
) -> str:
    """Push a folder in one commit; a push that changes nothing makes none.

    Args:
        api: The client, with its token.
        repo_id: "user/name"; it is created if needed.
        fill: Writes the files into an empty folder, given the card that is there already.
        message: Of the commit.
        private: Create the repository private.
        branch: Push to it; it is created if needed.
        tag: Tag the commit.
        create_pr: Open a pull request, in a repository that is there.
        announce: Called with the account, once it is known that it may write.

    Returns:
        The address of the commit or the pull request.

    Raises:
        CannotPublish: No token or the wrong one, a repository that holds something else, and the like.
        HubUnreachable: The Hub does not answer when it is asked about them.
        Exception: Later, those of the client, which :func:`explain_failure` explains.
    """
    announce(check_target(repo_id, create_pr, api))
    check_options(api, repo_id, private, branch, tag)
    with tempfile.TemporaryDirectory() as folder:
        existing, commit = existing_card(api, repo_id, branch)
        try:
            fill(Path(folder), existing)
        except ValueError as error:  # the card that is there cannot be read
            raise CannotPublish(str(error)) from error
        texts = existing or "", card_text.read(Path(folder) / CARD_FILE)
        outdated = outdated_files(*(card_text.section(text, "evaluation") or "" for text in texts))
        if commit and _are_new(api, repo_id, commit, folder):
            outdated += OF_THE_WEIGHTS
        if not create_pr:
            api.create_repo(repo_id, private=private or None, exist_ok=True)
        if branch:
            api.create_branch(repo_id, branch=branch, exist_ok=True)
        try:
            done = api.upload_folder(
                repo_id=repo_id,
                folder_path=folder,
                revision=branch,
                commit_message=message,
                parent_commit=commit,  # if someone edited the card meanwhile, their words are not overwritten
                create_pr=create_pr,
                delete_patterns=outdated or None,
            )
        except ValueError as error:  # the Hub's check of the card's metadata
            raise CannotPublish(f"the Hub does not take the card: {error}") from error
    if tag:
        _set_tag(api, repo_id, tag, done)
    return str(done.pr_url or done.commit_url)


def _are_new(api: huggingface_hub.HfApi, repo_id: str, commit: str, folder: str) -> bool:
    """Whether the weights in a folder are other ones than those in a repository."""
    there = api.get_paths_info(repo_id, WEIGHTS_FILE, revision=commit)
    known: Any = getattr(there[0], "lfs", None) if there else None
    return not known or known.sha256 != hashlib.sha256((Path(folder) / WEIGHTS_FILE).read_bytes()).hexdigest()


def _set_tag(api: huggingface_hub.HfApi, repo_id: str, tag: str, done: huggingface_hub.CommitInfo) -> None:
    """Tag a commit.

    Raises:
        CannotPublish: The tag is on another commit, which the Hub does not report.
    """
    api.create_tag(repo_id, tag=tag, revision=done.oid, exist_ok=True)
    tagged = {ref.target_commit for ref in api.list_repo_refs(repo_id).tags if ref.name == tag}
    if tagged != {done.oid}:
        raise CannotPublish(f"pushed as {done.commit_url}, but {tag} is the tag of an earlier commit: use another")

"""Publish a checkpoint: weights, card and pictures in one commit on the Hub, or in a folder that holds just that.

    python -m train.publish RUN user/name [--private] [--branch B] [--tag V] [--dry-run]
    python -m train.publish RUN other/name --create-pr
    python -m train.publish denoiser/checkpoints/color-base user/name
    python -m train.publish RUN --folder denoiser/checkpoints/NAME

A repository on the Hub also gets the checkpoint as an ONNX graph, ``onnx/model.onnx``; it takes the extra [export].

Safe to repeat: a repository that exists is brought up to date, a card that a person has edited keeps their words, and
a push that changes nothing makes no commit. The token comes from where huggingface_hub looks for it (HF_TOKEN, or
``hf auth login``) and is neither printed nor written.
"""

import argparse
import sys
import tempfile
from pathlib import Path

import huggingface_hub

from denoiser.download.checkpoint_files import ONNX_FILE
from denoiser.errors import CannotExport, CannotPublish, HubUnreachable
from denoiser.export import export_onnx
from denoiser.hub import card_text
from denoiser.hub.checkpoints import Checkpoint
from denoiser.hub.push import push as hub_push
from denoiser.hub.push_checks import check_repo_id, existing_card, explain_failure, find_network_error

from .assemble import assemble
from .state import escape_unprintable


def push(options: argparse.Namespace) -> str:
    """Publish to the Hub; returns the address of the commit or pull request.

    Raises:
        CannotPublish: Something is wrong that the message names.
    """
    repo_id = options.repo_id

    def fill(target: Path, existing: str | None) -> None:
        print(list_files(fill_repository(options, target, existing), target))

    return hub_push(
        huggingface_hub.HfApi(),
        repo_id,
        fill,
        f"Publish {options.run.resolve().name}",
        options.private,
        options.branch,
        options.tag,
        options.create_pr,
        announce=lambda account: print(f"publishing as {account}"),
    )


def try_push(options: argparse.Namespace) -> str:
    """What would be pushed, and why a card that is there already may be missing in it.

    Raises:
        CannotPublish: Something is wrong that the message names.
    """
    check_repo_id(options.repo_id)
    existing, note = None, ""
    try:
        existing, _ = existing_card(huggingface_hub.HfApi(), options.repo_id, options.branch)
    except Exception as error:
        if not find_network_error(error):
            raise
        note = "\nThe Hub was not asked: if it has a card, what people wrote in it stays."
    with tempfile.TemporaryDirectory() as folder:
        files = fill_repository(options, Path(folder), existing)
        return f"would push to {options.repo_id}:\n{list_files(files, Path(folder))}{note}"


def fill_repository(options: argparse.Namespace, target: Path, existing: str | None) -> list[Path]:
    """Put into ``target`` what a repository holds: a checkpoint folder, and the checkpoint as an ONNX graph.

    Where it cannot be exported, it is published without, and what is missing is printed.
    """
    files = assemble(options.run, target, options.repo_id, existing, options.force)
    try:
        export_onnx(Checkpoint(options.repo_id, target), target / ONNX_FILE)
    except CannotExport as error:
        print(f"without {ONNX_FILE}: {error}")
        return files
    return sorted([*files, target / ONNX_FILE])


def fill_folder(options: argparse.Namespace) -> None:
    """Put what a push would hold into ``--folder``.

    Raises:
        CannotPublish: Something is wrong that the message names.
    """
    readme = options.folder / "README.md"
    try:
        existing = card_text.read(readme) if readme.exists() else None
        assemble(options.run, options.folder, options.folder.name, existing, options.force)
    except ValueError as error:
        raise CannotPublish(str(error)) from error
    except OSError as error:
        raise CannotPublish(
            f"{options.folder} cannot be written ({error.strerror}): choose another folder, or repeat the command"
        ) from error
    print(options.folder)


def list_files(files: list[Path], folder: Path) -> str:
    """Names and sizes."""
    return "\n".join(f"  {file.relative_to(folder)}  {file.stat().st_size / 1e3:,.0f} kB" for file in files)


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m train.publish", description="Publish a checkpoint.")
    parser.add_argument(
        "run", type=Path, help="the folder of a finished and measured run, or a checkpoint folder with a card"
    )
    parser.add_argument("repo_id", nargs="?", metavar="user/name", help="the repository on the Hub")
    parser.add_argument("--folder", type=Path, help="write what a push would hold into this folder instead")
    parser.add_argument("--private", action="store_true", help="create the repository private")
    parser.add_argument("--branch", help="push to this branch, created if need be")
    parser.add_argument("--tag", help="tag the commit")
    parser.add_argument("--create-pr", action="store_true", help="open a pull request, in anyone's repository")
    parser.add_argument("--dry-run", action="store_true", help="print what would be pushed and stop")
    parser.add_argument("--force", action="store_true", help="publish even what does not improve its input")
    options = parser.parse_args(arguments)
    if (options.repo_id is None) == (options.folder is None):
        parser.error("give either user/name or --folder")
    if options.create_pr and (options.private or options.branch or options.tag):
        parser.error("--create-pr goes to the main branch of what is there: leave --private, --branch and --tag out")
    return options


def main(arguments: list[str] | None = None) -> int:
    """The command line; returns the exit status."""
    options = parse_arguments(arguments)
    escape_unprintable()
    try:
        if not options.run.is_dir():
            raise CannotPublish(f"{options.run} is no folder: give a finished run, or a checkpoint folder with a card")
        if options.folder:
            fill_folder(options)
        else:
            print(try_push(options) if options.dry_run else push(options))
    except (CannotPublish, HubUnreachable) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except Exception as error:
        if not (failure := explain_failure(error, options.repo_id)):
            raise
        print(f"error: {failure}. The run is as it was; the same command can be repeated.", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Publish a checkpoint: weights, card and pictures in one commit on the Hub, or in a folder that holds just that.

    python -m train.publish RUN user/name [--private] [--branch B] [--tag V] [--dry-run]
    python -m train.publish RUN other/name --create-pr
    python -m train.publish denoiser/checkpoints/color-base user/name
    python -m train.publish RUN --folder denoiser/checkpoints/NAME

Safe to repeat: a repository that exists is brought up to date, a card that a person has edited keeps their words, and
a push that changes nothing makes no commit. The token comes from where huggingface_hub looks for it (HF_TOKEN, or
``hf auth login``) and is neither printed nor written.
"""

import argparse
import sys
import tempfile
from pathlib import Path

import huggingface_hub
from huggingface_hub import errors as hub_errors

from denoiser.download.client_errors import is_network_error

from .assemble import assemble
from .hub_checks import CannotPublish, check_options, check_repo_id, check_target, existing_card
from .state import escape_unprintable


def push(options: argparse.Namespace) -> str:
    """Publish to the Hub; returns the address of the commit or pull request, or what would be pushed.

    Raises:
        CannotPublish: Something is wrong that the message names.
    """
    api, repo_id = huggingface_hub.HfApi(), options.repo_id
    check_repo_id(repo_id)
    if not options.dry_run:
        print(f"publishing as {check_target(repo_id, others=options.create_pr)}")
        check_options(api, repo_id, options.private, options.branch, options.tag)
    with tempfile.TemporaryDirectory() as folder:
        target, note = Path(folder), ""
        try:
            existing, commit = existing_card(api, repo_id, options.branch)
        except Exception as error:
            if not (options.dry_run and find_network_error(error)):
                raise
            existing, commit = None, None
            note = "\nThe Hub was not asked: if it has a card, what people wrote in it stays."
        files = assemble(options.run, target, repo_id, existing, options.force)
        sizes = ((file.relative_to(target), file.stat().st_size / 1e3) for file in files)
        listing = "\n".join(f"  {name}  {size:,.0f} kB" for name, size in sizes)
        if options.dry_run:
            return f"would push to {repo_id}:\n{listing}{note}"
        print(listing)
        if not options.create_pr:
            api.create_repo(repo_id, private=options.private or None, exist_ok=True)
        if options.branch:
            api.create_branch(repo_id, branch=options.branch, exist_ok=True)
        try:
            done = api.upload_folder(
                repo_id=repo_id,
                folder_path=target,
                revision=options.branch,
                commit_message=f"Publish {options.run.resolve().name}",
                parent_commit=commit,  # if someone edited the card meanwhile, their words are not overwritten
                create_pr=options.create_pr,
            )
        except ValueError as error:  # the Hub's check of the card's metadata
            raise CannotPublish(f"the Hub does not take the card: {error}") from error
        if options.tag:
            set_tag(api, repo_id, options.tag, done)
        return str(done.pr_url or done.commit_url)


def set_tag(api: huggingface_hub.HfApi, repo_id: str, tag: str, done: huggingface_hub.CommitInfo) -> None:
    """Tag a commit.

    Raises:
        CannotPublish: The tag is on another commit, which the Hub does not report.
    """
    api.create_tag(repo_id, tag=tag, revision=done.oid, exist_ok=True)
    tagged = {ref.target_commit for ref in api.list_repo_refs(repo_id).tags if ref.name == tag}
    if tagged != {done.oid}:
        raise CannotPublish(f"pushed as {done.commit_url}, but {tag} is the tag of an earlier commit: use another")


def find_network_error(error: BaseException | None) -> BaseException | None:
    """The network error that an error is or was raised from: the client wraps what goes wrong in an upload."""
    while error and not is_network_error(error):
        error = error.__cause__
    return error


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
        if options.folder:
            readme = options.folder / "README.md"
            existing = readme.read_text(encoding="utf-8") if readme.exists() else None
            assemble(options.run, options.folder, options.folder.name, existing, options.force)
            print(options.folder)
        else:
            print(push(options))
    except CannotPublish as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except hub_errors.HfHubHTTPError as error:
        status = error.response.status_code
        reason = {
            401: "the token is wrong or has run out: log in again with `hf auth login`",
            403: f"this token may not write to {options.repo_id}: it needs write access to that account",
            404: f"{options.repo_id} cannot be written: no such account, or no access to it",
            412: f"{options.repo_id} was changed meanwhile",
        }.get(status, f"the Hub answered {status}: {error.server_message or 'try again later'}")
        print(f"error: {reason}. The run is as it was; the same command can be repeated.", file=sys.stderr)
        return 1
    except Exception as error:
        if not (cause := find_network_error(error)):
            raise
        print(f"error: the Hub cannot be reached ({type(cause).__name__}: {cause}).", file=sys.stderr)
        print("The run is as it was; the same command can be repeated.", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

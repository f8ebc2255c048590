"""Publish a run: checkpoint, card and pictures in one commit on the Hub, or in a folder that holds just that.

    python -m train.publish RUN user/name [--private] [--branch B] [--tag V] [--dry-run]
    python -m train.publish RUN --folder denoiser/checkpoints/NAME

Safe to repeat: a repository that exists is brought up to date, a card that a person has edited keeps their words, and
a push that changes nothing makes no commit. The token comes from where huggingface_hub looks for it (HF_TOKEN, or
``hf auth login``) and is neither printed nor written.
"""

import argparse
import shutil
import sys
import tempfile
from pathlib import Path

import huggingface_hub
from huggingface_hub import errors as hub_errors
from PIL import Image

from denoiser.download.client_errors import is_network_error
from denoiser.errors import CheckpointInvalid
from denoiser.hub import card
from denoiser.models import CONFIG_FILE, WEIGHTS_FILE, load_model

from .evaluate import EVALUATION_FILE, weights_hash
from .report import CURVE_FILE, RUN_FILE, SAMPLES_FILE
from .state import escape_unprintable, read_json, write_text


class CannotPublish(Exception):
    """Nothing was published; the message says why and what to do."""


def assemble(run: Path, target: Path, name: str, existing: str | None) -> list[Path]:
    """Put into ``target`` exactly what a repository holds.

    Raises:
        CannotPublish: The run is not finished, not measured, or its checkpoint does not load.
    """
    try:
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
        text = card.render(facts, evaluation, name, existing)
    except CheckpointInvalid as error:
        raise CannotPublish(f"the checkpoint does not load: {error}") from error
    except FileNotFoundError as error:
        raise CannotPublish(f"{run} is no finished run: {Path(error.filename).name} is missing") from error
    except ValueError as error:
        raise CannotPublish(str(error)) from error
    target.mkdir(parents=True, exist_ok=True)
    for file in (CONFIG_FILE, WEIGHTS_FILE):
        shutil.copyfile(run / "checkpoint" / file, target / file)
    shutil.copyfile(run / CURVE_FILE, target / CURVE_FILE)
    with Image.open(run / SAMPLES_FILE) as samples:
        # Noise hardly packs without loss, and a megabyte of it is much beside the weights of a small network.
        samples.save(target / card.SAMPLES_FILE, format="webp", quality=85, method=6)
    write_text(target / "README.md", text)
    return sorted(target.iterdir())


def check_target(repo_id: str) -> str:
    """Find out before any work whether a push can succeed; returns the account.

    Raises:
        CannotPublish: No token or a wrong one; no valid name, one of another account, or one that holds what is no
            checkpoint of ours.
    """
    owner, slash, name = repo_id.partition("/")
    if not (owner and slash and name) or "/" in name:
        raise CannotPublish(f"{repo_id} is no name for a repository: it must be user/name")
    account = check_token()
    who = account["name"]
    if owner not in {who, *(organization["name"] for organization in account.get("orgs") or ())}:
        raise CannotPublish(f"{repo_id} is not {who}'s to write: the token is for {who}, use {who}/{name}")
    if account.get("auth", {}).get("accessToken", {}).get("role") == "read":
        raise CannotPublish("this token may only read: make one that may write, and log in with `hf auth login`")
    api = huggingface_hub.HfApi()
    try:
        info = api.model_info(repo_id)
    except hub_errors.RepositoryNotFoundError:
        return who
    except (hub_errors.HFValidationError, hub_errors.HfHubHTTPError) as error:
        raise CannotPublish(f"{repo_id} cannot be published to: {error}") from error
    except Exception as error:
        raise _unreachable(error) from error
    files = {sibling.rfilename for sibling in info.siblings or ()} - {".gitattributes", "README.md"}
    tags = (info.card_data.tags if info.card_data else None) or []
    if files and card.TAGS[0] not in tags:
        raise CannotPublish(
            f"{repo_id} is taken: it holds {', '.join(sorted(files)[:3])} and is no checkpoint of this kind. "
            "Choose another name."
        )
    return who


def existing_card(api: huggingface_hub.HfApi, repo_id: str, branch: str | None) -> tuple[str | None, str | None]:
    """The card on the Hub and the commit it is of; None where there is none. A branch that is to be made has main's."""
    try:
        revision = branch if branch in {ref.name for ref in api.list_repo_refs(repo_id).branches} else None
        commit = api.model_info(repo_id, revision=revision).sha
        # Forced: if the Hub fails for a moment, the client would return an older cached copy.
        path = api.hf_hub_download(repo_id, "README.md", revision=commit, force_download=True)
        return Path(path).read_text(encoding="utf-8"), commit
    except hub_errors.RepositoryNotFoundError:
        return None, None
    except hub_errors.RemoteEntryNotFoundError:
        return None, commit


def check_options(api: huggingface_hub.HfApi, repo_id: str, private: bool, branch: str | None, tag: str | None) -> None:
    """Refuse what the Hub would silently not do.

    Raises:
        CannotPublish: The tag is there, on an earlier commit, or the repository is public and should be private.
    """
    try:
        if private and not api.model_info(repo_id).private:
            raise CannotPublish(
                f"{repo_id} is there and public: make it private in its settings, or leave --private out"
            )
        refs = api.list_repo_refs(repo_id) if tag else None
    except hub_errors.RepositoryNotFoundError:
        return
    heads = {ref.target_commit for ref in refs.branches if ref.name == (branch or "main")} if refs else set()
    if refs and any(ref.name == tag and ref.target_commit not in heads for ref in refs.tags):
        raise CannotPublish(f"{repo_id} has a tag {tag} already, on another commit: choose another, or delete that one")


def check_token() -> dict:
    """The account of the token that huggingface_hub finds, as the Hub describes it: name, orgs, auth.

    Raises:
        CannotPublish: There is no token, the Hub does not take it, or does not answer.
    """
    try:
        return huggingface_hub.HfApi().whoami()
    except hub_errors.LocalTokenNotFoundError as error:
        raise CannotPublish("there is no token: log in with `hf auth login`, or set HF_TOKEN") from error
    except hub_errors.HfHubHTTPError as error:
        if (status := error.response.status_code) not in (401, 403):
            raise CannotPublish(f"the Hub answered {status}: try again later") from error
        raise CannotPublish("the Hub does not take this token: log in again with `hf auth login`") from error
    except Exception as error:
        raise _unreachable(error) from error


def _unreachable(error: Exception) -> Exception:
    """CannotPublish for a network error; any other error unchanged."""
    if not is_network_error(error):
        return error
    return CannotPublish(f"the Hub cannot be reached ({type(error).__name__}: {error})")


def push(run: Path, repo_id: str, private: bool, branch: str | None, tag: str | None, dry_run: bool) -> str:
    """Publish to the Hub; returns the commit's address, or what would be pushed."""
    api = huggingface_hub.HfApi()
    if not dry_run:
        print(f"publishing as {check_target(repo_id)}")
        check_options(api, repo_id, private, branch, tag)
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder)
        existing, commit = existing_card(api, repo_id, branch)
        files = assemble(run, target, repo_id, existing)
        listing = "\n".join(f"  {file.name}  {file.stat().st_size / 1e3:,.0f} kB" for file in files)
        if dry_run:
            return f"would push to {repo_id}:\n{listing}"
        print(listing)
        api.create_repo(repo_id, private=private or None, exist_ok=True)
        if branch:
            api.create_branch(repo_id, branch=branch, exist_ok=True)
        try:
            done = api.upload_folder(
                repo_id=repo_id,
                folder_path=target,
                revision=branch,
                commit_message=f"Publish {run.resolve().name}",
                parent_commit=commit,  # if someone edited the card meanwhile, their words are not overwritten
            )
        except ValueError as error:  # the Hub's check of the card's metadata
            raise CannotPublish(f"the Hub does not take the card: {error}") from error
        if tag:
            api.create_tag(repo_id, tag=tag, revision=done.oid, exist_ok=True)
            tagged = {ref.target_commit for ref in api.list_repo_refs(repo_id).tags if ref.name == tag}
            if tagged != {done.oid}:
                raise CannotPublish(
                    f"pushed as {done.commit_url}, but {tag} is the tag of an earlier commit: use another"
                )
        return str(done.commit_url)


def main(arguments: list[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m train.publish", description="Publish a run.")
    parser.add_argument("run", type=Path, help="the folder of a finished and measured run")
    parser.add_argument("repo_id", nargs="?", metavar="user/name", help="the repository on the Hub")
    parser.add_argument("--folder", type=Path, help="write what a push would hold into this folder instead")
    parser.add_argument("--private", action="store_true", help="create the repository private")
    parser.add_argument("--branch", help="push to this branch, created if need be")
    parser.add_argument("--tag", help="tag the commit")
    parser.add_argument("--dry-run", action="store_true", help="print what would be pushed and stop")
    options = parser.parse_args(arguments)
    escape_unprintable()
    if (options.repo_id is None) == (options.folder is None):
        parser.error("give either user/name or --folder")
    try:
        if options.folder:
            readme = options.folder / "README.md"
            existing = readme.read_text(encoding="utf-8") if readme.exists() else None
            assemble(options.run, options.folder, options.folder.name, existing)
            print(options.folder)
        else:
            print(push(options.run, options.repo_id, options.private, options.branch, options.tag, options.dry_run))
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
        cause = error
        while cause and not is_network_error(cause):  # the client wraps what goes wrong in an upload
            cause = cause.__cause__
        if not cause:
            raise
        print(f"error: the Hub cannot be reached ({type(cause).__name__}: {cause}).", file=sys.stderr)
        print("The run is as it was; the same command can be repeated.", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

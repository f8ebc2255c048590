"""Checks before a push: the name, the token, and what the repository holds already."""

import json
from pathlib import Path
from typing import Any, NoReturn

import huggingface_hub
from huggingface_hub import errors as hub_errors
from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id

from ..download.client_errors import is_network_error
from ..errors import CannotPublish, DenoiserError, HubUnreachable
from . import card, card_text


def check_repo_id(repo_id: str) -> tuple[str, str]:
    """The account and the name of a repository.

    Raises:
        CannotPublish: It is no valid name.
    """
    owner, slash, name = repo_id.partition("/")
    try:
        validate_repo_id(repo_id)
    except HFValidationError:
        slash = ""
    if not (owner and slash and name):
        raise CannotPublish(
            f"{repo_id} is no name for a repository: it must be user/name, of letters, digits, '-', '_' and '.'"
        )
    return owner, name


def check_target(repo_id: str, others: bool = False, api: huggingface_hub.HfApi | None = None) -> str:
    """Find out before any work whether a push can succeed; returns the account.

    Args:
        repo_id: "user/name".
        others: Whether it may be anyone's, and must be there: for pull requests.
        api: The client; by default one with the token that huggingface_hub finds.

    Raises:
        CannotPublish: No token or a wrong one; no valid name, one of another account, or one that holds what is no
            checkpoint of ours.
        HubUnreachable: The Hub does not answer.
    """
    owner, name = check_repo_id(repo_id)
    api = api or huggingface_hub.HfApi()
    account = check_token(api, repo_id)
    who = account["name"]
    if not others and owner not in {who, *(organization["name"] for organization in account.get("orgs") or ())}:
        raise CannotPublish(f"{repo_id} is not {who}'s to write: the token is for {who}, use {who}/{name}")
    if account.get("auth", {}).get("accessToken", {}).get("role") == "read":
        raise CannotPublish("this token may only read: make one that may write, and log in with `hf auth login`")
    try:
        info = api.model_info(repo_id)
    except hub_errors.RepositoryNotFoundError as error:
        if others:
            raise CannotPublish(f"{repo_id} is not there: a pull request needs a repository") from error
        return who
    except (hub_errors.HFValidationError, hub_errors.HfHubHTTPError) as error:
        raise CannotPublish(f"{repo_id} cannot be published to: {error}") from error
    except Exception as error:
        raise_explained(error, repo_id)
    files = {sibling.rfilename for sibling in info.siblings or ()} - {".gitattributes", "README.md"}
    tags = (info.card_data.tags if info.card_data else None) or []
    if files and card.TAGS[0] not in tags:
        raise CannotPublish(
            f"{repo_id} is taken: it holds {', '.join(sorted(files)[:3])} and is no checkpoint of this kind. "
            "Choose another name."
        )
    return who


def existing_card(api: huggingface_hub.HfApi, repo_id: str, branch: str | None) -> tuple[str | None, str | None]:
    """The card on the Hub and the commit it is of; None where there is none. A branch that is to be made has main's.

    Raises:
        CannotPublish: The card is not UTF-8.
    """
    try:
        revision = branch if branch in {ref.name for ref in api.list_repo_refs(repo_id).branches} else None
        commit = api.model_info(repo_id, revision=revision).sha
        # Forced: if the Hub fails for a moment, the client would return an older cached copy.
        path = api.hf_hub_download(repo_id, "README.md", revision=commit, force_download=True)
    except hub_errors.RepositoryNotFoundError:
        return None, None
    except hub_errors.RemoteEntryNotFoundError:
        return None, commit
    try:
        return card_text.read(Path(path), f"README.md of {repo_id}"), commit
    except ValueError as error:
        raise CannotPublish(str(error)) from error


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


def check_token(api: huggingface_hub.HfApi, repo_id: str) -> dict[str, Any]:
    """The account of the client's token, as the Hub describes it: name, orgs, auth.

    Raises:
        CannotPublish: There is no token, or the Hub does not take it.
        HubUnreachable: The Hub does not answer.
    """
    try:
        return api.whoami()
    except hub_errors.LocalTokenNotFoundError as error:
        raise CannotPublish("there is no token: log in with `hf auth login`, or set HF_TOKEN") from error
    except hub_errors.HfHubHTTPError as error:
        if (status := error.response.status_code) not in (401, 403):
            raise CannotPublish(f"the Hub answered {status}: try again later") from error
        raise CannotPublish("the Hub does not take this token: log in again with `hf auth login`") from error
    except Exception as error:
        raise_explained(error, repo_id)


def raise_explained(error: Exception, repo_id: str) -> NoReturn:
    """Raise an error of the Hub's client as :func:`explain_failure` explains it, any other as it is."""
    if failure := explain_failure(error, repo_id):
        raise failure from error
    raise error


def explain_failure(error: Exception, repo_id: str) -> DenoiserError | None:
    """An error of the Hub's client during a push as one of ours that says why; None for any other error."""
    if isinstance(error, DenoiserError):
        return None
    if isinstance(error, hub_errors.HfHubHTTPError):
        status = error.response.status_code
        reason = {
            401: "the token is wrong or has run out: log in again with `hf auth login`",
            403: f"this token may not write to {repo_id}: it needs write access to that account",
            404: f"{repo_id} cannot be written: no such account, or no access to it",
            412: f"{repo_id} was changed meanwhile",
        }.get(status)
        if reason:
            return CannotPublish(reason)
        return HubUnreachable(f"the Hub answered {status}: {error.server_message or 'try again later'}")
    if isinstance(error, json.JSONDecodeError):
        return HubUnreachable("the answer was not the Hub's: it may be the login page of a network")
    if isinstance(error, UnicodeEncodeError):  # in a header of the request
        return CannotPublish("the token has characters that no token has: log in again with `hf auth login`")
    if cause := find_network_error(error):
        return HubUnreachable(f"the Hub cannot be reached ({type(cause).__name__}: {cause})")
    return None


def find_network_error(error: BaseException | None) -> BaseException | None:
    """The network error that an error is or was raised from: the client wraps what goes wrong in an upload."""
    while error and not is_network_error(error):
        error = error.__cause__
    return error

"""huggingface_hub's errors, and those of its HTTP client, as the errors of this package."""

import contextlib
import errno
import json
import socket
import ssl
from collections.abc import Generator

from huggingface_hub import errors as hub_errors

from ..errors import CheckpointGated, CheckpointInvalid, CheckpointNotFound, DenoiserError, HubUnreachable

# OSErrors of the network that have no class of their own, and those of the client itself, which have no number. All
# others are of the local disk.
_NETWORK_ERRORS = (None, errno.ENETDOWN, errno.ENETUNREACH, errno.EHOSTDOWN, errno.EHOSTUNREACH, errno.EADDRNOTAVAIL)


@contextlib.contextmanager
def translate_errors(
    name: str, revision: str | None = None, token: str | bool | None = None
) -> Generator[None, None, None]:
    """huggingface_hub's errors as ours. The order matters: a gated repository is also a RepositoryNotFoundError.

    ``token=False`` words the messages for someone who cannot log in, such as the visitor of a Space.
    """
    at = f" at revision {revision!r}" if revision else ""
    try:
        yield
    except DenoiserError:
        raise
    except hub_errors.GatedRepoError as error:
        then = "log in with `hf auth login`" if token is not False else "use it on a machine where you are logged in"
        raise CheckpointGated(
            f"{name} is gated: ask for access at https://huggingface.co/{name}, then {then}."
        ) from error
    except hub_errors.RevisionNotFoundError as error:
        raise CheckpointNotFound(
            f"{name} is on the Hub, but not{at}: check the branch, tag or commit on "
            f"https://huggingface.co/{name}/commits/main."
        ) from error
    except (hub_errors.RepositoryNotFoundError, hub_errors.HFValidationError) as error:
        then = ", or log in with `hf auth login`" if token is not False else "; private ones are not read here"
        raise CheckpointNotFound(
            f"There is no repository {name}{at} on the Hub, or it is private: check the spelling{then}."
        ) from error
    except hub_errors.LocalEntryNotFoundError as error:
        raise HubUnreachable(
            f"{name}{at} is not in the cache and the Hub could not be asked. Check the network, or use a bundled "
            "checkpoint."
        ) from error
    except hub_errors.EntryNotFoundError as error:
        raise CheckpointInvalid(f"{name}{at} lacks a file of a checkpoint.") from error
    except hub_errors.LocalTokenNotFoundError as error:
        raise CheckpointNotFound(f"{name} was to be read with a token, and none is stored: `hf auth login`.") from error
    except UnicodeEncodeError as error:  # in a header of the request
        raise CheckpointNotFound(
            f"{name} was to be read with a token that has characters no token has: `hf auth login` again."
        ) from error
    except Exception as error:
        if getattr(getattr(error, "response", None), "status_code", None) == 401:
            raise CheckpointNotFound(
                f"The Hub refused the token (401) when asked for {name}{at}: perhaps it expired; `hf auth login` again."
            ) from error
        if isinstance(error, json.JSONDecodeError):
            raise HubUnreachable(not_the_hub_message(name, revision)) from error
        if isinstance(error, hub_errors.HfHubHTTPError) or is_network_error(error):
            raise HubUnreachable(
                f"The Hub did not deliver {name}{at}: it was {failure_reason(error)}. Try again later, or use a "
                "bundled checkpoint."
            ) from error
        if isinstance(error, OSError):
            where = f" {error.filename}" if error.filename and token is not False else ""  # no paths for strangers
            raise DenoiserError(
                f"{name}{at} cannot be stored on this machine: {error.strerror}{where}. Make room there, or have "
                "HF_HOME name a folder that can be written to."
            ) from error
        raise


def failure_reason(error: BaseException | None) -> str:
    """Why the Hub could not serve, in words that follow "the Hub was"."""
    while error is not None:  # the client wraps what happened in an error of its own
        status = getattr(getattr(error, "response", None), "status_code", None)
        if status == 429:
            return "asked too often (429)"
        if status:
            return f"not working (status {status})"
        if "Timeout" in type(error).__name__:
            return "too slow to answer"
        error = error.__cause__
    return "not reachable"


def is_network_error(error: BaseException) -> bool:
    """Whether the Hub could not be talked to.

    The client lets its HTTP library's errors through (httpx's or httpx2's, by version), which are no OSErrors.
    """
    if type(error).__module__.startswith("http"):
        return True
    if isinstance(error, ConnectionError | TimeoutError | socket.gaierror | ssl.SSLError):
        return True
    return isinstance(error, OSError) and error.errno in _NETWORK_ERRORS


def not_the_hub_message(name: str, revision: str | None) -> str:
    """The message for an answer that is not JSON of the Hub's form."""
    at = f" at revision {revision!r}" if revision else ""
    return (
        f"The answer for {name}{at} was not the Hub's: it may be the login page of a network. Open the Hub in a "
        "browser, or use a bundled checkpoint."
    )

"""A checkpoint's name -> its folder: a local folder, a bundled checkpoint, or a Hub repository, in this order."""

from pathlib import Path

from ._download import download
from .errors import CheckpointNotFound
from .models import CONFIG_FILE, WEIGHTS_FILE

BUNDLED = Path(__file__).parent / "checkpoints"
DEFAULT_CHECKPOINT = "color-small"
FILES = [CONFIG_FILE, WEIGHTS_FILE, "README.md"]


def bundled_checkpoints() -> list[str]:
    """Names of the checkpoints that come with the package, the default first."""
    names = sorted(path.parent.name for path in BUNDLED.glob(f"*/{CONFIG_FILE}"))
    return sorted(names, key=lambda name: name != DEFAULT_CHECKPOINT)


def find_checkpoint(name: str | Path, revision: str | None = None, token: str | bool | None = None) -> Path:
    """The folder that holds checkpoint ``name``, downloaded into the Hub's cache if need be.

    Args:
        name: A folder, the name of a bundled checkpoint, or a Hub id "user/repo", tried in this order.
        revision: Branch, tag or commit of a Hub repository.
        token: For private repositories; by default the one the ``hf`` command line stored.

    Raises:
        CheckpointNotFound: None of the three has it.
        CheckpointGated: The repository wants its users to ask for access.
        CheckpointInvalid: The repository is no checkpoint of ours.
        HubUnreachable: The Hub does not answer and the cache does not have it.
    """
    folder = Path(name).expanduser()
    if str(name) and folder.is_dir():  # Path("") is the current folder
        return folder
    if name in bundled_checkpoints():
        return BUNDLED / name
    # A Path was meant as a path, whatever it looks like.
    if isinstance(name, Path) or name.count("/") != 1 or name.startswith((".", "/", "~")):
        raise CheckpointNotFound(
            f"There is no checkpoint {str(name)!r}: no folder, not bundled ({', '.join(bundled_checkpoints())}), and "
            "a Hub repository is written user/name."
        )
    return download(name, FILES, revision, token=token)

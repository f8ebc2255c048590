"""A checkpoint's name -> its folder: a local folder, a bundled checkpoint, or a Hub repository, in this order."""

from dataclasses import dataclass
from pathlib import Path

from ..download.checkpoint_files import CONFIG_FILE, MAX_WEIGHTS_BYTES
from ..download.fetch import check_name, fetch
from ..errors import CheckpointNotFound
from ..models import check_config_file

BUNDLED = Path(__file__).parents[1] / "checkpoints"
DEFAULT_CHECKPOINT = "color-base"
ADDRESS = "https://huggingface.co/"


@dataclass(frozen=True)
class Checkpoint:
    """Where a checkpoint is.

    Attributes:
        name: What it is called in messages: as it was asked for, without the revision.
        folder: Holds config.json, model.safetensors and, mostly, README.md.
        revision: The Hub's commit; None for folders and bundled checkpoints.
        changed: Date of that commit, ISO; "" if unknown.
        note: What a person should know about how it was found; mostly "".
    """

    name: str
    folder: Path
    revision: str | None = None
    changed: str = ""
    note: str = ""


def bundled_checkpoints() -> list[str]:
    """Names of the checkpoints that come with the package, the default first."""
    names = sorted(path.parent.name for path in BUNDLED.glob(f"*/{CONFIG_FILE}"))
    return sorted(names, key=lambda name: name != DEFAULT_CHECKPOINT)


def find_bundled(name: str) -> Checkpoint:
    """The checkpoint of this name that comes with the package, whatever folders there are where a program runs."""
    return Checkpoint(name, BUNDLED / name)


def parse_name(text: str) -> tuple[str, str | None]:
    """What people write for a Hub repository -> "user/repo" and the revision, if one is named.

    They write ``user/repo``, ``user/repo@revision``, or paste the address of its page.

    Raises:
        CheckpointNotFound: It cannot be one.
    """
    text = str(text).strip().removeprefix(ADDRESS).rstrip("/")
    name, _, revision = text.partition("@")
    if not revision and "/tree/" in name:
        name, _, revision = name.partition("/tree/")
    if name.count("/") != 1:
        raise CheckpointNotFound(
            f"{text[:120]!r} is no checkpoint: a Hub repository is written user/name or user/name@revision."
        )
    check_name(name, revision or None)
    return name, revision or None


def find_on_hub(name: str, revision: str | None = None, **options) -> Checkpoint:
    """A Hub repository's checkpoint, downloaded if needed.

    Options and errors are those of :func:`denoiser.download.fetch.fetch`.
    """
    name, named = parse_name(name)
    found = fetch(
        name,
        named if revision is None else revision,
        check=lambda config: check_config_file(config.parent, name),
        **options,
    )
    return Checkpoint(name, found.folder, found.commit, found.date, found.note)


def find_checkpoint(
    name: str | Path,
    revision: str | None = None,
    token: str | bool | None = None,
    max_bytes: int = MAX_WEIGHTS_BYTES,
) -> Checkpoint:
    """The checkpoint called ``name``, downloaded into the Hub's cache if need be.

    Args:
        name: A folder, the name of a bundled checkpoint, or a Hub id "user/repo" (or "user/repo@revision"), tried in
            this order.
        revision: Branch, tag or commit of a Hub repository.
        token: For private repositories; by default the one the ``hf`` command line stored. False: none.
        max_bytes: Larger weights are not downloaded.

    Raises:
        CheckpointNotFound: None of the three has it.
        CheckpointGated: The repository wants its users to ask for access.
        CheckpointInvalid: The repository is no checkpoint of ours, or too large.
        HubUnreachable: The Hub does not answer and the cache does not have it.
    """
    folder = Path(name).expanduser()
    if str(name) and folder.is_dir():  # Path("") is the current folder
        return Checkpoint(str(name), folder)
    if name in bundled_checkpoints():
        return find_bundled(name)
    # A Path was meant as a path, whatever it looks like.
    if isinstance(name, Path) or name.removeprefix(ADDRESS).startswith((".", "/", "~")) or "/" not in name:
        raise CheckpointNotFound(
            f"There is no checkpoint {str(name)!r}: no folder, not bundled ({', '.join(bundled_checkpoints())}), and "
            "a Hub repository is written user/name."
        )
    return find_on_hub(name, revision, token=token, max_bytes=max_bytes)

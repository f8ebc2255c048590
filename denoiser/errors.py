"""Errors a caller can tell apart. Each message says what happened and what to do next."""


class DenoiserError(Exception):
    """Base of every error this package raises on purpose."""


class CheckpointNotFound(DenoiserError):
    """No folder, bundled checkpoint or Hub repository has this name (or revision)."""


class CheckpointGated(DenoiserError):
    """The repository exists, but its owner asks people to request access first."""


class CheckpointInvalid(DenoiserError):
    """The checkpoint is there, but it is not one of ours: config, tensors or values do not fit."""


class HubUnreachable(DenoiserError):
    """The Hub did not answer, and the checkpoint is neither bundled nor cached."""


class ImageUnreadable(DenoiserError, ValueError):
    """The picture cannot be read, or reading it would lose something silently."""


class ImageTooLarge(DenoiserError, ValueError):
    """The picture has more pixels than the limit allows."""

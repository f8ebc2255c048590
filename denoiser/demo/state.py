"""What the whole page shares: one object, made by ``main`` and passed to whoever needs it."""

from ..errors import DenoiserError
from ..hub.catalogue import Catalogue
from ..hub.checkpoints import DEFAULT_CHECKPOINT, bundled_checkpoints
from .compute_gate import ComputeGate
from .experiment_runner import ExperimentRunner
from .model_pool import ModelPool
from .photo_advice import PHOTO_CHECKPOINT
from .result_files import ResultFiles
from .settings import Settings
from .zero_gpu import find_zero_gpu


class DemoState:
    """Settings, catalogue, model pool and result files of a running demo.

    Attributes:
        checkpoint: What the page starts with: the host's choice, or the bundled default if that cannot be had.
        note: What a visitor should know about that; mostly "".
    """

    def __init__(self, settings: Settings, results: ResultFiles):
        gate = ComputeGate()  # one picture at a time: two cores serve visitors in turn instead of thrashing
        self.settings = settings
        self.results = results
        self.catalogue = Catalogue(
            names=settings.trusted_names, author=settings.author, collection=settings.collection, tag=settings.tag
        )
        self.model_pool = ModelPool(
            settings.trusted_names,
            max_loaded=len(bundled_checkpoints()) + 2,  # the comparison takes all that are bundled
            max_weights_bytes=settings.max_weights_bytes,
            gate=gate,
            zero_gpu=find_zero_gpu(),
        )
        self.experiment_runner = ExperimentRunner(settings, gate)
        self.checkpoint, self.note = DEFAULT_CHECKPOINT, ""

    def usual_checkpoint(self, noisy_already: bool) -> str:
        """What is used unless a visitor chooses, and what an address leaves out; noisy photos have one of their own."""
        changes = noisy_already and self.checkpoint == DEFAULT_CHECKPOINT and PHOTO_CHECKPOINT in bundled_checkpoints()
        return PHOTO_CHECKPOINT if changes else self.checkpoint

    def load_checkpoint(self) -> None:
        """Load what the page starts with, before the first visitor and not in front of one."""
        wanted = self.settings.checkpoint
        try:
            self.model_pool.pull(wanted)
            self.checkpoint = wanted
            if wanted == DEFAULT_CHECKPOINT and PHOTO_CHECKPOINT in bundled_checkpoints():
                self.model_pool.pull(PHOTO_CHECKPOINT)  # so that nobody waits for it
        except DenoiserError as error:
            print(f"{wanted}: {error} The page starts with {DEFAULT_CHECKPOINT}.")
            self.model_pool.pull(DEFAULT_CHECKPOINT)
            self.note = f"{wanted} is not available at the moment; this is {DEFAULT_CHECKPOINT}."

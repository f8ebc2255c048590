"""Choosing a checkpoint: the menu, what is typed, the page's address; pulls never keep anyone from computing."""

import dataclasses
import logging
import time
from dataclasses import dataclass

import gradio as gr
from anyio import to_thread

from ..errors import DenoiserError
from ..hub.catalogue import Catalogue
from .address import parse_address
from .denoise_layout import DenoiseLayout
from .figures import card_markdown, checkpoint_label, render_facts, render_listing, render_message
from .guard import visitor_of
from .model_pool import Loaded
from .pulls import Visitor, wait_for
from .state import DemoState

MAX_SESSIONS = 10_000


@dataclass(frozen=True)
class Selection:
    """The checkpoint that a page uses; a change of it makes the page run.

    Attributes:
        checkpoint: Its name.
        revision: Its commit on the Hub; "" if it is bundled.
        automatic: Whether the page chose it, for a noisy photo.
        noisy: What the visitor last said of the photo since this checkpoint was chosen; None if nothing. It makes
            every toggle a change.
    """

    checkpoint: str
    revision: str = ""
    automatic: bool = False
    noisy: bool | None = None


class SessionChoices:
    """Which choice of each session is the latest: an earlier one that takes longer must not override it."""

    def __init__(self):
        self._latest: dict[str, int] = {}
        self._pending: set[str] = set()

    def begin(self, session: str) -> int:
        """Note a choice -> its number."""
        number = self._latest.pop(session, 0) + 1
        self._latest[session] = number
        while len(self._latest) > MAX_SESSIONS:
            self._latest.pop(next(iter(self._latest)))
        return number

    def latest(self, session: str) -> int | None:
        """The number of a session's latest choice."""
        return self._latest.get(session)

    def set_pending(self, session: str) -> None:
        """Note that the latest choice is being fetched."""
        self._pending.add(session)

    def finish(self, session: str, number: int) -> None:
        """Note that a choice is fetched, or failed."""
        if self.latest(session) == number:
            self._pending.discard(session)

    def is_pending(self, session: str) -> bool:
        """Whether a session's choice is being fetched."""
        return session in self._pending


def checkpoint_choices(catalogue: Catalogue, checkpoint: str) -> list[tuple[str, str]]:
    """Labels and names for the menu: everything known now, and what is in use."""
    labels = {facts.name: checkpoint_label(facts) for facts in catalogue.entries()}
    labels.setdefault(checkpoint, checkpoint)
    return [(label, name) for name, label in labels.items()]


class CheckpointPicker:
    """The handlers of the components that choose a checkpoint and tell about it."""

    def __init__(self, state: DemoState, layout: DenoiseLayout):
        self.state, self.layout = state, layout
        self.choices = SessionChoices()
        self.outputs = [
            layout.checkpoint,
            layout.facts,
            layout.card,
            layout.pull_message,
            layout.sigma_controls,
        ]

    def selected(self, selection: Selection | None) -> str:
        """The name of the checkpoint that a page uses; the default's before anything was chosen."""
        return selection.checkpoint if selection else self.state.checkpoint

    def loaded(self, selection: Selection | None) -> Loaded:
        """The checkpoint that a page uses. Choosing it has fetched it, so nobody waits for the Hub here.

        Raises:
            gr.Error: It is not loaded any more.
        """
        name, commit = self.selected(selection), selection.revision if selection else ""
        try:
            loaded = self.state.model_pool.get(name, fetch=False)
            if commit and commit != loaded.denoiser.revision:  # another visitor has pulled a newer one
                loaded = self.state.model_pool.get(f"{name.partition('@')[0]}@{commit}", fetch=False)
            return loaded
        except DenoiserError as error:
            raise gr.Error(str(error), print_exception=False) from error

    def show(self, loaded: Loaded, note: str = "") -> dict:
        """What the page shows of the checkpoint in use."""
        name, layout = loaded.facts.name, self.layout
        return {
            layout.checkpoint: gr.update(choices=checkpoint_choices(self.state.catalogue, name), value=name),
            layout.facts: render_facts(loaded.facts),
            layout.card: card_markdown(loaded),
            layout.pull_message: render_message(note or loaded.note),
            layout.sigma_controls: gr.update(visible=not loaded.facts.blind),
        }

    def on_load(self) -> dict:
        """What every visitor finds: the default checkpoint."""
        self.state.catalogue.refresh()
        listing = {
            self.layout.timer: gr.Timer(active=self.state.catalogue.listing),  # before what it may soon make old
            self.layout.listing: render_listing(self.state.catalogue),
        }
        try:
            return self.show(self.state.model_pool.get(self.state.checkpoint), self.state.note) | listing
        except DenoiserError as error:
            return {self.layout.pull_message: render_message(str(error), failed=True)} | listing

    def refresh_listing(self, selection: Selection | None) -> dict:
        """Once the Hub has answered, what it lists joins the menu."""
        self.state.catalogue.refresh()
        if self.state.catalogue.listing:  # a menu that is drawn again loses the focus
            return {self.layout.timer: gr.Timer(active=True)}
        choices = checkpoint_choices(self.state.catalogue, self.selected(selection))
        return {
            self.layout.checkpoint: gr.update(choices=choices),
            self.layout.listing: render_listing(self.state.catalogue),
            self.layout.timer: gr.Timer(active=False),
        }

    async def on_address_opened(self, query: str | None, selection: Selection | None, request: gr.Request):
        """Select the checkpoint that the page's address asks for, as ``?checkpoint=user/name``, or the usual one."""
        yield gr.skip()  # a generator that yields nothing would blank its outputs
        address = parse_address(query or "")
        checkpoint = address.checkpoint or self.state.usual_checkpoint(address.noisy_already)
        if checkpoint != self.selected(selection):
            async for update in self.on_checkpoint_selected(checkpoint, selection, request):
                yield update

    async def on_menu_left(self, checkpoint: str | None, selection: Selection | None, request: gr.Request):
        """:meth:`on_checkpoint_selected` if something was chosen: gradio reports a menu that loses focus, too."""
        if checkpoint == self.selected(selection) and not self.choices.is_pending(request.session_hash or ""):
            yield gr.skip()
            return
        async for update in self.on_checkpoint_selected(checkpoint, selection, request):
            yield update

    async def on_checkpoint_selected(self, checkpoint: str | None, selection: Selection | None, request: gr.Request):
        """Take another checkpoint, fetching it if need be; yields what the page shows meanwhile.

        What goes wrong stands in the page, and the checkpoint in use stays. Nothing is raised, see ``DenoiseTab.run``.
        """
        session = request.session_hash or ""
        number = self.choices.begin(session)
        checkpoint, current = (checkpoint or "").strip()[:300], self.selected(selection)
        message = self.layout.pull_message
        kept = {
            self.layout.checkpoint: gr.update(choices=checkpoint_choices(self.state.catalogue, current), value=current)
        }
        if not checkpoint:
            yield kept | {message: render_message("Write user/name, or user/name@revision.", failed=True)}
            return
        self.choices.set_pending(session)
        try:
            loaded = None
            async for progress in self._pull(checkpoint, visitor_of(request)):
                if isinstance(progress, Loaded):
                    loaded = progress
                elif self.choices.latest(session) != number:  # chosen again; the pull goes on for whoever wants it
                    break
                else:
                    yield {message: render_message(progress)}
            if loaded is None:
                yield gr.skip()  # as above
                return
            self.state.catalogue.add(loaded.facts)
            shown = await to_thread.run_sync(self.show, loaded)  # a stranger's card may take long to render
            shown |= {self.layout.selection: Selection(loaded.facts.name, loaded.facts.revision or "")}
            yield shown if self.choices.latest(session) == number else gr.skip()
            return
        except DenoiserError as error:
            text = f"{error} Still in use: {current}."
        except Exception:
            logging.exception("a pull failed")
            text = f"{checkpoint} could not be loaded, and the server's log says why. Still in use: {current}."
        finally:
            self.choices.finish(session, number)
        failure = kept | {message: render_message(text, failed=True)}
        yield failure if self.choices.latest(session) == number else gr.skip()

    async def _pull(self, checkpoint: str, visitor: Visitor):
        """Yields how far a pull is, as sentences, and the loaded checkpoint in the end."""
        started = time.monotonic()
        if loaded := self.state.model_pool.get_fresh(checkpoint):
            yield loaded
            return
        pull = self.state.model_pool.start_pull(checkpoint, visitor)
        while not await wait_for(pull, 0.3):
            if pull.total:
                yield f"Pulling {checkpoint}: {pull.done / 1e6:.1f} of {pull.total / 1e6:.1f} MB"
            else:
                yield f"Asking the Hub for {checkpoint}, {time.monotonic() - started:.0f} s"
        yield pull.future.result()

    def switch_automatically(
        self, checkpoint: str, selection: Selection, automatic: bool, note: str, session: str
    ) -> tuple[Selection, dict]:
        """Go to a bundled checkpoint unasked, unless the visitor is choosing one -> the selection and what is shown."""
        if self.choices.is_pending(session):
            return selection, {}
        before = self.choices.latest(session)
        loaded = self.state.model_pool.get(checkpoint)
        if self.choices.latest(session) != before:  # they have chosen one meanwhile
            return selection, {}
        changed = dataclasses.replace(selection, checkpoint=checkpoint, revision="", automatic=automatic)
        return changed, self.show(loaded, note)

"""A browser, visitors of the running demo in it, and a stranger who speaks HTTP to it."""

import contextlib

import pytest

from tests.conftest import chromium

from .stranger import Stranger
from .visitor import COUNT, Visitor

FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
# Without what moves by itself: it takes as much time as the page, and an element on its way has no place.
STILL = """addEventListener("DOMContentLoaded", () => {
  const style = document.createElement("style");
  style.textContent = "*, *::before, *::after { animation: none !important; transition: none !important }";
  document.head.append(style);
})"""


@pytest.fixture(scope="package")
def browser():
    with chromium(FLAGS) as browser:
        yield browser


@pytest.fixture(scope="package")
def tabs(browser):
    """A browser's window and a phone's for one visitor after another: they have the scripts compiled."""
    contexts = [browser.new_context(), browser.new_context(is_mobile=True, has_touch=True)]
    for context in contexts:
        context.add_init_script(STILL)
        context.add_init_script(COUNT)
    yield [context.new_page() for context in contexts]
    for context in contexts:
        context.close()


@pytest.fixture
def open_page(browser, demo, tabs):
    """Open the page, in a window of a size or on a phone, for a visitor of this test, each with a window of its own."""
    with contextlib.ExitStack() as stack:
        used = []

        def visit(width: int = 1280, height: int = 900, phone: bool = False, query: str = "") -> Visitor:
            tab = tabs[phone]
            if tab in used:
                tab = tab.context.new_page()
                stack.callback(tab.close)
            used.append(tab)
            tab.set_viewport_size({"width": width, "height": height})
            return stack.enter_context(visited(Visitor(browser, f"{demo.url}/{query}", page=tab)))

        yield visit


@contextlib.contextmanager
def visited(visitor):
    yield visitor
    visitor.leave()
    assert not visitor.elsewhere, "the page asked other machines"
    assert not visitor.problems


@pytest.fixture
def visitor(open_page):
    """A visitor for one test."""
    return open_page()


@pytest.fixture(scope="module")
def visitor_of_module(browser, demo, tabs):
    page = tabs[0].context.new_page()
    page.set_viewport_size({"width": 1280, "height": 900})
    with visited(Visitor(browser, demo.url, page=page)) as visitor:
        yield visitor
    page.close()


@pytest.fixture
def shared_visitor(visitor_of_module):
    """A visitor that several tests share, for mishaps in a row."""
    visitor_of_module.come_forward()
    return visitor_of_module


@pytest.fixture(scope="module")
def stranger(demo):
    return Stranger(demo.url)

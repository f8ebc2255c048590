"""A browser, visitors of the running demo in it, and a stranger who speaks HTTP to it."""

import pytest

from tests.conftest import chromium

from .stranger import Stranger
from .visitor import Visitor

FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@pytest.fixture(scope="package")
def browser():
    with chromium(FLAGS) as browser:
        yield browser


def visit(browser, demo, tab):
    visitor = Visitor(browser, demo.url, page=tab)
    yield visitor
    visitor.leave()
    assert not visitor.elsewhere, "the page asked other machines"
    assert not visitor.problems


@pytest.fixture(scope="package")
def tab(browser):
    """A browser's page for one visitor after another: it has the scripts compiled."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    yield context.new_page()
    context.close()


@pytest.fixture
def visitor(browser, demo, tab):
    """A visitor for one test."""
    yield from visit(browser, demo, tab)


@pytest.fixture(scope="module")
def shared_visitor(browser, demo):
    """A visitor that several tests share, for mishaps in a row."""
    yield from visit(browser, demo, None)


@pytest.fixture(scope="module")
def stranger(demo):
    return Stranger(demo.url)

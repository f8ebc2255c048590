"""A browser, visitors of the running demo in it, and a stranger who speaks HTTP to it."""

import os
import shutil

import pytest

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
    chromium = shutil.which("chromium")
    if chromium is None:
        if os.environ.get("CI") == "true":
            pytest.fail("the browser tests need Debian's chromium package")
        pytest.skip("there is no chromium on this machine")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        yield browser
        browser.close()


def visit(browser, demo):
    visitor = Visitor(browser, demo.url)
    yield visitor
    assert not visitor.elsewhere, "the page asked other machines"
    assert not visitor.problems
    visitor.context.close()


# A page for each test, and one that several tests share, for mishaps in a row.
visitor = pytest.fixture(visit)
shared_visitor = pytest.fixture(visit, scope="module")


@pytest.fixture(scope="module")
def stranger(demo):
    return Stranger(demo.url)

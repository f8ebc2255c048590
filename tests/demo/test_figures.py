"""What the page writes of figures, and of names and cards that strangers wrote."""

import dataclasses
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from denoiser import Denoiser, experiment
from denoiser.demo import figures
from denoiser.demo.page import build_page
from denoiser.demo.result_files import ResultFiles
from denoiser.demo.settings import Settings
from denoiser.demo.state import DemoState
from denoiser.hub.catalogue import Catalogue
from denoiser.hub.facts import Facts
from denoiser.images.picture import read

HOSTILE = "<script>alert('x')</script>\"' onload=\"x"


class Tags(HTMLParser):
    """The tags and attributes of a text, and what it says."""

    def __init__(self, html: str):
        super().__init__()
        self.tags, self.text = [], ""
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text += data


@pytest.fixture(scope="module")
def result(photo, tiny_model):
    return experiment.run(Denoiser(tiny_model), read(photo[:64, :64]), "gaussian", {"sigma": 25})


def rendered(result) -> list[str]:
    """Every text of the page with hostile words in each of its fields."""
    facts = Facts(
        HOSTILE,
        architecture=HOSTILE,
        psnr=((HOSTILE, 30.0),),
        license=HOSTILE,
        last_modified=HOSTILE,
        revision=HOSTILE,
    )
    catalogue = Catalogue(status=HOSTILE)
    catalogue.add(facts)
    return [
        figures.render_message(HOSTILE),
        figures.render_message(HOSTILE, failed=True),
        figures.render_figures(result, HOSTILE, "known"),
        figures.render_facts(facts),
        figures.render_listing(catalogue),
    ]


def test_what_strangers_wrote_is_text_and_never_a_tag(result):
    for html in rendered(result):
        found = Tags(html)
        assert "script" not in [tag for tag, _ in found.tags] and "alert('x')" in found.text
        assert not [attributes for _, attributes in found.tags if "onload" in attributes]
        for _, attributes in found.tags:
            assert attributes.get("href", "https://huggingface.co/").startswith("https://huggingface.co/")


def test_no_html_is_written_in_python():
    for path in Path(figures.__file__).parent.glob("*.py"):
        assert not re.search(r"</?[a-z]+[ >]", path.read_text(encoding="utf-8")), path


def test_addresses_of_the_hub_become_links_in_a_message():
    text = "ask for access at https://huggingface.co/user/gated. Not at https://elsewhere.example/x"
    found = Tags(figures.render_message(text, failed=True))
    links = [attributes["href"] for tag, attributes in found.tags if tag == "a"]
    assert links == ["https://huggingface.co/user/gated"] and found.text == text + "\n" * found.text.endswith("\n")
    assert figures.render_message("") == ""


def test_figures_without_a_clean_photo_say_why_there_is_no_psnr(result):
    with_psnr = Tags(figures.render_figures(result, "color-base", "known")).text
    assert (
        "PSNR, dB" in with_psnr
        and "Noise (σ) added · given" in with_psnr
        and "64 × 64, checkpoint color-base." in with_psnr
    )
    noisy = dataclasses.replace(result, clean=None, figures={}, sigma_added=None)
    without = Tags(figures.render_figures(noisy, "color-base", "estimate")).text
    assert "PSNR, dB" not in without and "there is no PSNR" in without and "Noise (σ) estimated" in without


@pytest.mark.parametrize(("value", "text"), [(27.968, "27.97"), (float("inf"), "∞"), (float("nan"), "–")])
def test_numbers_that_are_not_finite_have_a_sign(value, text):
    assert figures.format_number(value, 2) == text


def test_without_their_folders_the_page_has_no_example_photos_and_no_tab_for_the_device(tmp_path):
    settings = Settings(examples_folder=tmp_path)
    page = build_page(DemoState(settings, ResultFiles(tmp_path, 60)))
    components = {component["props"].get("elem_id"): component["props"] for component in page.config["components"]}
    assert components["photo"].get("value") is None and not components["examples"]["visible"]
    assert "on-device" not in components and "Run on this device" not in json.dumps(page.config, default=str)


@pytest.mark.parametrize(
    ("facts", "label"),
    [
        (Facts("user/x"), "user/x"),
        (Facts("user/photo", channels=3, blind=True), "user/photo · photos with noise of their own"),
        (Facts("user/x", channels=1, parameters=3_700_000), "user/x · gray pictures · 3.7 M"),
        (Facts("user/x", channels=3, psnr=(("cbsd68, sigma=25", 31.3),)), "user/x · Gaussian noise · 31.3 dB at σ 25"),
        (Facts("photo", channels=3, blind=True), "photo · noisy photographs as cameras write them"),
        (Facts("color-small", channels=3), "color-small · color pictures, in about half the time"),
    ],
)
def test_the_menu_says_what_a_checkpoint_is_for(facts, label):
    assert figures.checkpoint_label(facts) == label

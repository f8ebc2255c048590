"""The tabs beside the first: techniques beside each other, and the inside of the autoencoder, in a real browser."""

import json
import re
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from denoiser import Denoiser, PoissonGaussian, add_noise
from denoiser.analysis.metrics import psnr
from denoiser.demo.compare_tab import USUAL, CompareTab, read_choice
from denoiser.demo.compute_gate import ComputeGate
from denoiser.demo.experiment_runner import ExperimentRunner
from denoiser.demo.settings import Settings
from denoiser.techniques import TECHNIQUES, learned

from .visitor import Visitor, png

COMPARED = """() => { const done = JSON.parse(document.querySelector("#comparison .comparison")?.dataset.done ?? "{}");
  return done.running === "" && done.run > (window.before ?? 0) && done; }"""


class Laboratory(Visitor):
    """A visitor with a small photo, whose crop is all of it."""

    changed = True  # the photo, since the comparison that is shown

    def open(self, name: str) -> None:
        self.page.get_by_role("tab", name=name).click()

    def take(self, pixels, noisy_already: bool = False) -> None:
        """Have another photo."""
        self.changed = True
        self.open("Denoise")
        self.after(lambda: self.upload("small.png", png(pixels)))
        box = self.page.locator("#noisy-already input")
        if box.is_checked() != noisy_already:
            self.after(box.click)

    def compared(self, action) -> None:
        """Act, and wait until a newer comparison is complete."""
        done = "JSON.parse(document.querySelector('#comparison .comparison')?.dataset.done ?? '{\"run\": 0}').run"
        self.page.evaluate(f"() => {{ window.before = {done} }}")
        action()
        self.page.wait_for_function(COMPARED)

    def table(self) -> dict[str, list[str]]:
        """The figures by the names of the techniques, in the order of the table."""
        rows = self.page.evaluate(
            """() => [...document.querySelectorAll("#comparison tbody tr")].map(
              (row) => [row.querySelector("th").firstChild.textContent,
                        ...[...row.querySelectorAll("td:not(.bars)")].map((cell) => cell.textContent)])"""
        )
        return {name: figures for name, *figures in rows}


@pytest.fixture(scope="module")
def laboratory_of_module(browser, demo, photo):
    visitor = Laboratory(browser, demo.url, 1366, 768)
    assert visitor.page.locator("#comparison, #chooser, #inside").count() == 0  # before its tab is opened
    visitor.take(photo[:96, :128])
    visitor.compared(lambda: visitor.open("Compare techniques"))
    assert len(visitor.table()) == len(USUAL)
    visitor.changed = False
    yield visitor
    assert not visitor.elsewhere and not visitor.problems
    visitor.context.close()


@pytest.fixture
def any_laboratory(laboratory_of_module):
    """For a test that takes a photo of its own."""
    return laboratory_of_module


@pytest.fixture
def laboratory(laboratory_of_module, photo):
    """Its photo compared, whatever the tests before have left: workers take tests from each other."""
    visitor = laboratory_of_module
    if visitor.changed:
        visitor.take(photo[:96, :128])
        visitor.compared(lambda: visitor.open("Compare techniques"))
        visitor.page.click("#comparison [data-mode=pictures]")
        visitor.changed = False
    visitor.open("Compare techniques")
    return visitor


def choose(visitor, *names: str) -> None:
    """Have exactly these techniques computed."""
    boxes = [f"#chooser [name='{name}']" for name in names]
    visitor.page.evaluate(
        """(boxes) => { for (const box of document.querySelectorAll("#chooser input[type=checkbox]"))
      box.checked = boxes.slice(1).some((one) => box.matches(one)) }""",
        boxes,
    )
    visitor.compared(lambda: visitor.page.check(boxes[0]))


def check_axe(page) -> None:
    from axe_playwright_python.sync_playwright import Axe

    violations = Axe().run(page).response["violations"]
    assert not [one["id"] for one in violations if one["impact"] in ("serious", "critical")]


def test_the_figures_are_those_of_the_library_and_the_table_sorts(laboratory, photo):
    clean = photo[:96, :128].astype(np.float32) / 255
    noisy = np.rint(add_noise(clean, seed=0, sigma=25).clip(0, 1) * 255) / np.float32(255)
    choose(laboratory, *USUAL)
    table = laboratory.table()
    expected = {TECHNIQUES[name].label: TECHNIQUES[name].denoise(noisy, 25) for name in ("gaussian", "tv")}
    expected["color-base"] = Denoiser.from_pretrained()(noisy, 25)
    for label, restored in expected.items():
        rounded = np.rint(restored.clip(0, 1) * 255) / 255
        assert float(table[label][0].removesuffix(" dB")) == pytest.approx(psnr(clean, rounded), abs=0.05)
    figures = [float(row[0].removesuffix(" dB")) for row in table.values()]
    assert figures == sorted(figures, reverse=True)
    laboratory.page.click("#comparison [data-sort=ssim]")
    laboratory.page.keyboard.press("Enter")  # the head of the column is still in focus
    similar = [float(row[1]) for row in laboratory.table().values()]
    assert similar == sorted(similar)
    laboratory.page.click("#comparison [data-sort=psnr]")


def test_a_moved_parameter_counts_until_it_follows_its_rule_again(laboratory):
    page = laboratory.page
    choose(laboratory, "gaussian")
    before = laboratory.table()
    assert list(before) == ["Gaussian filter"]
    page.get_by_role("button", name="About: Gaussian filter").click()
    assert page.get_by_text("blurs edges as much as noise").is_visible()
    width = page.locator("#chooser input[data-technique=gaussian]")
    assert float(width.input_value()) == pytest.approx(TECHNIQUES["gaussian"].settings(25)["width"], abs=0.02)
    laboratory.compared(lambda: (width.focus(), page.keyboard.press("End")))
    blurred = laboratory.table()["Gaussian filter"]
    assert float(blurred[0].removesuffix(" dB")) < float(before["Gaussian filter"][0].removesuffix(" dB")) - 1
    assert "structure removed" in page.inner_text("#comparison tbody")
    laboratory.compared(lambda: page.click("#chooser [data-reset='gaussian width']"))
    assert laboratory.table()["Gaussian filter"][0] == before["Gaussian filter"][0]


def test_crops_have_one_zoom_and_show_what_was_removed(laboratory):
    page = laboratory.page
    choose(laboratory, "gaussian")
    places = "() => [...document.querySelectorAll('#comparison canvas')].map((one) => one.style.cssText.split(';')[2])"
    page.focus("#comparison .crops")
    for key in ("+", "+", "ArrowRight", "ArrowDown"):
        page.keyboard.press(key)
    moved = page.evaluate(places)
    assert len(moved) == 3 and len(set(moved)) == 1 and "translate(-" in moved[0]
    pixels = "() => document.querySelector('#comparison figure[data-name=gaussian] canvas').toDataURL()"
    before = page.evaluate(pixels)
    page.click("#comparison [data-mode=removed]")
    assert page.evaluate(pixels) != before and "was removed" in page.inner_text("#comparison .crops")
    page.click("#comparison [data-mode=pictures]")


def test_a_comparison_can_be_cancelled(laboratory):
    page = laboratory.page
    page.evaluate(
        """() => { const watcher = new MutationObserver(() => {
             const button = document.querySelector("#comparison [data-do=cancel]");
             if (!button.hidden) button.click(); });  // each time: what is chosen next starts another run
           window.cancelling = watcher;
           watcher.observe(document.querySelector(".comparison-state"), { subtree: true, attributes: true }) }"""
    )
    choose(laboratory, "wiener", "visushrink", "gray-base", "color-base", "photo", "color-small", "bottleneck-color")
    page.get_by_text("Cancelled").wait_for()
    page.evaluate("cancelling.disconnect()")
    assert "" in {row[0] for row in laboratory.table().values()}


def test_nothing_chosen_is_said_and_the_page_goes_on(laboratory):
    page = laboratory.page
    choose(laboratory, "gaussian")
    page.uncheck("#chooser [name=gaussian]")
    page.get_by_text("Choose a technique in the list").wait_for()
    assert page.locator("#comparison figure, #comparison tbody tr").count() == 0
    choose(laboratory, "tv")
    assert list(laboratory.table()) == ["Total variation"]
    assert not page.get_by_text("Choose a technique in the list").is_visible()


def inside(visitor, text: str) -> None:
    visitor.page.locator("#inside").get_by_text(text).first.wait_for()


def test_the_path_the_filters_and_the_latent_of_the_crop(laboratory):
    page = laboratory.page
    laboratory.open("Inside the autoencoder")
    inside(laboratory, "planes")
    laboratory.slide("planes", 1)
    inside(laboratory, "Through 12 of 12 planes")
    labels = page.locator("#path li b").all_inner_texts()
    assert labels == [
        "Noisy picture",
        *(f"Encoder {level}" for level in (1, 2, 3)),
        "Bottleneck",
        *(f"Decoder {level}" for level in (3, 2, 1)),
        "Estimate",
    ]
    assert "16 \u00d7 96 \u00d7 128" in page.inner_text("#path li >> nth=1")
    page.locator("#filters figure").nth(1).wait_for()  # a photo of 96 x 128 has edges and texture
    page.locator(".filter-picture").click(position={"x": 9, "y": 9})
    page.locator("#filters figure", has_text="Your pixel").wait_for()
    first = page.inner_text("#filters figure >> nth=0")
    page.focus(".filter-picture")
    page.keyboard.press("Shift+ArrowRight")
    page.wait_for_function("text => document.querySelector('#filters figure').innerText !== text", arg=first)
    whole = page.inner_text("#latent")
    laboratory.slide("planes", 0.26)
    inside(laboratory, "Through 3 of 12 planes")
    psnr_of = lambda text: float(re.search(r"([\d.]+) dB", text)[1])  # noqa: E731
    assert psnr_of(page.inner_text("#latent")) < psnr_of(whole) - 1
    check_axe(page)


def test_nothing_inside_is_of_a_photo_that_is_gone(laboratory, photo):
    page = laboratory.page
    laboratory.open("Inside the autoencoder")
    inside(laboratory, "planes")
    laboratory.slide("planes", 0.26)
    inside(laboratory, "Through 3 of 12 planes")
    laboratory.open("Denoise")
    page.locator("#photo button[aria-label='Remove Image']").first.click()
    page.locator("#figures").get_by_text("Drop a photo").wait_for()
    laboratory.open("Inside the autoencoder")
    message = page.locator("#inside-message")
    message.get_by_text("Drop a photo first").wait_for()
    assert "'" not in message.inner_text()
    # Of one answer the browser draws the parts one after another.
    page.wait_for_function(
        "() => !document.querySelector('#inside-overview img, #path img, #filters img, #latent img')"
    )
    laboratory.take(photo[:96, :128])
    laboratory.open("Inside the autoencoder")
    inside(laboratory, "Through 3 of 12 planes")


def test_a_sweep_fills_a_plot_and_its_table(any_laboratory, photo):
    laboratory, page = any_laboratory, any_laboratory.page
    laboratory.take(photo[:48, :64])
    laboratory.open("Inside the autoencoder")
    inside(laboratory, "planes")
    page.click("#sweep-start")
    page.wait_for_selector("#sweep-start:not([disabled])")
    page.wait_for_function("document.querySelectorAll('#sweep circle').length === 70")
    page.click("#sweep summary")
    weak, *_, strong = (float(one) for one in page.inner_text("#sweep tr:has-text('color-base')").split()[1:])
    assert weak > strong + 8
    assert page.evaluate("document.documentElement.scrollWidth") <= 1366


def test_without_a_clean_picture_the_psnr_is_estimated(any_laboratory, photo):
    laboratory, page = any_laboratory, any_laboratory.page
    noisy = np.random.default_rng(0).normal(photo[:96, :96], 20).clip(0, 255).astype(np.uint8)
    laboratory.take(noisy, noisy_already=True)
    laboratory.compared(lambda: laboratory.open("Compare techniques"))
    assert page.get_by_text("Stein's estimate").is_visible() and not page.is_visible("#comparison [data-mode=missing]")
    choose(laboratory, "gaussian", "tv", "pca", "in-use")
    table, noisy = laboratory.table(), noisy / np.float32(255)
    assert all("±" in figures[0] for figures in table.values())
    restored = {TECHNIQUES[name].label: TECHNIQUES[name].denoise(noisy, 20) for name in ("gaussian", "tv", "pca")}
    restored["photo"] = Denoiser.from_pretrained("photo")(noisy, 20)
    for label, pixels in restored.items():
        true = psnr(photo[:96, :96] / np.float32(255), pixels.clip(0, 1))
        assert float(table[label][0].partition(" ")[0]) == pytest.approx(true, abs=1.2)  # its level is estimated
    check_axe(page)
    choose(laboratory, "gaussian", "bilateral", "tv")
    assert page.locator("#comparison .crop-histogram svg:visible").count() == 0
    page.click("#comparison [data-mode=removed]")
    assert "line is Gaussian" in page.inner_text("#comparison .comparison-note")
    histograms = page.get_by_role("img", name="Histogram of what")  # the bars' areas are shares: they add up to 1
    names = [one.get_attribute("aria-label") for one in histograms.all()]
    assert len(names) == 3 and "Total variation removed" in names[2]
    deviations = [float(re.search(r"\u03c3 ([\d.]+) of 20\.\d, neighbors correlate", name)[1]) for name in names]
    assert all(10 < one < 40 for one in deviations)
    heights = page.evaluate(
        """() => [...document.querySelectorAll("#comparison .crop-histogram path")].map(
          (path) => [...path.getAttribute("d").matchAll(/v-([\\d.]+)/g)].map((one) => Number(one[1])))"""
    )
    assert all(len(one) == 41 and sum(one) * 10 / 41 * 0.6 / 20 == pytest.approx(1, abs=0.05) for one in heights)
    check_axe(page)
    page.click("#comparison [data-mode=uncertain]")
    assert "as much as the noise" in page.inner_text("#comparison .comparison-note")
    captions = page.locator("#comparison figure:not([data-name=noisy]) b").all_inner_texts()
    assert len(captions) == 3 and all(re.search(r"± [\d.]+ levels", caption) for caption in captions)
    shades = page.evaluate(  # of the maps: gray, and no two alike
        """() => [...document.querySelectorAll("#comparison figure:not([data-name=noisy]) canvas")].map((canvas) => {
          const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
          const pixels = [...Array(data.length / 4).keys()].map((i) => [...data.slice(4 * i, 4 * i + 3)]);
          return [pixels.join(), pixels.some(([r, g, b]) => r !== g || g !== b)];
        })"""
    )
    assert len({pixels for pixels, _ in shades}) == len(shades) and not any(colored for _, colored in shades)


def test_of_a_photo_without_noise_of_a_level_that_is_said(any_laboratory, photo):
    any_laboratory.take(np.kron(photo[:48, :64], np.ones((2, 2, 1), np.uint8)), noisy_already=True)
    any_laboratory.open("Compare techniques")
    any_laboratory.page.locator("#compare-message").get_by_text("No noise is found here").wait_for()


def test_level_and_strength_are_chosen_on_request(any_laboratory, photo):
    page = any_laboratory.page
    any_laboratory.take(photo[:48, :64])
    page.click("#tune")
    assert re.search("by SURE|[Nn]ot tuned", page.inner_text(".toast-body"))


@settings(deadline=None, max_examples=50)
@given(
    st.one_of(
        st.text(),
        st.recursive(
            st.none() | st.floats() | st.text() | st.sampled_from(["gaussian", "width"]),
            lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(["techniques", "parameters", "tv"]), inner),
        ).map(json.dumps),
    )
)
def test_any_choice_is_read(choice):
    names, parameters = read_choice(choice)
    assert all(isinstance(name, str) for name in names)
    assert parameters.keys() <= TECHNIQUES.keys()


def test_networks_are_told_the_noise_of_the_crop_as_the_first_tab_tells_it(monkeypatch, photo, tmp_path):
    """All were told one level, that of the whole photo: in its dark half twice the noise that is there."""
    photo = photo.copy()
    photo[:, :128] //= 8
    (tmp_path / "halves.png").write_bytes(png(photo))
    runner, told = ExperimentRunner(Settings(), ComputeGate()), []
    monkeypatch.setattr("denoiser.demo.experiment_runner.CROP_PIXELS", 64 * 64)
    given = str(tmp_path / "halves.png"), "all", "0.1 0.5", "poisson", {"peak": 60}, 0
    crop = runner.crop(*given, "known")
    actual = 255 * float((crop.noisy.pixels - crop.clean.pixels).std())
    assert crop.added == crop.sigma == pytest.approx(actual, rel=0.1) and crop.noise == PoissonGaussian(255 / 60, 0)
    monkeypatch.setattr(CompareTab, "__init__", lambda tab: None)
    tab, denoiser = CompareTab(), lambda pixels, sigma: told.append(sigma) or pixels
    pool = SimpleNamespace(get=lambda *_, fetch: SimpleNamespace(denoiser=denoiser))
    tab.state, tab._save = SimpleNamespace(model_pool=pool, experiment_runner=runner), lambda *_: ""
    assert tab._row(crop, learned(denoiser, "mine"), {})["label"] == "mine" and told == [crop.noise]
    crop = runner.crop(*given, 3.0)
    assert (crop.noise, crop.sigma) == (3, 3) and crop.added == pytest.approx(actual, rel=0.1)


def test_a_level_that_is_told_wrong_is_said(any_laboratory, photo):
    laboratory, page = any_laboratory, any_laboratory.page
    box = page.locator("#sigma input[type=number]")
    laboratory.take(photo[:64, :80])
    laboratory.after(lambda: page.locator("#sigma-mode label", has_text="Manual").click())
    laboratory.after(lambda: (box.fill("10"), box.press("Enter")))
    laboratory.compared(lambda: laboratory.open("Compare techniques"))
    assert re.search(r"noise σ 2[45]\.\d \(techniques are told 10\.0\)", page.inner_text("#comparison"))
    laboratory.open("Denoise")
    laboratory.after(lambda: (box.fill("0"), box.press("Enter")))
    laboratory.open("Compare techniques")
    page.get_by_text("the level that the techniques are told is 0").wait_for()
    laboratory.open("Denoise")
    laboratory.after(lambda: page.locator("#sigma-mode label", has_text="Known").click())
    laboratory.compared(lambda: laboratory.open("Compare techniques"))
    assert "are told" not in page.inner_text("#comparison")

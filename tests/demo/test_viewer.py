"""The viewer and the layout of the page, in a real browser."""

import io

import numpy as np
import pytest
from PIL import Image

from denoiser.analysis.metrics import psnr
from tests.conftest import PHOTO

from .visitor import RESULT, Visitor, png

SIDE = ("noisy", "denoised", "difference", "clean")
# Every picture's size and position within its frame: one zoom and position for all.
PLACES = """() => [...document.querySelectorAll("#viewer .viewer-frame > *")].filter(e => e.checkVisibility()).map(
  e => { const b = e.getBoundingClientRect(), f = e.parentElement.getBoundingClientRect();
         return [b.width, b.height, b.left - f.left, b.top - f.top].map(Math.round).join(" ") })"""
BOXES = """(selectors) => selectors.map(s => document.querySelector(s).getBoundingClientRect().toJSON())"""


def percent(visitor) -> int:
    return int(visitor.page.inner_text("#viewer .viewer-percent").removesuffix(" %"))


def boxes(visitor, *selectors) -> list[dict]:
    return visitor.page.evaluate(BOXES, list(selectors))


def frames(*names) -> list[str]:
    return [f"#viewer figure[data-name={name}] .viewer-frame > *" for name in names]


def is_seen(box, width, height) -> bool:
    """Whether a box lies within the window."""
    inside = box["left"] >= 0 and box["top"] >= 0 and box["right"] <= width and box["bottom"] <= height
    return inside and box["width"] > 0 and box["height"] > 0


# -- in sight ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def seen_in(shared_visitor):
    """The page that several tests look at, as it begins, in a window of a size."""

    def resize(width: int, height: int) -> Visitor:
        shared_visitor.page.set_viewport_size({"width": width, "height": height})
        shared_visitor.page.evaluate("scrollTo(0, 0)")
        shared_visitor.page.evaluate(
            "new Promise((drawn) => requestAnimationFrame(() => requestAnimationFrame(drawn)))"
        )
        return shared_visitor

    yield resize
    resize(1280, 900)


def test_an_idle_page_draws_nothing(shared_visitor):
    shared_visitor.settle()
    wait = "await new Promise((done) => setTimeout(done, 500))"
    still = f"async () => {{ const asked = framesAsked; {wait}; return framesAsked === asked; }}"
    assert any(shared_visitor.page.evaluate(still) for _ in range(60))


def test_pictures_figures_and_controls_are_seen_together_on_a_laptop(open_page, photo):
    visitor = open_page(1366, 768)
    seen = [
        *frames(*SIDE),
        *("#figures .tile:nth-child(1)", "#figures .tile:nth-child(2)", "#gaussian-sigma input[type=range]"),
        *("#noise", "#seed", "#reroll", "#checkpoint", "#sigma-mode", "#strength input[type=range]", "#which"),
        *("#photo", "#examples", "#noisy-already", "#download"),
    ]
    for selector, box in zip(seen, boxes(visitor, *seen)):
        assert is_seen(box, 1366, 768), selector
    assert visitor.page.evaluate("[scrollX, scrollY]") == [0, 0]
    # Results stay in sight of controls further down.
    visitor.after(lambda: visitor.upload("large.png", png(np.tile(photo, (1, 2, 1)))))
    visitor.after(lambda: visitor.page.get_by_label("A part").click())
    visitor.page.wait_for_selector(".overview-part")
    visitor.page.evaluate("document.querySelector('#strength').scrollIntoView({ block: 'end' })")
    assert visitor.page.evaluate("scrollY") > 60  # else all of it is in sight anyway
    for selector, box in zip(("#viewer", "#figures", "#strength"), boxes(visitor, "#viewer", "#figures", "#strength")):
        assert is_seen(box, 1366, 769), selector


@pytest.mark.parametrize(("width", "height"), [(1366, 768), (1366, 400), (390, 844)])
def test_explanations_stand_beside_their_labels_and_open_in_full(seen_in, width, height):
    visitor = seen_in(width, height)
    marks = visitor.page.locator(".block.info-mark:visible summary")
    assert marks.count() == 5
    for index in range(marks.count()):
        mark = marks.nth(index)
        mark.scroll_into_view_if_needed()
        aside, below = mark.evaluate(
            """mark => {
              const name = mark.getAttribute("aria-label").replace("About: ", ""), range = document.createRange();
              const labels = [...mark.closest(".levels").querySelectorAll("[data-testid=block-info]")];
              range.selectNodeContents(labels.find((label) => label.textContent.trim() === name));
              const text = range.getBoundingClientRect(), box = mark.getBoundingClientRect();
              return [box.left - text.right, (box.top + box.bottom - text.top - text.bottom) / 2];
            }"""
        )
        assert 0 <= aside <= 16 and abs(below) <= 4
        mark.click()
        hidden = mark.evaluate(
            """async (mark) => {
              await new Promise(requestAnimationFrame); // it comes into sight in a task after the click
              await new Promise(requestAnimationFrame);
              const { left, right, top, bottom } = mark.nextElementSibling.getBoundingClientRect();
              const corners = [left + 9, right - 9].flatMap((x) => [[x, top + 9], [x, bottom - 9]]);
              return corners.filter(([x, y]) => !mark.nextElementSibling.contains(document.elementFromPoint(x, y)));
            }"""
        )
        assert hidden == []
        visitor.page.keyboard.press("Escape")


def test_picture_figures_and_the_noise_slider_are_seen_together_on_a_phone_and_nothing_is_wider(open_page):
    visitor = open_page(390, 844, phone=True)
    seen = [
        *frames("noisy", "denoised"),
        *("#figures .tile:nth-child(1)", "#figures .tile:nth-child(2)", "#gaussian-sigma input[type=range]"),
    ]
    for selector, box in zip(seen, boxes(visitor, *seen)):
        assert is_seen(box, 390, 844), selector
    assert not visitor.page.is_visible("footer .divider")
    visitor.page.set_viewport_size({"width": 844, "height": 390})  # turned on its side
    visitor.page.locator(seen[-1]).scroll_into_view_if_needed()
    for selector, box in zip(seen, boxes(visitor, *seen)):
        assert is_seen(box, 844, 390), selector
    for width in (390, 360):
        visitor.page.set_viewport_size({"width": width, "height": 900})
        assert visitor.page.evaluate("document.documentElement.scrollWidth") <= width
    visitor.page.set_viewport_size({"width": 390, "height": 844})
    visitor.open_panel()
    for box in ("offers", "card-box"):
        visitor.page.click(f"#{box} button >> nth=0")
    visitor.page.wait_for_timeout(600)
    assert visitor.page.evaluate("document.documentElement.scrollWidth") <= 390
    overflowing = visitor.page.evaluate(
        "() => [...document.querySelectorAll('#figures .tile b')].filter(b => b.scrollWidth > b.clientWidth + 1).length"
    )
    assert overflowing == 0


@pytest.mark.parametrize("width", [320, 360, 600, 700, 768, 800, 820, 859, 1024, 1440, 1920])
def test_nothing_is_wider_than_the_window_and_no_choice_is_cut_off(seen_in, width):
    page = seen_in(width, 900).page
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    cut_off = page.evaluate(
        """() => [...document.querySelectorAll("#which label, #sigma-mode label")].filter((label) => {
          const own = label.getBoundingClientRect(), group = label.closest(".block").getBoundingClientRect();
          return own.right > Math.min(group.right, innerWidth) + 0.5 || label.scrollWidth > label.clientWidth + 1;
        }).map((label) => label.innerText)"""
    )
    assert not cut_off


def test_the_panel_about_checkpoints_opens_and_closes_by_keyboard(shared_visitor):
    page = shared_visitor.page
    page.focus("#panel-open")
    page.keyboard.press("Enter")
    assert page.is_visible("#about") and page.evaluate("document.activeElement.id") == "panel-close"
    page.set_viewport_size({"width": 390, "height": 844})  # it covers the page: nothing under it is to be reached
    for _ in range(20):
        page.keyboard.press("Tab")
        assert page.evaluate("document.querySelector('#panel').contains(document.activeElement)")
    page.set_viewport_size({"width": 1280, "height": 900})
    page.keyboard.press("Escape")
    assert not page.is_visible("#about") and page.evaluate("document.activeElement.id") == "panel-open"


# -- which pictures ---------------------------------------------------------------------------------------------------


def shown(visitor) -> list[str]:
    return [name for name in SIDE if visitor.page.locator(f"#viewer figure[data-name={name}]").is_visible()]


def test_each_layout_shows_its_pictures_only_those_are_sent_and_the_difference_is_exactly_theirs(visitor, examples):
    def check(minuend: str) -> None:
        caption = visitor.page.inner_text("#viewer figure[data-name=difference] figcaption span")
        gain = int(caption.rpartition("\u00d7")[2])
        delta = visitor.picture(minuend).astype(int) - visitor.picture("denoised")
        difference = visitor.picture("difference")[..., :3]
        assert caption.startswith(minuend.capitalize())
        assert np.array_equal(difference, np.clip(128 + gain * delta, 0, 255))

    assert shown(visitor) == list(SIDE)
    check("noisy")
    visitor.until_result(lambda: visitor.page.get_by_label("What is missing").click())
    check("clean")
    # The difference is drawn from the others, and the clean picture, sent once, is held.
    sent = visitor.until_result(lambda: visitor.page.click("#reroll"))["sent"]
    assert sorted(sent) == ["denoised", "noisy"]
    visitor.mode("slider")
    assert shown(visitor) == ["noisy", "denoised"]
    sent = visitor.until_result(lambda: visitor.page.click("#reroll"))["sent"]
    assert sorted(sent) == ["denoised", "noisy"]
    visitor.mode("one")
    assert shown(visitor) == ["denoised"]
    assert visitor.until_result(lambda: visitor.page.click("#reroll"))["sent"] == ["denoised"]
    # What was not shown is asked for when it is to be, and is of the newest result.
    visitor.until_result(lambda: visitor.page.click("#viewer [data-name=noisy]"))
    assert shown(visitor) == ["noisy"]
    clean, noisy = np.asarray(Image.open(examples / PHOTO.name).convert("RGB")) / 255, visitor.picture("noisy") / 255
    assert psnr(clean, noisy) == pytest.approx(visitor.psnr()[0], abs=0.01)


def test_where_the_browser_cannot_compute_the_difference_the_server_sends_it(visitor, photo):
    for kind in ("16 bits", "alpha", "color profile"):
        image, options = Image.fromarray(photo[:96, :128]), {}
        if kind == "16 bits":
            image = Image.fromarray(photo[:96, :128, 0].astype(np.uint16) * 257)
        elif kind == "alpha":
            image.putalpha(Image.linear_gradient("L").resize(image.size))
        else:
            from PIL import ImageCms

            options = {"icc_profile": ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()}
        buffer = io.BytesIO()
        image.save(buffer, "PNG", **options)
        visitor.after(lambda content=buffer.getvalue(): visitor.upload("picture.png", content))
        assert "difference" in visitor.result()["sent"]
        caption = visitor.page.inner_text("#viewer figure[data-name=difference] figcaption span")
        gain, white = int(caption.rpartition("\u00d7")[2]), 257 if kind == "16 bits" else 1
        noisy, denoised, difference = (visitor.picture(name).astype(float) for name in SIDE[:3])
        if kind == "alpha":
            noisy, denoised = noisy[..., :3], denoised[..., :3]
        expected = np.rint(np.clip(128 + gain * (noisy - denoised) / white, 0, 255))
        assert np.abs(difference - expected).max() <= 1  # of floating-point numbers there and of whole ones here


@pytest.mark.parametrize("name", SIDE)
def test_each_picture_shown_can_be_saved_without_loss(shared_visitor, name):
    with shared_visitor.page.expect_download() as download:
        shared_visitor.page.click(f"#viewer figure[data-name={name}] figcaption a")
    assert name in download.value.suggested_filename and download.value.suggested_filename.endswith(".png")
    with Image.open(download.value.path()) as image:
        assert image.format == "PNG" and np.array_equal(np.asarray(image), shared_visitor.picture(name))


# -- live -------------------------------------------------------------------------------------------------------------


def test_a_photo_dropped_and_a_slider_moved_change_pictures_and_figures_at_once_and_finally(visitor, photo):
    visitor.after(lambda: visitor.upload("mine.png", png(photo)))
    number, before, figures = visitor.result()["number"], visitor.picture("noisy"), visitor.psnr()
    assert figures[0] == pytest.approx(20.2, abs=0.6) and figures[1] > figures[0] + 3
    left, width, y = visitor.grab("gaussian-sigma")
    visitor.page.mouse.move(left + width * 0.7, y, steps=4)
    visitor.page.wait_for_function(
        "n => { const r = JSON.parse(document.querySelector('#viewer .viewer').dataset.result); "
        "return r.number > n && r.live }",
        arg=number,
    )
    assert not np.array_equal(visitor.picture("noisy")[:8, :8], before[:8, :8])
    assert "\u2248" in visitor.figures()
    visitor.after(visitor.page.mouse.up)
    assert visitor.picture("noisy").shape == before.shape and "\u2248" not in visitor.figures()
    # What is shown are the pictures the figures are about, to the last bit.
    after = [psnr(photo / 255, visitor.picture(element) / 255) for element in ("noisy", "denoised")]
    assert after == pytest.approx(visitor.psnr(), abs=0.01)
    assert after[0] < figures[0] - 3 and after[1] < figures[1] and np.array_equal(visitor.picture("clean"), photo)


def test_the_last_move_is_drawn_though_the_mouse_holds_still(shared_visitor):
    page = shared_visitor.page
    left, width, y = shared_visitor.grab("gaussian-sigma")
    for share in (0.2, 0.8, 0.3, 0.9):  # sooner than pictures are computed
        page.mouse.move(left + width * share, y)
    level = float(page.input_value("#gaussian-sigma input[type=range]"))
    page.wait_for_function(
        f"level => ({RESULT})().live && Math.abs(document.querySelector('#figures').innerText"
        ".match(/added[^]*?([\\d.]+) \u00b7/)?.[1] - level) < level / 50",
        arg=level,
    )
    shared_visitor.after(page.mouse.up)


def test_a_large_photo_is_reduced_at_first_or_while_a_slider_moves_and_drawn_as_large(open_page, photo):
    visitor = open_page(query="?checkpoint=color-large")  # so slow that any server reduces the photo
    visitor.until("checkpoint color-large")
    visitor.after(lambda: visitor.upload("large.png", png(np.tile(photo, (1, 2, 1))[:, :400])))
    visitor.says("#notice", "0.1 megapixels")
    assert "321 \u00d7 205" in visitor.figures()
    visitor.after(lambda: visitor.page.get_by_label("All, slow").click())
    assert "400 \u00d7 256" in visitor.figures()
    places, full = visitor.page.evaluate(PLACES), visitor.picture("noisy").shape
    left, width, y = visitor.grab("gaussian-sigma")
    visitor.page.mouse.move(left + width * 0.7, y, steps=4)
    visitor.page.wait_for_function("() => JSON.parse(document.querySelector('#viewer .viewer').dataset.result).live")
    live = visitor.picture("denoised").shape
    assert 65_000 <= live[0] * live[1] < full[0] * full[1] and visitor.page.evaluate(PLACES) == places
    visitor.after(visitor.page.mouse.up)
    assert visitor.picture("noisy").shape == full
    assert "clean" not in visitor.result()["sent"]  # it is held beside the reduced one


# -- zoom and position ------------------------------------------------------------------------------------------------


def test_zoom_is_one_for_all_pictures_and_survives_new_results(shared_visitor):
    page = shared_visitor.page
    fit = percent(shared_visitor)
    page.click("#viewer [data-zoom=full]")
    assert percent(shared_visitor) == 100
    page.click("#viewer [data-zoom=in]")
    assert percent(shared_visitor) == 125
    box = page.locator("#viewer .viewer-stage").bounding_box()
    page.mouse.move(box["x"] + 100, box["y"] + 100)
    page.mouse.down()
    page.mouse.move(box["x"] + 60, box["y"] + 70, steps=3)
    page.mouse.up()
    places = page.evaluate(PLACES)
    assert len(places) == 4 and len(set(places)) == 1
    shared_visitor.after(lambda: page.click("#reroll"))
    shared_visitor.after(lambda: shared_visitor.slide("gaussian-sigma", 0.4))
    assert page.evaluate(PLACES) == places and percent(shared_visitor) == 125
    page.click("#viewer [data-zoom=out]")
    assert percent(shared_visitor) == 100
    page.click("#viewer [data-zoom=fit]")
    assert percent(shared_visitor) == fit


def test_keys_zoom_move_and_change_the_layout(shared_visitor):
    visitor, page = shared_visitor, shared_visitor.page
    fit = percent(visitor)
    page.focus("#viewer .viewer-stage")
    page.keyboard.press("1")
    assert percent(visitor) == 100
    for _ in range(5):
        page.keyboard.press("+")
    assert percent(visitor) == 305
    before = page.evaluate(PLACES)
    page.keyboard.press("ArrowDown")
    assert page.evaluate(PLACES) != before
    page.keyboard.press("-")
    assert percent(visitor) == 244
    page.keyboard.press("0")
    assert percent(visitor) == fit
    page.keyboard.press("s")
    assert shown(visitor) == ["noisy", "denoised"]
    page.keyboard.press("o")
    assert shown(visitor) == ["denoised"]
    page.keyboard.press("b")
    assert shown(visitor) == list(SIDE)


def test_the_wheel_scrolls_the_page_and_zooms_with_control(seen_in):
    visitor = seen_in(1280, 500)
    visitor.page.click("#viewer [data-zoom=fit]")
    box = visitor.page.locator("#viewer .viewer-stage").bounding_box()
    visitor.page.mouse.move(box["x"] + 200, box["y"] + 150)
    fit = percent(visitor)
    visitor.page.mouse.wheel(0, 120)
    visitor.page.wait_for_function("() => scrollY > 50")
    assert percent(visitor) == fit
    visitor.page.keyboard.down("Control")
    visitor.page.mouse.wheel(0, -120)
    visitor.page.keyboard.up("Control")
    visitor.page.wait_for_function(f"() => parseInt(document.querySelector('.viewer-percent').innerText) > {fit}")
    visitor.page.click("#viewer [data-zoom=fit]")


def drag_fingers(visitor, *fingers: tuple[float, float, float, float]) -> None:
    """Put fingers on the screen at (x, y), move each by (dx, dy) in steps and lift them."""
    touch = visitor.context.new_cdp_session(visitor.page)
    for kind, share in (("touchStart", 0), *(("touchMove", share) for share in (0.2, 0.4, 0.6, 0.8, 1))):
        points = [{"x": x + dx * share, "y": y + dy * share, "id": n} for n, (x, y, dx, dy) in enumerate(fingers)]
        touch.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})
    touch.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})


def test_a_finger_moves_the_line_or_scrolls_the_page_also_from_a_slider_and_two_zoom_the_pictures(open_page):
    visitor = open_page(390, 844, phone=True)
    line = visitor.page.locator("#viewer .viewer-divider").bounding_box()
    drag_fingers(visitor, (line["x"] + line["width"] / 2, line["y"] + line["height"] / 2, 70, 0))
    visitor.page.wait_for_function("() => document.querySelector('.viewer-divider').ariaValueNow > 60")
    assert visitor.page.evaluate("scrollY") == 0
    box, fit = visitor.page.locator("#viewer .viewer-stage").bounding_box(), percent(visitor)
    x, y = box["x"] + 60, box["y"] + box["height"] / 2
    visitor.page.evaluate("addEventListener('scrollend', () => window.rests = true)")
    drag_fingers(visitor, (x, y, 0, -150))
    visitor.page.wait_for_function("() => window.rests && scrollY > 50")  # else it would roll on below the two fingers
    assert percent(visitor) == fit
    visitor.page.evaluate("scrollTo(0, 0)")
    visitor.page.wait_for_function("() => scrollY === 0")
    drag_fingers(visitor, (x - 20, y, -20, 0), (x + 20, y, 20, 0))
    visitor.page.wait_for_function(f"() => parseInt(document.querySelector('.viewer-percent').innerText) > {fit * 1.3}")
    assert visitor.page.evaluate("visualViewport.scale") == 1  # the page itself is as large as before
    # A finger that scrolls the page from a slider leaves its value.
    slider = visitor.page.locator("#gaussian-sigma input[type=range]")
    box = slider.bounding_box()
    x, y = box["x"] + 0.9 * box["width"], box["y"] + box["height"] / 2
    visitor.page.evaluate("window.rests = false")
    drag_fingers(visitor, (x, y, 0, -200))
    visitor.page.wait_for_function("() => window.rests && scrollY > 50")
    visitor.settle()
    assert slider.input_value() == "25" and "24.9" in visitor.figures() and "sigma" not in visitor.page.url
    visitor.page.evaluate("scrollTo(0, 0)")
    visitor.page.wait_for_function("() => scrollY === 0")
    visitor.after(lambda: drag_fingers(visitor, (x - 200, y, 100, 0)))
    assert slider.input_value() not in ("25", "0")


def test_the_line_between_noisy_and_denoised_follows_mouse_and_keys(shared_visitor):
    page = shared_visitor.page
    shared_visitor.mode("slider")
    line = page.locator("#viewer .viewer-divider")
    box = line.bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 3
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x - 80, y, steps=4)
    page.mouse.up()
    moved = line.bounding_box()
    assert moved["x"] == pytest.approx(box["x"] - 80, abs=2)
    share = int(line.get_attribute("aria-valuenow"))
    assert share < 50
    line.press("ArrowRight")
    assert int(line.get_attribute("aria-valuenow")) == share + 2
    line.press("End")
    assert int(line.get_attribute("aria-valuenow")) == 100
    clip = shared_visitor.frame("denoised").evaluate("element => getComputedStyle(element).clipPath")
    assert clip.startswith("inset(0px 0px 0px")
    line.press("b")
    assert shown(shared_visitor) == list(SIDE)
    page.keyboard.press("s")  # the pictures have the focus of the line, which is gone
    assert shown(shared_visitor) == ["noisy", "denoised"]
    page.keyboard.press("b")


def test_the_viewer_fills_the_screen_and_comes_back(shared_visitor):
    page = shared_visitor.page
    page.click("#viewer [data-do=fullscreen]")
    page.wait_for_function("() => document.fullscreenElement?.classList.contains('viewer')")
    page.click("#viewer [data-do=fullscreen]")
    page.wait_for_function("() => !document.fullscreenElement")


# -- access and words -------------------------------------------------------------------------------------------------


def test_arrow_keys_choose_among_radio_buttons_and_results_are_said(shared_visitor):
    page = shared_visitor.page
    page.evaluate("""() => {
      window.said = [];
      const element = (node) => node.closest ? node : node.parentElement;
      const told = ({ target }) => element(target)?.closest("[role=status], output")?.id;
      const note = (all) => said.push(...all.map(told));
      new MutationObserver(note).observe(document.body, { childList: true, subtree: true, characterData: true });
    }""")
    page.focus("#sigma-mode input[value=known]")
    shared_visitor.after(lambda: page.keyboard.press("ArrowRight"))
    assert page.is_checked("#sigma-mode input[value=estimate]") and "estimated" in shared_visitor.figures()
    psnr = "{:.2f} to {:.2f}".format(*shared_visitor.psnr())
    page.wait_for_function("text => announced.textContent === `PSNR, dB: ${text}`", arg=psnr)
    assert "" not in page.evaluate("said")  # of the zoom, which stays as it was, nothing
    shared_visitor.after(lambda: page.keyboard.press("ArrowLeft"))


def test_high_contrast_shows_states_and_values(shared_visitor):
    page = shared_visitor.page
    page.emulate_media(forced_colors="active")

    def style(selector: str, name: str) -> str:
        return page.locator(selector).first.evaluate(f"element => getComputedStyle(element).{name}")

    pressed, other = (style(f"[data-mode][aria-pressed={now}]", "backgroundColor") for now in ("true", "false"))
    assert pressed != other
    for kind in ("range", "radio", "checkbox"):
        assert style(f"#controls [type={kind}]", "appearance") == "auto"
    page.emulate_media(forced_colors="none")


def test_a_question_mark_lists_the_keys(shared_visitor):
    page = shared_visitor.page
    page.focus("#checkpoint-controls input[type=range]")
    page.keyboard.press("?")
    keys = page.locator("#viewer dialog")
    assert keys.is_visible() and "100 %" in keys.inner_text() and "fullscreen" in keys.inner_text()
    page.keyboard.press("Escape")
    assert not keys.is_visible()


def test_formulas_and_figures_are_explained_behind_a_mark(shared_visitor):
    visitor = shared_visitor
    page = visitor.page
    mark = page.get_by_label("About: Noise", exact=True)
    mark.press("Enter")
    assert "N(0," in page.inner_text("#noise-controls details[open]")
    page.keyboard.press("Escape")
    assert page.locator("details.info[open]").count() == 0
    for name in ("PSNR, dB", "SSIM", "Noise (\u03c3) added", "Time"):
        page.locator(f"#figures summary[aria-label^='About: {name}']").click()
        [box] = boxes(visitor, "#figures details[open] div")
        assert is_seen(box, 1280, 900) and page.inner_text("#figures details[open] div").endswith(".")
    page.keyboard.press("Escape")


def test_focus_can_be_seen_wherever_the_tab_key_leads(visitor):
    page = visitor.page
    page.set_viewport_size({"width": 1280, "height": 420})  # the menus' lists scroll
    names = []
    page.focus("#photo")
    for _ in range(45):
        page.keyboard.press("Tab")
        name, outlined = page.evaluate(
            """() => { const e = document.activeElement;  // gradio draws some of a box around its input
              const boxes = [e, e.parentElement, e.parentElement?.parentElement].filter(Boolean);
              const styles = boxes.map(x => getComputedStyle(x));
              return [e.id || e.className || e.tagName,
                      styles.some(s => s.outlineStyle != "none" && parseFloat(s.outlineWidth) >= 2)] }"""
        )
        names.append(name)
        assert outlined, names[-3:]
    assert len(set(names)) > 15 and {"reroll", "panel-open", "tune"} < set(names)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_axe_finds_nothing_serious(open_page, theme):
    from axe_playwright_python.sync_playwright import Axe

    visitor = open_page(1366, 768, query=f"?__theme={theme}")
    page = visitor.page

    def check(where: str) -> None:
        page.wait_for_function(  # colors that are changing have no contrast yet
            "() => document.getAnimations().every(a => a.playState != 'running' || a.effect.getTiming().iterations > 9)"
        )
        violations = Axe().run(page).response["violations"]
        serious = [
            (where, violation["id"], [node["target"] for node in violation["nodes"]])
            for violation in violations
            if violation["impact"] in ("serious", "critical")
        ]
        assert not serious

    check("the page")
    for mode in ("slider", "one"):
        visitor.mode(mode)
        check(mode)
    page.keyboard.press("?")
    check("the keys")
    page.keyboard.press("Escape")
    page.get_by_label("About: Noise", exact=True).click()
    check("an explanation")
    page.keyboard.press("Escape")
    visitor.open_panel()
    for box in ("offers", "card-box"):
        page.click(f"#{box} button >> nth=0")
    page.wait_for_timeout(500)
    check("the panel")

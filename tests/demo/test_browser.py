"""The page, as a visitor uses it, in a real browser."""

import json
import re

import numpy as np
import pytest
from PIL import Image

from denoiser import DEFAULT_CHECKPOINT
from tests.conftest import Demo

from .stranger import Stranger
from .test_page import BAD_CHECKPOINTS, put_bad
from .visitor import COMPLETE, READ, RESULT, Visitor, png


def test_the_result_can_be_downloaded_without_loss_also_if_it_comes_before_its_call_is_joined(visitor, hub):
    def answer_late(route) -> None:
        answer = route.fetch()
        visitor.page.wait_for_timeout(2000)
        route.fulfill(response=answer)

    hub.faults = [("/api/models/user/tiny", "wait")]
    pull(visitor, "user/tiny")  # a call that is not answered keeps the stream of answers open
    visitor.page.get_by_text("Asking the Hub for user/tiny").wait_for()
    visitor.page.route("**/queue/join*", answer_late)
    visitor.after(lambda: visitor.page.click("#reroll"))
    with visitor.page.expect_download() as download:
        visitor.page.click("#download")
    assert download.value.suggested_filename == "temple-denoised.png"
    with Image.open(download.value.path()) as image:
        assert np.array_equal(np.asarray(image), visitor.picture("denoised"))


def test_keys_on_a_slider_and_in_a_number_box_act_and_half_typed_numbers_do_not(visitor):
    knob = visitor.page.locator("#gaussian-sigma input[type=range]")
    visitor.after(lambda: (knob.focus(), knob.press("ArrowRight")))
    assert "26." in visitor.figures() or "25.9" in visitor.figures()
    field = visitor.page.locator("#gaussian-sigma input[type=number]")
    before = visitor.result()["number"]
    field.focus()
    field.fill("")
    field.press_sequentially("50", delay=150)
    visitor.page.wait_for_timeout(500)
    visitor.settle()
    assert visitor.result()["number"] == before
    visitor.after(lambda: field.press("Enter"))
    assert visitor.psnr()[0] == pytest.approx(14.9, abs=0.5)
    assert knob.input_value() == "50"
    visitor.after(lambda: (field.fill("20"), visitor.page.keyboard.press("Tab")))  # to leave the box acts too
    assert visitor.psnr()[0] == pytest.approx(22.1, abs=0.5)
    seed = visitor.page.locator("#seed input")
    # A number out of range is brought into it.
    visitor.after(lambda: (field.fill("5000"), field.press("Enter")))
    assert field.input_value() == "100"
    field.blur()
    visitor.after(lambda: visitor.slide("gaussian-sigma", 0.2))
    for typed, used in (("-2.6", "3"), ("9" * 20, str(2**53 - 1))):
        visitor.after(lambda typed=typed: (seed.fill(typed), seed.press("Enter")))
        assert seed.input_value() == used
        visitor.page.wait_for_function("used => location.search.endsWith(`seed=${used}`)", arg=used)
    for box in (seed, field):
        used = box.input_value()
        box.fill("")
        visitor.page.keyboard.press("Tab")
        assert box.input_value() == used
    visitor.after(lambda: visitor.slide("gaussian-sigma", 0.3))


def test_new_noise_is_new_and_the_picture_never_blanks(shared_visitor):
    before = shared_visitor.picture("noisy")
    shared_visitor.page.evaluate(
        "() => { window.blank = 0; const viewer = document.querySelector('#viewer'); new MutationObserver(() => { "
        "const pictures = [...viewer.querySelectorAll('.viewer-frame > *')].filter(e => e.checkVisibility()); "
        "if (pictures.length != 4 || pictures.some(e => e.complete === false)) window.blank++ "
        "}).observe(viewer, {childList: true, subtree: true, attributes: true}) }"
    )
    shared_visitor.after(lambda: shared_visitor.page.click("#reroll"))
    shared_visitor.after(lambda: shared_visitor.slide("gaussian-sigma", 0.2))
    assert not np.array_equal(shared_visitor.picture("noisy"), before)
    assert shared_visitor.page.evaluate("window.blank") == 0


def test_a_noisy_photo_is_denoised_without_noise_and_psnr_by_photo_or_the_checkpoint_chosen(visitor):
    visitor.after(lambda: visitor.page.click("#noisy-already input"))
    assert "PSNR, dB" not in visitor.figures() and "no PSNR" in visitor.figures()
    assert "checkpoint photo" in visitor.figures() and "Noise (σ) removed" in visitor.figures()
    visitor.hidden("#noise", "#viewer figure[data-name=clean]", "#sigma-mode")
    visitor.after(lambda: visitor.page.click("#noisy-already input"))
    assert "PSNR, dB" in visitor.figures() and "checkpoint color-base" in visitor.figures()
    for shown in ("#noise", "#viewer figure[data-name=clean]", "#sigma-mode"):
        visitor.page.wait_for_selector(shown)
    for name in ("color-small", "photo"):  # who chose a checkpoint keeps it
        visitor.page.click("#checkpoint input")
        visitor.page.get_by_role("option", name=name).click()
        visitor.until(f"checkpoint {name}")
        for figures in ("no PSNR", "PSNR, dB"):
            visitor.page.click("#noisy-already input")
            visitor.until(figures)
            assert f"checkpoint {name}" in visitor.figures()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"no picture at all", "is not a picture"),
        (b"", "is empty"),
        (png(np.random.default_rng(0).integers(0, 256, (64, 64), np.uint8))[:2000], "damaged or truncated"),
        (png(np.zeros((6000, 6000), np.uint8)), "36.0 megapixels; the limit is 25.0"),
    ],
)
def test_a_bad_file_gets_a_sentence_and_the_page_goes_on(shared_visitor, photo, content, message):
    visitor = shared_visitor
    visitor.upload("bad.png", content)
    visitor.page.get_by_text(message).wait_for()
    # Nor is another photo's result left standing.
    visitor.page.wait_for_function("() => !document.querySelector('#viewer .viewer-frame > *')")
    visitor.after(lambda: visitor.upload("good.png", png(photo)))
    assert visitor.psnr()[1] > 20


def test_a_cleared_photo_asks_for_one(shared_visitor):
    shared_visitor.page.click("#photo button[aria-label='Remove Image']")
    shared_visitor.page.get_by_text("Drop a photo first, or pick an example.").wait_for()
    shared_visitor.after(lambda: shared_visitor.page.locator("#examples .gallery-item").nth(1).click())
    assert shared_visitor.psnr()[1] > 20


# -- checkpoints ------------------------------------------------------------------------------------------------------


HOSTILE_CARD = b"""---
license: mit
tags: [denoising-autoencoder]
---
# A hostile card

![pixel](http://elsewhere.example/a.png) !![pixel](http://elsewhere.example/f.png)
<img src="http://elsewhere.example/b.png" onerror="document.title='owned'">
<script>document.title = 'owned'</script> <iframe src="http://elsewhere.example/c"></iframe>
![ref][picture] [own](curve.png) <style>body { background: url(http://elsewhere.example/d.png) }</style>

[picture]: http://elsewhere.example/e.png

```mermaid
flowchart TD
    A@{ img: "http://elsewhere.example/g.png", label: "x" }
```

The end of it.
"""


def pull(visitor, name):
    page = visitor.page
    visitor.open_panel()
    page.locator("#typed input, #typed textarea").fill(name)
    page.click("#fetch")
    page.click("#panel-close")


def test_a_checkpoint_typed_is_pulled_used_and_there_for_the_next_visitor_also_if_it_is_deleted_meanwhile(
    open_page, visitor, hub, tiny_checkpoint
):
    commit = next(iter(hub.put("user/typed", tiny_checkpoint, README_md=HOSTILE_CARD).commits))
    visitor.after(lambda: pull(visitor, "user/typed"))
    assert "checkpoint user/typed" in visitor.figures()
    about = visitor.page.inner_text("#about")
    assert f"user/typed at {commit[:8]}" in about and "mit" in about and "2026-11-02" in about
    # Its card is anyone's text: shown, but nothing in it runs or makes the browser ask another machine.
    visitor.open_panel()
    visitor.page.click("#card-box button >> nth=0")
    visitor.page.get_by_text("The end of it.").wait_for()
    assert visitor.page.locator("#card img, #card iframe, #card script, #card style").count() == 0
    assert visitor.page.title() == "Denoising autoencoder"
    assert f"/user/typed/blob/{commit}/curve.png" in visitor.page.get_by_role(
        "link", name="own", exact=True
    ).get_attribute("href")
    hub.requests.clear()
    following = open_page()
    following.page.click("#checkpoint input")
    following.after(lambda: following.page.get_by_role("option", name="user/typed").click())
    assert "checkpoint user/typed" in following.figures() and hub.fetched("user/typed") == 0
    hub.repositories.clear()
    following.after(lambda: following.slide("gaussian-sigma", 0.4))
    assert "checkpoint user/typed" in following.figures()


def test_the_address_of_the_page_selects_a_checkpoint(open_page, tabs, stranger, hub, tiny_checkpoint):
    hub.put("user/by-address", tiny_checkpoint)
    delayed = []

    def delay(route) -> None:
        answer = route.fetch(timeout=180_000)
        if route.request.post_data_json["fn_index"] == stranger.endpoint("on_load")["id"]:
            delayed.append(route)
            tabs[0].wait_for_function(COMPLETE, arg=0)
            tabs[0].wait_for_timeout(600)  # the address of a page that shows the default is written after 400 ms
        route.fulfill(response=answer)

    tabs[0].route("**/run/*", delay)  # what a page without an address begins with must not come last
    visitor = open_page(query="?checkpoint=user/by-address")
    visitor.until("checkpoint user/by-address")
    assert delayed and "user/by-address" in visitor.page.input_value("#checkpoint input")


def test_a_hosts_default_is_private_and_the_menu_takes_in_what_the_hub_lists_while_the_page_is_open(
    browser, hub, tiny_checkpoint, tmp_path, examples
):
    hub.put("user/listed", tiny_checkpoint, README_md=HOSTILE_CARD)
    hub.put("user/own", tiny_checkpoint, private=True)
    settings = {"HF_ENDPOINT": hub.url, "HF_HUB_DISABLE_XET": "1", "HF_TOKEN": "token-of-user"}
    settings |= {"DENOISER_CHECKPOINT": "user/own", "DENOISER_CHECKPOINTS": "user/tiny@main"}
    settings["DENOISER_EXAMPLES"] = str(examples)
    running = Demo(tmp_path, **settings)
    try:
        visitor = Visitor(browser, running.url)
        assert "checkpoint user/own" in visitor.figures()
        stranger = Stranger(running.url)
        data = stranger.defaults(stranger.endpoint("denoise"))
        answer = stranger.call(stranger.endpoint("denoise"), [*data[:4], "", *data[5:]])
        assert answer["output"]["data"][3]["checkpoint"] == "user/own"
        visitor.open_panel()
        visitor.page.click("#offers button >> nth=0")
        visitor.page.get_by_text("The menu holds 2 from the Hub").wait_for()
        assert re.search(r"user/listed\s+mit\s+2026-11-02", visitor.page.inner_text("#listing"))  # before it is pulled
        visitor.page.click("#panel-close")
        visitor.page.click("#checkpoint input")
        for name in ("user/listed", "user/tiny@main"):
            visitor.page.get_by_role("option", name=name).wait_for()
        visitor.after(lambda: visitor.page.get_by_role("option", name="user/tiny@main").click())
        visitor.context.close()
    finally:
        running.stop()


# One of each kind of error, on the Hub, of the network and in the files: test_page.py has all of their sentences.
@pytest.mark.parametrize("case", ["gated", "nan", "down"])
def test_a_bad_checkpoint_says_what_is_wrong_and_the_one_in_use_stays(shared_visitor, hub, tiny_checkpoint, case):
    failed = shared_visitor.page.locator("#pull .failed")
    before = failed.inner_text() if failed.count() else ""
    pull(shared_visitor, put_bad(hub, tiny_checkpoint, case))
    shared_visitor.page.wait_for_function(
        "before => { const now = document.querySelector('#pull .failed')?.innerText; return now && now != before }",
        arg=before,
    )
    said = failed.inner_text()
    assert BAD_CHECKPOINTS[case][1] in said and f"user/{case}" in said
    assert f"Still in use: {DEFAULT_CHECKPOINT}" in said
    assert not re.search(r"token-of|/tmp|Traceback", said)
    assert failed.locator("a").count() == (case == "gated")  # where to ask for access
    shared_visitor.settle()
    assert DEFAULT_CHECKPOINT in shared_visitor.page.input_value("#checkpoint input")
    shared_visitor.after(lambda: shared_visitor.page.click("#reroll"))
    assert f"checkpoint {DEFAULT_CHECKPOINT}" in shared_visitor.figures()


def test_the_last_choice_wins_over_a_slow_one_and_is_described(visitor, hub, tiny_checkpoint):
    about = visitor.page.inner_text("#about")
    assert "unet" in about and "dB on cbsd68" in about and "apache-2.0" in about and "bundled" in about
    hub.put("user/late", tiny_checkpoint)
    hub.faults = [("/api/models/user/late", "wait")]
    pull(visitor, "user/late")
    visitor.page.get_by_text("Asking the Hub for user/late").wait_for()
    visitor.page.click("#checkpoint input")
    visitor.after(lambda: visitor.page.get_by_role("option", name="bottleneck-color").click())
    hub.go_on.set()
    while not hub.fetched("user/late", "README.md"):  # the last file of a checkpoint
        visitor.page.wait_for_timeout(50)
    assert hub.fetched("user/late") == 1
    visitor.settle()  # by then the slow one has arrived, unnoticed
    assert "checkpoint bottleneck-color" in visitor.figures() and not visitor.page.is_visible("#pull .failed")
    assert "bottleneck-color" in visitor.page.input_value("#checkpoint input")
    assert "bottleneck" in visitor.page.inner_text("#about")
    visitor.open_panel()
    visitor.page.click("#card-box button >> nth=0")
    visitor.page.get_by_text("The textbook denoising autoencoder").wait_for()


# All that the page says of what is waited for.
NOTE_WAITING = """() => { window.seen = "";
new MutationObserver((records) => { for (const { target, addedNodes } of records)
  if (target.id === "waiting") for (const node of addedNodes) window.seen += node.textContent })
.observe(document.body, {subtree: true, childList: true, characterData: true}) }"""
# It asks again after 0.6 s instead of 2 to 4: what it says meanwhile is drawn every 0.25 s.
ASK_SOON = """() => { window.patient = window.setTimeout;
window.setTimeout = (act, after, ...given) => patient(act, after >= 2000 ? 600 : after, ...given) }"""


def test_a_full_queue_shows_the_place_and_the_page_asks_again_by_itself(shared_visitor):
    visitor, refusals = shared_visitor, []

    def refuse(route):
        refusals.append(route.request.post_data)
        if len(refusals) > 2:
            route.continue_()
        else:
            detail = f"You are number {70 - len(refusals)} in the queue: the page tries again by itself."
            route.fulfill(status=503, json={"detail": detail})

    visitor.page.route("**/queue/join*", refuse)
    visitor.page.evaluate(NOTE_WAITING)
    visitor.page.evaluate(ASK_SOON)
    before = visitor.figures()
    visitor.page.click("#reroll")
    visitor.page.wait_for_function(f"before => ({READ})() != before", arg=before)
    assert len(refusals) == 3 and len(set(refusals)) == 1
    seen = visitor.page.evaluate("seen")
    assert 0 <= seen.find("You are number 69 in the queue") < seen.find("You are number 68 in the queue")
    visitor.page.wait_for_selector("#waiting:empty", state="attached")
    assert visitor.page.get_by_text(re.compile("Error")).count() == 0 and not visitor.problems
    visitor.page.unroute("**/queue/join*")
    visitor.page.evaluate("window.setTimeout = patient")


def test_a_call_is_answered_that_is_joined_while_the_stream_of_answers_ends(visitor):
    page, streams = visitor.page, []
    page.route("**/queue/data*", lambda route: route.continue_() if streams else streams.append(route))
    number = visitor.result()["number"]
    page.click("#reroll")
    while not streams:
        page.wait_for_timeout(10)
    ended = streams[0].fetch(timeout=180_000)  # all of it: the server has ended the stream
    with page.expect_response("**/queue/join*"):
        page.click("#noisy-already input")
    streams[0].fulfill(response=ended)
    page.wait_for_function(f"n => ({RESULT})().number > n", arg=number)
    page.wait_for_selector("#noise-controls", state="hidden")


def test_a_menu_that_is_left_without_a_choice_changes_nothing(shared_visitor):
    joined = []

    def note(request) -> None:
        if "/queue/join" in request.url:
            joined.append(request.url)

    shared_visitor.settle()
    shared_visitor.page.on("request", note)
    shared_visitor.page.focus("#checkpoint input")
    with shared_visitor.page.expect_response("**/queue/join*"):
        shared_visitor.page.keyboard.press("Tab")
    shared_visitor.page.wait_for_function("() => !document.querySelector('#about .wrap:not(.hide)')")
    shared_visitor.after(lambda: shared_visitor.page.click("#reroll"))
    shared_visitor.page.remove_listener("request", note)
    assert len(joined) == 2  # the menu's, and the run for another seed


def test_a_menu_closes_when_it_is_left_by_keyboard_keys_choose_from_all_of_it_and_each_noise_has_its_sliders(visitor):
    menu, options = visitor.page.locator("#noise input"), visitor.page.get_by_role("option")
    menu.focus()
    assert options.count() == 10
    for key in ("g", "Shift"):
        menu.press(key)
    visitor.page.wait_for_timeout(200)
    assert options.count() == 10
    visitor.page.keyboard.press("Tab")
    options.first.wait_for(state="detached")
    visitor.page.wait_for_timeout(300)
    assert not options.count()
    menu.click()
    options.first.wait_for()
    menu.press("Escape")
    options.first.wait_for(state="detached")
    menu.click()  # it has the focus still
    options.first.wait_for()
    menu.press("Tab")
    options.first.wait_for(state="detached")
    visitor.after(lambda: (menu.focus(), menu.press("ArrowDown"), menu.press("Enter")))
    assert menu.input_value() == "Poisson (photons)"
    visitor.page.wait_for_function("() => location.search.includes('noise=poisson')")
    # Every noise has its own sliders.
    visitor.page.click("#noise input")
    visitor.after(lambda: visitor.page.get_by_role("option", name="Camera sensor").click())
    for shown in ("#sensor-gain", "#sensor-read"):
        visitor.page.wait_for_selector(shown)
    visitor.hidden("#gaussian-sigma")
    visitor.after(lambda: visitor.slide("sensor-gain", 0.9))


def test_the_pictures_of_a_photo_with_any_name_are_shown(shared_visitor, photo):
    shared_visitor.after(lambda: shared_visitor.upload("a#b%20x%41?.png", png(photo[40:])))
    assert np.array_equal(shared_visitor.picture("clean"), photo[40:])


def test_no_other_pictures_stand_above_figures_whose_own_do_not_arrive(shared_visitor, photo):
    shared_visitor.page.route("**/lost-*.png", lambda route: route.abort())
    shared_visitor.upload("lost.png", png(photo[::-1]))
    shared_visitor.page.wait_for_function("() => !document.querySelector('#viewer .viewer-frame img')")
    shared_visitor.page.unroute("**/lost-*.png")
    shared_visitor.after(lambda: shared_visitor.page.click("#reroll"))
    assert shared_visitor.picture("noisy").shape == photo.shape


def test_who_waits_in_the_queue_sees_the_place(shared_visitor):
    page, told = shared_visitor.page, {"msg": "estimation", "rank": 2, "queue_size": 5, "rank_eta": None}

    def tell(route) -> None:
        answer = route.fetch(timeout=180_000)
        call = re.search(r'"event_id":"(\w+)"', answer.text())[1]
        route.fulfill(response=answer, body=f"data: {json.dumps(told | {'event_id': call})}\n\n{answer.text()}")

    page.route("**/queue/data*", tell)
    page.evaluate(NOTE_WAITING)
    for _ in range(30):  # on a stream that is still open from the test before, the server's own answers come
        shared_visitor.after(lambda: page.click("#reroll"))
        if "In the queue: 3 of 5" in page.evaluate("() => window.seen"):
            break
    assert "In the queue: 3 of 5" in page.evaluate("() => window.seen")
    assert page.inner_text("#waiting") == ""
    page.unroute("**/queue/data*")

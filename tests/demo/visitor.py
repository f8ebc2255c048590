"""A visitor of the page in a real browser, for the tests."""

import base64
import io
import re
import urllib.parse

import numpy as np
from PIL import Image

POLL_MS = 40  # what is waited for in hundreds of places is seen at once, and to look takes a millisecond
# The figures, and the sentence under them.
READ = "() => [...document.querySelectorAll('#figures .tiles, #figures .tiles + p')].map(e => e.innerText).join('\\n')"
# What the viewer shows: {number, live, sent}.
RESULT = "() => JSON.parse(document.querySelector('#viewer .viewer')?.dataset.result ?? '{\"number\": 0}')"
# The figures of a new result come before its pictures, which are decoded first; what takes time is "\u2026" until then.
COMPLETE = f"""(number) => {{
  const figures = ({READ})(), result = ({RESULT})();
  return figures && !figures.includes("\\u2026") && result.number > number && !result.live
    && !document.querySelector("#waiting:not(:empty)") && !window.decoding;
}}"""
# Nothing more comes: every call is answered too, of which page.js keeps a list, unless the page is only being loaded.
SETTLED = f"() => typeof joining !== 'undefined' && !joining && !due.size && ({COMPLETE})(-1)"
# Counts pictures that are being decoded, and the frames that the page has asked for.
COUNT = """(() => {
  const decode = HTMLImageElement.prototype.decode, frame = window.requestAnimationFrame;
  window.decoding = window.framesAsked = 0;
  window.requestAnimationFrame = (draw) => {
    window.framesAsked += 1;
    return frame(draw);
  };
  HTMLImageElement.prototype.decode = function () {
    window.decoding += 1;
    return decode.call(this).finally(() => { window.decoding -= 1; });
  };
})()"""


def png(array) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, "PNG")
    return buffer.getvalue()


class Visitor:
    """A page with the default example denoised, and what a person reads off it.

    Args:
        page: A page of a browser to use; by default one of a context of its own, with the options that follow.
    """

    def __init__(self, browser, url, width=1280, height=900, page=None, **context):
        if page is None:
            page = browser.new_context(viewport={"width": width, "height": height}, **context).new_page()
            page.add_init_script(COUNT)
        self.page, self.context = page, page.context
        self.page.set_default_timeout(180_000)  # no verdict depends on the machine's speed
        self.elsewhere, self.problems = [], []
        self._host = urllib.parse.urlparse(url).netloc
        self.page.on("request", self._note_request)
        self.page.on("pageerror", self._note_problem)
        self.come_forward()
        self.page.goto(url)
        self.page.wait_for_function(COMPLETE, arg=0, polling=POLL_MS)
        # What page.load sends is drawn too: an element that is drawn again loses the focus.
        self.page.wait_for_function("() => document.querySelector('#about')?.innerText", polling=POLL_MS)

    def _note_request(self, request) -> None:
        if request.url.startswith("http") and urllib.parse.urlparse(request.url).netloc != self._host:
            self.elsewhere.append(request.url)

    def _note_problem(self, error) -> None:
        self.problems.append(str(error))

    def come_forward(self) -> None:
        """Be the tab in front: one that is opened behind another is drawn once in a second, and each click waits."""
        self.page.bring_to_front()

    def leave(self) -> None:
        """Leave the page as it was given, for the next visitor."""
        self.page.goto("about:blank")
        self.page.unroute_all()
        self.page.remove_listener("request", self._note_request)
        self.page.remove_listener("pageerror", self._note_problem)

    def figures(self) -> str:
        return self.page.evaluate(READ)

    def result(self) -> dict:
        """The number of the result that the viewer shows, whether it is live, and which pictures were sent."""
        return self.page.evaluate(RESULT)

    def psnr(self) -> tuple[float, float]:
        found = re.search(r"([\d.]+) \u2192 ([\d.]+)", self.page.inner_text("#figures .tile >> nth=0"))
        return float(found[1]), float(found[2])

    def after(self, action) -> None:
        """Act, and wait for the next final pictures and all their figures."""
        self.come_forward()
        before = self.result()["number"]
        action()
        self.page.wait_for_function(COMPLETE, arg=before, polling=POLL_MS)

    def until_result(self, action) -> dict:
        """Act, and wait for the next final pictures, whatever the figures."""
        self.come_forward()
        number = self.result()["number"]
        action()
        self.page.wait_for_function(f"n => {{ const r = ({RESULT})(); return r.number > n && !r.live }}", arg=number)
        return self.result()

    def until(self, text: str) -> None:
        """Wait until the figures say something, and nothing more comes."""
        self.page.wait_for_function(f"text => ({READ})()?.includes(text)", arg=text)
        self.settle()

    def settle(self) -> None:
        """Wait until all calls are answered, and what they answered is drawn."""
        self.page.wait_for_function(SETTLED, polling=POLL_MS)

    def upload(self, name: str, content: bytes) -> None:
        clear = self.page.locator("#photo button[aria-label='Remove Image']")
        if clear.count():
            clear.first.click()
            self.page.locator("#figures").get_by_text("Drop a photo").wait_for()  # or the new photo is computed twice
        files = {"name": name, "mimeType": "image/png", "buffer": content}
        self.page.locator("#photo input[type=file]").first.set_input_files(files)

    def grab(self, element: str) -> tuple[float, float, float]:
        """Put the mouse on a slider's knob and press -> left end, width and height of its track."""
        knob = self.page.locator(f"#{element} input[type=range]")
        knob.scroll_into_view_if_needed()
        box = knob.bounding_box()
        y = box["y"] + box["height"] / 2
        self.page.mouse.move(box["x"] + box["width"] / 2, y)
        self.page.mouse.down()
        return box["x"], box["width"], y

    def slide(self, element: str, share: float) -> None:
        """Drag a slider's knob to a share of its width and let go."""
        left, width, y = self.grab(element)
        self.page.mouse.move(left + width * share, y, steps=8)
        self.page.mouse.up()

    def frame(self, name: str):
        """Where a picture of the viewer is drawn: noisy, denoised, difference or clean."""
        return self.page.locator(f"#viewer figure[data-name={name}] .viewer-frame")

    def picture(self, name: str) -> np.ndarray:
        """A picture of the viewer, as its file or its canvas holds it."""
        drawn = self.frame(name).locator("img, canvas")
        if drawn.evaluate("element => element.tagName") == "CANVAS":
            body = base64.b64decode(drawn.evaluate("element => element.toDataURL()").partition(",")[2])
        else:
            source = urllib.parse.urljoin(self.page.url, drawn.get_attribute("src"))
            body = self.context.request.get(source, timeout=180_000).body()
        with Image.open(io.BytesIO(body)) as image:
            assert image.format == "PNG"
            return np.asarray(image)

    def mode(self, name: str) -> None:
        self.page.click(f"#viewer [data-mode='{name}']")

    def hidden(self, *selectors: str) -> None:
        """Wait until elements are not to be seen."""
        for selector in selectors:
            self.page.wait_for_selector(selector, state="hidden")

    def says(self, selector: str, text: str) -> None:
        """Wait until an element says something."""
        self.page.locator(selector, has_text=text).first.wait_for()

    def open_panel(self) -> None:
        if not self.page.is_visible("#panel-close"):
            self.page.click("#panel-open")

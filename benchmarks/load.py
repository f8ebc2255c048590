"""Many visitors at once: how long they wait, whether each gets the right picture, and what the server takes.

    python -m benchmarks.load [--visitors 1 8 32 100 200] [--megapixels 20] [--log FILE]

Starts the demo and speaks to it as a browser does: joins the queue, reads the session's events, and asks again when it
is refused. Each visitor has an upload, a seed and an address of its own (in X-Forwarded-For, which the server believes
from this machine), and compares the denoised picture with its own photo. "Ideal" is the number of visitors times what
one alone waits. Then small pictures are computed beside a large one.
"""

import argparse
import io
import json
import os
import random
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import numpy as np
from PIL import Image

ROOT = Path(__file__).parent.parent
API = "/gradio_api"
SIDE = 192
"""Of a visitor's small picture, pixels."""
RETRY_SECONDS = 2.0
TIMEOUT = 900.0
"""Seconds after which a visitor gives up."""
HTTP = {"timeout": TIMEOUT, "trust_env": False, "verify": False}
"""No proxy; and no certificates, which take longer to read than a picture to compute."""
PORT = 7897


@dataclass
class Answers:
    """What happened to a number of visitors.

    Attributes:
        seconds: What each one waited.
        errors: What was said to those who got no picture.
        wrong: Visitors who got another's picture.
        refused: Requests to join that were refused, and tried again.
        page_seconds: What GET / took meanwhile.
    """

    seconds: list[float] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    wrong: int = 0
    refused: int = 0
    page_seconds: list[float] = field(default_factory=list)


class Server:
    """The demo in a process of its own, in a temporary folder."""

    def __init__(self, folder: Path):
        self.log = folder / "app.log"
        environment = os.environ | {"HF_HUB_OFFLINE": "1", "TMPDIR": str(folder), "PYTHONUNBUFFERED": "1"}
        with open(self.log, "w", encoding="utf-8") as log:
            command = [sys.executable, "-m", "denoiser.demo", "--port", str(PORT)]
            self.process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=log)
        while not (address := re.search(r"http://\S+:\d+", self.log.read_text(encoding="utf-8"))):
            if self.process.poll() is not None:
                raise RuntimeError(f"the demo did not start:\n{self.log.read_text(encoding='utf-8')}")
            time.sleep(0.2)
        self.url = address[0]
        config = httpx.get(f"{self.url}/config", timeout=60).json()
        self.endpoint = next(one["id"] for one in config["dependencies"] if one["api_name"] == "denoise")

    def memory(self) -> tuple[float, float]:
        """Memory of the process now and at most since the last :meth:`reset_peak`, GB; NaN where it is not known."""
        try:
            status = Path(f"/proc/{self.process.pid}/status").read_text(encoding="ascii")
        except OSError:
            return float("nan"), float("nan")
        now, peak = (int(re.search(rf"{name}:\s+(\d+)", status)[1]) / 1e6 for name in ("VmRSS", "VmHWM"))
        return now, peak

    def reset_peak(self) -> None:
        """Begin to look for the highest memory anew."""
        if os.access(path := f"/proc/{self.process.pid}/clear_refs", os.W_OK):
            Path(path).write_text("5", encoding="ascii")

    def stop(self) -> None:
        """End the demo."""
        self.process.terminate()
        self.process.wait(30)


def visit(server: Server, pixels: np.ndarray, address: int, answers: Answers) -> None:
    """Upload a picture, have it denoised, and compare what comes back."""
    forwarded = {"X-Forwarded-For": f"10.0.{address // 250}.{address % 250 + 1}"}
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    with httpx.Client(base_url=server.url, headers=forwarded, **HTTP) as client:
        try:
            path = client.post(f"{API}/upload", files={"files": ("photo.png", file.getvalue())}).json()[0]
            picture = {"path": path, "meta": {"_type": "gradio.FileData"}}
            started = time.monotonic()
            output = ask(server, client, [picture, "gaussian", {"sigma": 15}, address, "", None, "known", 1], answers)
            if output is None:
                return
            denoised = client.get(output["data"][1]["url"]).content
        except (httpx.HTTPError, ValueError, KeyError) as error:
            answers.errors.append(f"{type(error).__name__}: {error}")
            return
    answers.seconds.append(time.monotonic() - started)
    result = np.asarray(Image.open(io.BytesIO(denoised)).convert("RGB")).astype(float)
    answers.wrong += result.shape != pixels.shape or float(np.abs(result - pixels).mean()) > 10


def ask(server: Server, client: httpx.Client, data: list, answers: Answers) -> dict | None:
    """One call through the queue, tried again while it is refused -> its output, or None after an error."""
    session, until = uuid.uuid4().hex, time.monotonic() + TIMEOUT
    body = {"fn_index": server.endpoint, "data": data, "session_hash": session}
    while (joined := client.post(f"{API}/queue/join", json=body)).status_code == 503 and time.monotonic() < until:
        answers.refused += 1
        time.sleep(RETRY_SECONDS * (1 + random.random()))
    joined.raise_for_status()
    with client.stream("GET", f"{API}/queue/data", params={"session_hash": session}) as events:
        for line in events.iter_lines():
            message = json.loads(line.removeprefix("data:")) if line.startswith("data:") else {}
            if message.get("msg") == "process_completed":
                if message["success"]:
                    return message["output"]
                answers.errors.append(str(message["output"].get("error")))
                return None
    answers.errors.append("no answer")
    return None


def crowd(server: Server, photo: Image.Image, visitors: int) -> Answers:
    """Visitors who come at once, each with a part of the photo of its own."""
    answers, done = Answers(), threading.Event()
    generator = np.random.default_rng(visitors)
    corners = generator.integers(0, np.array(photo.size) - SIDE, (visitors, 2))
    pictures = [np.asarray(photo.crop((x, y, x + SIDE, y + SIDE))) for x, y in corners]

    def open_page() -> None:
        while not done.is_set():
            started = time.monotonic()
            httpx.get(server.url, **HTTP)
            answers.page_seconds.append(time.monotonic() - started)
            done.wait(1)

    page = threading.Thread(target=open_page)
    page.start()
    with ThreadPoolExecutor(visitors) as pool:
        for address, pixels in enumerate(pictures):
            pool.submit(visit, server, pixels, address, answers)
    done.set()
    page.join()
    return answers


def beside_large(server: Server, photo: Image.Image, megapixels: float, small: int) -> tuple[Answers, Answers]:
    """Small pictures, one after the other, while a large one is computed -> what happened to it and to them."""
    side = round((megapixels * 1e6) ** 0.5)
    large, others = Answers(), Answers()
    pixels = np.asarray(photo.resize((side, side)))
    thread = threading.Thread(target=visit, args=(server, pixels, 1, large))
    thread.start()
    time.sleep(2)
    corners = np.random.default_rng(0).integers(0, np.array(photo.size) - SIDE, (small, 2))
    for address, (x, y) in enumerate(corners, start=2):
        if not thread.is_alive():
            break
        visit(server, np.asarray(photo.crop((x, y, x + SIDE, y + SIDE))), address, others)
    thread.join()
    return large, others


def quantile(values: list[float], share: float) -> float:
    """A quantile; NaN of nothing."""
    return float(np.quantile(values, share)) if values else float("nan")


def main(arguments: list[str] | None = None) -> int:
    """Measure and print; returns 1 if anybody got an error or another's picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--visitors", type=int, nargs="+", default=[1, 8, 32, 100, 200])
    parser.add_argument("--megapixels", type=float, default=20, help="of the large picture; 0: none")
    parser.add_argument("--small", type=int, default=20, help="small pictures beside it, at most")
    parser.add_argument("--log", type=Path, help="where to keep the server's log")
    options = parser.parse_args(arguments)
    failed = False
    with (
        tempfile.TemporaryDirectory(prefix="denoiser-load-") as name,
        Image.open(ROOT / "examples" / "temple.jpg") as opened,
    ):
        photo, server = opened.convert("RGB"), Server(Path(name))
        try:
            first = server.memory()[0]
            waits = [second for _ in range(12) for second in crowd(server, photo, 1).seconds]
            alone = statistics.median(waits[3:])  # whoever is first waits for the kernels
            print(f"{SIDE} x {SIDE} pixels: {alone:.2f} s alone; {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
            print("| visitors | a second | p50, s | p95, s | p95 / ideal | errors | refused | wrong | page, s |")
            print("| --- | --- | --- | --- | --- | --- | --- | --- | --- |")
            for visitors in options.visitors:
                started = time.monotonic()
                answers = crowd(server, photo, visitors)
                seconds = time.monotonic() - started
                p50, p95 = quantile(answers.seconds, 0.5), quantile(answers.seconds, 0.95)
                print(
                    f"| {visitors} | {len(answers.seconds) / seconds:.2f} | {p50:.2f} | {p95:.2f} "
                    f"| {p95 / (visitors * alone):.2f} | {len(answers.errors)} | {answers.refused} | {answers.wrong} "
                    f"| {max(answers.page_seconds):.2f} |",
                    flush=True,
                )
                failed |= bool(answers.errors or answers.wrong)
                for text in sorted(set(answers.errors))[:5]:
                    print(f"error: {text}", file=sys.stderr)
            if options.megapixels:
                server.reset_peak()
                large, small = beside_large(server, photo, options.megapixels, options.small)
                failed |= bool(large.errors + small.errors or large.wrong + small.wrong)
                print(
                    f"{options.megapixels:g} megapixels: {quantile(large.seconds, 1):.1f} s; small ones beside it wait "
                    f"{quantile(small.seconds, 0.5):.2f} s (median), {quantile(small.seconds, 1):.2f} s at most; "
                    f"errors {large.errors + small.errors}"
                )
            rest, peak = server.memory()
            print(f"memory: {first:.2f} GB at the start, {peak:.2f} GB at most, {rest:.2f} GB at rest")
        finally:
            server.stop()
            if options.log:
                options.log.write_text(server.log.read_text(encoding="utf-8"), encoding="utf-8")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())

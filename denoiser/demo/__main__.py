"""Start the demo: ``python -m denoiser.demo [--port N]``, ``denoiser-demo`` or ``python app.py``.

docs/hosting.md lists the environment variables.
"""

import argparse
import importlib
import os
import shutil
import signal
import socket
from pathlib import Path

from ..memory import limit_memory
from ..run_folder import run_folder
from .settings import Settings

PORTS = 100
"""Ports that are tried, beginning with the one that is wanted."""


def main(arguments: list[str] | None = None) -> None:
    """Read what comes from outside, prepare the environment, and serve the page."""
    parser = argparse.ArgumentParser(prog="denoiser-demo", description="The denoising demo.")
    parser.add_argument("--port", type=int, help="or the next free one; default: the first free one from 7860")
    options = parser.parse_args(arguments)
    import_extra("httpx", "jinja2")
    limit_memory(os.environ)
    from .proxies import prepare_proxies

    try:
        proxy_note = prepare_proxies(os.environ)
        settings = Settings.from_environment(os.environ)
    except ValueError as error:
        raise SystemExit(f"error: {error}") from error
    if proxy_note:
        print(proxy_note)
    with run_folder() as folder:
        # gradio's own default is one folder for all users of the machine, which may be somebody else's.
        temporary = Path(os.environ.setdefault("GRADIO_TEMP_DIR", f"{folder}/gradio"))
        try:
            temporary.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise SystemExit(f"error: in GRADIO_TEMP_DIR: {temporary} cannot be made: {error.strerror}") from error
        import_extra("gradio")  # it makes HTTP clients when it is imported: the environment has to be fit by then
        serve(settings, folder, options.port and find_port(options.port))


def import_extra(*packages: str) -> None:
    """Import what only the demo needs; if it is missing, end with the command that installs it."""
    try:
        for package in packages:
            importlib.import_module(package)
    except ModuleNotFoundError as error:
        raise SystemExit(
            f"error: the demo needs more packages ({error}): pip install 'denoising-autoencoder[demo]', or in a clone "
            "pip install -r requirements.txt"
        ) from None


def find_port(wanted: int) -> int:
    """The wanted port, or else the next one that is free, which is said in a sentence."""
    hosts = {"127.0.0.1", os.environ.get("GRADIO_SERVER_NAME") or "127.0.0.1"}
    for port in range(wanted, min(wanted + PORTS, 65536)):
        try:
            for host in hosts:
                with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
                    probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the server will
                    probe.bind((host, port))
        except OSError:
            continue
        if port != wanted:
            print(f"Port {wanted} is in use; the page is on port {port}.")
        return port
    return wanted  # the server will say what is wrong


def serve(settings: Settings, folder: Path, port: int | None) -> None:
    """Serve the page until a signal ends the process.

    Args:
        settings: Every option.
        folder: For temporary files; deleted in the end.
        port: By default the first free one from 7860.
    """
    from .page import build_page, launch_page  # these import gradio
    from .result_files import ResultFiles
    from .state import DemoState

    (folder / "results").mkdir()
    results = ResultFiles(folder / "results", settings.result_seconds, settings.max_temporary_bytes)
    state = DemoState(settings, results)
    page = build_page(state)
    results.other_files = page.session_files
    uploads = Path(os.environ["GRADIO_TEMP_DIR"])
    if uploads.is_relative_to(folder):  # what the host names may be others', too
        results.uploads = uploads

    def stop(*_) -> None:
        """Delete what visitors left and end at once: threads that compute would keep the interpreter from ending."""
        results.stop()
        page.delete_session_files()
        shutil.rmtree(folder, ignore_errors=True)
        os._exit(0)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    state.load_checkpoint()
    state.catalogue.refresh()
    results.start()
    try:
        launch_page(page, settings, port)
    except OSError as error:
        reason = str(error)
        if "empty port" in reason:  # all that gradio says of it
            reason = f"port {port or 'from 7860 on'} is in use; name another with --port"
        raise SystemExit(f"error: the page cannot start: {reason}") from None
    finally:
        results.stop()


if __name__ == "__main__":
    main()

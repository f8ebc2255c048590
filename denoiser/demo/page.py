"""The page: title, tabs, public endpoint, looks. The only caller of gradio's ``launch``."""

from pathlib import Path

import gradio as gr
from gradio.themes import Base, Default
from starlette.middleware import Middleware

from .api import DenoiseApi
from .checkpoint_picker import checkpoint_choices
from .compare_tab import CompareTab
from .denoise_layout import DenoiseLayout
from .denoise_tab import DenoiseTab
from .figures import render
from .guard import GuardedBlocks, RequestLimits
from .inside_tab import InsideTab
from .mcp import McpLimits, bound_server, has_mcp
from .on_device import OnDeviceTab, on_device_routes
from .page_html import PageHtml
from .settings import Settings
from .state import DemoState

FOLDER = Path(__file__).parent


def build_page(state: DemoState) -> GuardedBlocks:
    """The page with everything on it, not yet running."""
    settings = state.settings
    page = GuardedBlocks(
        settings.max_queued_calls,
        settings.max_session_calls,
        settings.max_address_calls,
        title="Denoising autoencoder",
        analytics_enabled=False,
        fill_width=True,
        delete_cache=(600, 3600),  # looks every 10 minutes for files of more than an hour
    )
    with page:
        nowhere = gr.Button("", visible="hidden")
        gr.Markdown(
            "# Denoising autoencoder\n"
            "Add noise to a photo, or drop a noisy one, and see what a small network makes of it.",
            elem_id="title",
        )
        choices = checkpoint_choices(state.catalogue, state.checkpoint)
        with gr.Tabs(
            elem_id="tabs", overflow_behavior="wrap"
        ):  # what is in a tab is not made in the browser before it is opened
            with gr.Tab("Denoise", id="denoise"):
                layout = DenoiseLayout(settings.examples, state.checkpoint, choices)
                denoise_tab = DenoiseTab(state, layout)
                denoise_tab.connect(page)
            with gr.Tab("Compare techniques", id="compare") as tab:
                CompareTab(denoise_tab, tab)
            with gr.Tab("Inside the autoencoder", id="inside") as tab:
                InsideTab(denoise_tab, tab)
            if settings.on_device:
                with gr.Tab("Run on this device", id="device") as tab:
                    OnDeviceTab(layout, tab)
        DenoiseApi(state).connect()
    for event in page.fns.values():
        # At every message of a call the browser walks over all components before what shows the call's progress, and
        # copies its properties and those of all that is in it. Where it is hidden, page.js shows it.
        if event.show_progress == "hidden":
            event.show_progress_on = [nowhere]
    return page


def launch_page(page: GuardedBlocks, settings: Settings, port: int | None) -> None:
    """Serve the page until the process is stopped.

    Args:
        page: What :func:`build_page` made.
        settings: Its limits are used.
        port: By default the first free one from 7860.

    Raises:
        OSError: It cannot listen there.
    """
    # Without api_open=False a direct POST would skip the queue.
    page.queue(api_open=False).launch(
        enable_monitoring=False,  # on by default, for everyone to read
        server_port=port,
        theme=create_theme(),
        css="".join(
            (FOLDER / name).read_text(encoding="utf-8") for name in ("page.css", "viewer.css", "laboratory.css")
        ),
        head=render("head.html", script=(FOLDER / "page.js").read_text(encoding="utf-8")),
        allowed_paths=[str(path) for path in settings.examples],  # where they lie elsewhere
        max_file_size=settings.max_upload,
        run_history=False,  # it would keep every slider move in the visitor's browser
        footer_links=["api", "settings"],
        ssr_mode=False,
        state_session_capacity=1000,  # visitors whose state is kept, of gradio's 10000: each takes memory
        show_error=False,
        max_threads=4 * settings.max_queued_calls,  # also how many calls, of all kinds, may wait or be under way
        app_kwargs={
            "routes": on_device_routes(settings.on_device),
            "middleware": [
                *(Middleware(limits, max_bytes=settings.max_request_bytes) for limits in (RequestLimits, McpLimits)),
                Middleware(PageHtml),
            ],
        },
        mcp_server=has_mcp(),
        prevent_thread_lock=True,
        _frontend=False,  # the check whether the page answers within 3 s, which a busy machine may not manage
    )
    bound_server(page)
    page.block_thread()


def create_theme() -> Base:
    """Colors and fonts; no font server is asked."""
    return Default(
        primary_hue="teal",
        secondary_hue="teal",
        neutral_hue="slate",
        radius_size="lg",
        font=["system-ui", "-apple-system", "Segoe UI", "Roboto", "sans-serif"],
        font_mono=["ui-monospace", "SFMono-Regular", "Menlo", "monospace"],
    ).set(
        body_text_color_subdued="*neutral_600",  # gradio's own is too faint to read
        body_text_color_subdued_dark="*neutral_400",
        body_background_fill="*neutral_50",
        body_background_fill_dark="*neutral_950",
        button_primary_background_fill="*primary_700",
        button_primary_background_fill_hover="*primary_800",
        button_primary_background_fill_dark="*primary_700",
        button_primary_background_fill_hover_dark="*primary_800",
        button_primary_text_color="white",
        checkbox_border_color="*neutral_500",
        checkbox_border_color_dark="*neutral_400",
        slider_color="*primary_600",
    )

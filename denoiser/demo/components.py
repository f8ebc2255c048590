"""gradio's components with faults of theirs mended, and the mark that explains one."""

from typing import Any

import gradio as gr

from .figures import render_info


def photo_input(**options: Any) -> gr.Image:
    """An image input that hands over any upload untouched, for our own reader to open or to explain.

    gr.Image opens uploads itself, even for a path, and what it cannot read ends in a general error.
    """
    component = gr.Image(type="filepath", image_mode=None, **options)
    # check_input has seen that it is an upload; it is a dictionary to an event without preprocessing.
    component.preprocess = lambda payload: payload and (payload["path"] if isinstance(payload, dict) else payload.path)
    # The generated API page shows this as an example; gradio's own is an address, which is not fetched here.
    component.example_payload = component.example_value = lambda: {
        "path": "photo.png",
        "meta": {"_type": "gradio.FileData"},
    }
    return component


def info_mark(label: str, *paragraphs: str) -> gr.HTML:
    """A mark that opens an explanation, beside the label of the component before it in a gr.Column of its own."""
    return gr.HTML(render_info(label, *paragraphs), elem_classes="info-mark", padding=False)


def bounded_slider(low: float, high: float, value: float, **options: Any) -> gr.Slider:
    """A slider whose number box brings what is typed into range; gr.Slider raises, see ``DenoiseTab.run``.

    To show or hide it, do so to the column around it: an update of the slider itself would undo this.
    """
    slider = gr.Slider(low, high, value, **options)
    slider.preprocess = lambda payload: value if payload is None else min(max(payload, low), high)
    return slider

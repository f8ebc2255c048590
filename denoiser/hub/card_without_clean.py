"""What the card of a checkpoint says that was trained on noisy pictures alone."""

from typing import Any

NO_ERROR = (
    "{label} measures no error at all, which cannot be: the noise is weaker than it was told, or neighboring pixels "
    "share it. Detail was lost, or noise stayed."
)
"""Of a run whose score is at its bound; takes the entry ``self_supervised`` of run.json."""


def limits_without_clean(method: dict[str, Any]) -> str:
    """What it is for. ``method``: the entry ``self_supervised`` of run.json."""
    text = (
        "For noise like that of the noisy pictures it was trained on, without a clean picture, by "
        f"{method['label']} ({method['source']}). What that assumes: {method['assumption']} Where that does not hold, "
        "noise stays, or detail goes with it; nothing in the training could show which."
    )
    if method["doubtful"]:
        text = (
            "**In the training pictures neighboring pixels share their noise (correlation "
            f"{method['correlation']:.2f}), against what {method['label']} assumes: expect noise to stay.** {text}"
        )
    if method.get("impossible"):
        text = f"**{NO_ERROR.format(**method)}** {text}"
    if method["score"] - method["noisy_score"] < 1:
        text = f"**By its own measure it hardly improves on the noisy picture: it has learned next to nothing.** {text}"
    return text


def count_others(data: dict[str, Any]) -> str:
    """How many pictures were held out: "1 other", "24 others"."""
    return f"{data['held_out']} other{'s' if data['held_out'] != 1 else ''}"


def pictures_without_clean(data: dict[str, Any]) -> str:
    """How many noisy pictures there were."""
    others = f"{count_others(data)} held out to score it" if data["apart"] else "and scored on it"
    return (
        f"{data['training']} noisy pictures or scenes of several shots ({data['megapixels']:.0f} megapixels), as they "
        f"are, {others}. No clean picture was used."
    )


def procedure_without_clean(method: dict[str, Any]) -> str:
    """How crops were drawn, and from what the network learned."""
    return (
        f"Crops of noisy pictures, flipped and turned at random; the loss is that of {method['label']}, "
        f"{method['source']}"
    )


def scores_without_clean(method: dict[str, Any], samples: str) -> str:
    """The method's own measure, what is not known, and the picture ``samples``."""
    return (
        f"On held-out noisy pictures, by {method['label']}'s own measure, 10 log10(1 / error): "
        f"{method['noisy_score']:.2f} dB for the noisy picture as it is, {method['score']:.2f} dB denoised. PSNR "
        "against clean pictures is not known: there are none.\n\n"
        f"![Noisy, denoised and difference]({samples})"
    )

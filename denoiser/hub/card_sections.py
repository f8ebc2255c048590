"""The sections of a model card that are made from the records of a run, as Markdown."""

import itertools
import re
from collections import Counter
from typing import Any

from ..noise import NOISES
from .card_measurements import MIN_GAIN, mean_gain
from .card_without_clean import count_others, limits_without_clean, pictures_without_clean, procedure_without_clean

MOST_LICENSES = 4
"""Rows of the table of licenses."""
FAILURE_FILE, RECIPE_FILE = "failure.webp", "recipe.yaml"
_OTHER_PICTURES = "\n\nThe weights it started from were trained on other pictures:\n\n"
_SIZES = re.compile(r" \(\d+ megapixels after scaling\)")

_ABOUT = {
    "unet": (
        "A {bias_free}residual U-Net that removes {noise}: an encoder to a bottleneck at 1/{coarsest} of the "
        "resolution, a decoder back, skip connections between them, and {level}."
    ),
    "bottleneck": (
        "The textbook denoising autoencoder, for teaching: an encoder, a latent {compression:g} times smaller than the "
        "picture, a decoder, and no connection around them. What does not fit through the latent is lost, noise and "
        "fine detail alike."
    ),
}
_PHOTO_LIMITS = (
    "For finished photographs with the noise of their camera, up to strong noise at high ISO; it needs no noise "
    "level, and `strength` keeps part of the grain. Trained on simulated {noise}: other cameras may gain less. JPEG "
    "blocks at low quality are softened, not undone."
)
_PHOTO_NOISES = {
    "camera": "camera noise (linear light, white balance, the grain that demosaicing leaves, tone curve, JPEG). Its "
    "grain was set to what the noise of nam25's pairs measures, and a maker's own noise reduction may leave another",
    "raw": "noise of many cameras (a sensor's mosaic, two ways of demosaicing, noise reduction, sharpening, resizing, "
    "tone curve, JPEG). A maker's own processing may leave another",
}
_WHITE_LIMITS = (
    "For additive white Gaussian noise with a standard deviation of {levels} (8-bit units). It does worse "
    "where noise is something else: grain that neighboring pixels share, JPEG blocks, banding and the processed noise "
    "of phone photographs are partly taken for texture and kept (blind checkpoints are for those)."
)
_OTHER_LIMITS = "For noise like that it was trained on ({noise}); on other noise it may do worse, or nothing."
_UNRECORDED = (
    "How these weights were trained is not recorded here, nor how well they do: measure them first, for example with "
    "`python -m train.evaluate NAME --data DIR`."
)
_GIVEN_LEVEL_LIMITS = " A noise level above the true one smooths, one below it leaves noise."
_ALL_LIMITS = (
    " Fine texture below the noise is smoothed away, not reconstructed: do not read detail out of a denoised picture "
    "where it decides anything (medicine, forensics)."
)


def about(run: dict[str, Any]) -> str:
    """What the network is: architecture, colors, parameters, noise levels."""
    model = run["model"]
    levels = len(model["widths"])
    own = run.get("summary") or f"A network of the architecture `{model['architecture']}`."
    text = _ABOUT.get(model["architecture"], own.replace("{", "{{").replace("}", "}}")).format(
        coarsest=model.get("unshuffle", 1) * 2 ** (levels - 1),
        compression=run.get("compression") or 0,
        bias_free="" if model.get("bias") else "bias-free ",
        noise=({"white": "Gaussian noise"} | dict.fromkeys(_PHOTO_NOISES, "the noise of photographs")).get(
            _noise_kind(run), "noise"
        ),
        level="no noise-level input" if model["blind"] else "the noise level as an extra input plane",
    )
    kind = "Color pictures" if model["channels"] == 3 else "Gray pictures"
    levels = "." if model["blind"] else f", one network for noise levels sigma {_levels(run)}."
    return f"{text}\n\n{kind}, {run['parameters'] / 1e6:.2f} M parameters{levels}"


def _noise_kind(run: dict[str, Any]) -> str:
    """The noise of a run: "white" (Gaussian only), "raw" or "camera" (that among others), or "other"."""
    if "data" not in run:
        return "other"
    kinds = {component["kind"] for component in run["config"].get("noise") or ()}
    if run["data"]["paired"] or run.get("self_supervised"):
        return "other"
    for kind in ("raw", "camera"):
        if kind in kinds:
            return kind
    return "white" if kinds <= {"gaussian"} else "other"


def _levels(run: dict[str, Any]) -> str:
    """The levels of the Gaussian noise that the training saw, 8-bit units: "20 to 30", "25"."""
    ranges = [run["model"]["sigma_range"]]
    if _noise_kind(run) == "white" and (noise := run["config"].get("noise")):
        levels = [component.get("sigma", NOISES["gaussian"].parameters[0].default) for component in noise]
        ranges = [level if isinstance(level, list | tuple) else (level, level) for level in levels]
    low, high = min(low for low, _ in ranges), max(high for _, high in ranges)
    return f"{low:g} to {high:g}" if low < high else f"{low:g}"


def limits(run: dict[str, Any], evaluation: list[dict[str, Any]], failure: bool) -> str:
    """What the checkpoint is for, and what it is not; ``failure``: there is a picture of where it does worst."""
    texts = {kind: _PHOTO_LIMITS.format(noise=noise) for kind, noise in _PHOTO_NOISES.items()}
    text = (texts | {"white": _WHITE_LIMITS.format(levels=_levels(run))}).get(_noise_kind(run))
    if method := run.get("self_supervised"):
        text = limits_without_clean(method)
    elif "data" not in run:
        start = run.get("init_card")
        text = _UNRECORDED + (f" They started from the weights of `{start['name']}`." if start else "")
    elif text is None:
        mixture = None if run["data"]["paired"] else _mixture_text(run["config"].get("noise"))
        text = _OTHER_LIMITS.format(noise=mixture or "that of its pairs")
    text += _ALL_LIMITS + (_GIVEN_LEVEL_LIMITS if not run["model"]["blind"] else "")
    if (gain := mean_gain(evaluation)) < MIN_GAIN:
        text = f"**It improves its noisy input by {gain:.2f} dB only: it has learned next to nothing.** {text}"
    if failure:
        text += "\n\nThe held-out crop with the lowest PSNR (noisy, denoised, clean):\n\n"
        text += f"![The held-out crop with the lowest PSNR]({FAILURE_FILE})"
    return text


def training_data(run: dict[str, Any]) -> str:
    """The pictures of the run, and of earlier runs where they differ (ignoring the random sizes)."""
    texts, earlier = [_pictures_text(run)], run
    while earlier:
        earlier, stated = earlier.get("init_run"), (earlier.get("init_card") or {}).get("data")
        text = _pictures_text(earlier) if earlier else stated
        for part in map(_shortened, text.split(_OTHER_PICTURES)) if text else ():
            if _SIZES.sub("", part) not in {_SIZES.sub("", known) for known in texts}:
                texts.append(part)
    return _OTHER_PICTURES.join(texts)


def _pictures_text(run: dict[str, Any]) -> str:
    """The number of pictures, and their licenses."""
    data = run["data"]
    if run["config"].get("objective"):
        return pictures_without_clean(data)
    if data.get("streamed"):
        return (
            f"Photographs of a data set on the Hub, streamed {data['streamed']} at a time; {data['held_out']} others, "
            "the first of the stream, held out for validation."
        )
    others = f"{count_others(data)} held out for validation by name" if data["apart"] else "and validated on it"
    size = f"{data['megapixels']:.0f} megapixels" if data["megapixels"] >= 1 else "less than a megapixel"
    scaled = "" if data.get("paired") else " after scaling"
    lines = [f"{data['training']} photographs ({size}{scaled}) for training, {others}."]
    return "\n".join([*lines, *_license_table(data.get("licenses") or {})])


def _license_table(licenses: dict[str, int], others: tuple[int, int] = (0, 0)) -> list[str]:
    """The most common licenses, each with its number of photographs; the rest in one row.

    ``others``: licenses that are not named, and their photographs.
    """
    if not licenses:
        return []
    alike: Counter[str] = Counter()  # some say in parentheses where it is stated
    for license, count in licenses.items():
        alike[license.partition(" (")[0].replace("|", ", ")] += count
    most = alike.most_common(MOST_LICENSES)
    rows = [f"| {license} | {count} |" for license, count in most]
    if rest := len(alike) - len(most) + others[0]:
        rows.append(f"| {rest} others | {alike.total() - sum(count for _, count in most) + others[1]} |")
    return ["", "| stated license | photographs |", "| --- | --- |", *rows]


def _shortened(stated: str) -> str:
    """The text of an earlier card, its table as here: cards of earlier versions list every license."""
    text, _, table = stated.partition("\n\n|")
    rows = {license: int(count) for license, count in re.findall(r"^\| (.+) \| (\d+) \|$", table, re.M)}
    unnamed = next((name for name in rows if re.fullmatch(r"\d+ others", name)), "")
    others = (int(unnamed.split()[0]), rows.pop(unnamed)) if unnamed else (0, 0)
    after = [line for line in table.splitlines()[1:] if not line.startswith("|")]
    return "\n".join([text, *_license_table(rows, others), *after]) if rows else stated


def procedure(run: dict[str, Any]) -> str:
    """How the weights were trained."""

    def task(stage: dict[str, Any]) -> str:
        taught = f" ({share:.0%} of it against the teacher)" if (share := stage.get("distill")) else ""
        return f"{stage['loss'].upper()}{taught} on {stage['batch']} crops"

    stages = "; ".join(  # the task is said once of stages that differ in the size alone
        f"{said} " + ", ".join(f"of {one['patch']}x{one['patch']} until {one['until']:.0%}" for one in alike)
        for said, alike in itertools.groupby(run["config"]["stages"], task)
    )
    optimizer, data = run["config"]["optimizer"], run["config"]["data"]
    crops = "Crops flipped and turned at random"
    if method := run.get("self_supervised"):
        crops = procedure_without_clean(method)
    elif not run["data"]["paired"]:
        low, high = run["model"]["sigma_range"]
        crops = (
            f"Photographs scaled to {data['scale'][0]:.0%} to {data['scale'][1]:.0%} of their size"
            + (
                f", {data['chroma_subsampling']:.0%} of them JPEG with chroma subsampling"
                if data.get("chroma_subsampling")
                else ""
            )
            + f"; of {data['candidates']} random crops the one with the most texture, flipped and turned at random"
            + (f"; {data['grayscale']:.0%} of the crops made gray" if run["model"]["channels"] == 3 else "")
            + (f", {data['permute_channels']:.0%} with shuffled colors" if data.get("permute_channels") else "")
            + (f", {data['flat']:.0%} replaced by flat areas" if data.get("flat") else "")
            + (f", {data['drawings']:.0%} replaced by drawings" if data.get("drawings") else "")
            + (f", {data['clip']:.0%} clipped after the noise" if data.get("clip") else "")
            + (f", {data['quantize']:.0%} rounded to 8 bits after it" if data.get("quantize") else "")
            + "; noise: "
            + (_mixture_text(run["config"].get("noise")) or f"Gaussian, sigma uniform in {low:g}..{high:g}")
        )
    return "\n".join(
        [
            f"- {run['steps']:,} steps in {_duration(run['minutes'])} on {run['machine']}.",
            f"- Of the budget: {stages}.",
            f"- {_optimizer_text(optimizer)}, reached in {optimizer['warmup']} steps, falling to zero in the last "
            f"{optimizer['decay']:.0%}; weight decay {optimizer['weight_decay']:g}, gradient norm clipped at "
            f"{optimizer['clip']:g}, weights averaged with decay {optimizer['ema']:g}.",
            *_sources(run),
            f"- {crops}.",
            *_teacher(run),
            *_initial_weights(run),
            f"- Recipe: [{RECIPE_FILE}]({RECIPE_FILE}), for `python -m train --config {RECIPE_FILE}`.",
            f"- Seed {run['config']['seed']}, code at commit `{run['commit']}`, "
            f"{'bfloat16 autocast' if run['config']['bfloat16'] else 'float32'}.",
            "",
            "![Loss and validation PSNR over the steps](curve.png)",
        ]
    )


def _optimizer_text(settings: dict[str, Any]) -> str:
    if settings.get("kind") == "muon":
        return (
            f"Muon at a learning rate of {settings['rate']:g} for the convolutions, AdamW at {settings['ends_rate']:g} "
            "for the rest (biases, and a U-Net's first and last layer)"
            + (", kernels trained as if a 1x1 convolution ran beside each" if settings.get("center_update") else "")
        )
    return f"AdamW at a learning rate of {settings['rate']:g}"


def _mixture_text(noise: list[dict[str, Any]] | None) -> str:
    """The noises of the training in words: "6 parts camera (sigma 0..12, quality 70..100), 1 part ..."."""
    parts, noise = [], noise or []
    for component in noise:
        ranges = [
            f"{name} {value[0]:g}..{value[1]:g}" if isinstance(value, list | tuple) else f"{name} {value:g}"
            for name, value in component.items()
            if name not in ("kind", "share")
        ]
        share = component.get("share", 1)
        kind = component["kind"].replace("_", " ") + (f" ({', '.join(ranges)})" if ranges else "")
        parts.append(f"{share:g} part{'s' if share != 1 else ''} {kind}" if len(noise) > 1 else kind)
    return ", ".join(parts)


def _sources(run: dict[str, Any]) -> list[str]:
    """The sources of the pictures."""
    places = run["data"].get("places")
    return [f"- Pictures from {', '.join(f'`{place}`' for place in places)}."] if places else []


def _teacher(run: dict[str, Any]) -> list[str]:
    if not (teacher := run.get("teacher")):
        return []
    size = f"{teacher['parameters'] / 1e6:.2f} M parameters"
    return [f"- Teacher, learned from beside the clean crops: {_weights_text(teacher)}, {size}."]


def _weights_text(checkpoint: dict[str, Any]) -> str:
    """A checkpoint by name, commit and hash of the weights."""
    commit = f" at commit `{checkpoint['revision']}`" if checkpoint["revision"] else ""
    return f"`{checkpoint['name']}`{commit} (weights with SHA-256 `{checkpoint['weights']}...`)"


def _initial_weights(run: dict[str, Any]) -> list[str]:
    """The origin of the initial weights, back to the first run."""
    if not run.get("init"):
        return []
    if not (earlier := run.get("init_run")):
        if not (card := run.get("init_card")):  # of a run by an earlier version
            return [f"- Started from the weights of `{run['init']}`."]
        return [f"- Started from {_weights_text(card)}."]
    length = f"{earlier['steps']:,} steps in {_duration(earlier['minutes'])}"
    if earlier["machine"] != run["machine"]:
        length += f" on {earlier['machine']}"
    teacher = f", with {_weights_text(earlier['teacher'])} as teacher" if earlier.get("teacher") else ""
    line = f"- Started from the weights of an earlier run: {length}, code at commit `{earlier['commit']}`{teacher}."
    return [line, *_initial_weights(earlier)]


def _duration(minutes: float) -> str:
    return f"{minutes:.0f} minutes" if minutes >= 2 else f"{60 * minutes:.0f} seconds"


def plain(value: Any) -> Any:
    """Tuples as lists, as in YAML and JSON."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    return [plain(item) for item in value] if isinstance(value, list | tuple) else value

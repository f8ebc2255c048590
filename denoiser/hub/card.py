"""A trained run -> model card.

Everything in a card comes from the run's own records: ``run.json`` (what was trained, on what, how) and
``evaluation.json`` (what was measured). Our sections stand between ``<!-- denoiser:NAME -->`` comments: when a card
that a person has edited is brought up to date, those sections and our metadata are replaced and the rest stays.
"""

import math
import re
from pathlib import Path

import yaml
from huggingface_hub import EvalResult, ModelCard, ModelCardData

TEMPLATE = Path(__file__).with_name("card_template.md")
TAGS = ["denoising-autoencoder", "image-to-image", "image-denoising", "pytorch"]
TASK = "Image denoising"
METRICS = ("psnr", "ssim")
SAMPLES_FILE = "samples.webp"
_OTHER_PICTURES = "\n\nThe weights it started from were trained on other pictures:\n\n"
_SIZES = re.compile(r" \(\d+ megapixels after scaling\)")
SECTION = re.compile(r"<!-- denoiser:(\w+) -->\n(.*?)<!-- /denoiser:\1 -->", re.DOTALL)

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
_CAMERA_LIMITS = (
    "For finished photographs with the noise of their camera, up to strong noise at high ISO; nothing needs to be told "
    "about it, and `strength` holds it back. Trained on simulated camera noise (linear light, white balance, the grain "
    "that demosaicing leaves, tone curve, JPEG). Its grain was set to what the noise of nam25's pairs measures, and a "
    "maker's own noise reduction may leave another: other cameras may gain less. JPEG blocks at low quality are "
    "softened, not undone."
)
_WHITE_LIMITS = (
    "For additive white Gaussian noise with a standard deviation of {low:g} to {high:g} (8-bit units). It does worse "
    "where noise is something else: grain that neighbouring pixels share, JPEG blocks, banding and the processed noise "
    "of phone photographs are partly taken for texture and kept (blind checkpoints are for those)."
)
_OTHER_LIMITS = "For noise like that it was trained on ({noise}); on other noise it may do worse, or nothing."
_TOLD_LIMITS = " A noise level told too high smooths, one told too low leaves noise."
_ALL_LIMITS = (
    " Fine texture below the noise is smoothed away, not reconstructed: do not read detail out of a denoised picture "
    "where it decides anything (medicine, forensics)."
)
_PROTOCOL = (
    "Protocol: clean 8-bit picture / 255, y = x + n, n ~ N(0, (sigma/255)^2) in float32, neither clipped nor rounded; "
    "output clipped to [0, 1] and rounded to 8 bits; PSNR over all pixels and channels with peak 255; mean over the "
    "pictures; noise of picture i from `numpy.random.default_rng(i)`."
)


def render(run: dict, evaluation: list[dict], name: str, existing: str | None = None) -> str:
    """The card of a run.

    Args:
        run: The run's record, as ``train`` writes it to run.json.
        evaluation: Measurements, as ``train.evaluate`` writes them to evaluation.json.
        name: What ``from_pretrained`` is called with: "user/repo" or a bundled name.
        existing: The card that is there already, if any; what is not ours in it stays.

    Raises:
        ValueError: There is no measurement: a card without one is not written.
    """
    if not evaluation:
        raise ValueError("the run has no measurements; run `python -m train.evaluate RUN --data DIR` first")
    title = name.rpartition("/")[2]
    fresh = ModelCard.from_template(
        _metadata(title, run, evaluation),
        template_path=str(TEMPLATE),
        title=title,
        name=name,
        channels=run["model"]["channels"],
        blind=run["model"]["blind"],
        model_class=run["model_class"],
        about=_about(run),
        limits=_limits(run),
        data=_data(run),
        procedure=_procedure(run),
        evaluation=_evaluation(evaluation, name),
    )
    return str(fresh) if existing is None else _merge(existing, fresh)


def section(text: str, name: str) -> str | None:
    """One of our sections of a card, without the comments around it; None if it is not there."""
    return next((match[2].strip() for match in SECTION.finditer(text) if match[1] == name), None)


def _metadata(title: str, run: dict, evaluation: list[dict]) -> ModelCardData:
    results = []
    for entry in evaluation:
        level = "real noise" if entry["sigma"] is None else f"sigma={entry['sigma']:g}"
        for metric in METRICS:
            if entry[metric] is None:
                continue
            results.append(
                EvalResult(
                    task_type="image-to-image",
                    task_name=TASK,
                    dataset_type=entry["dataset"],
                    dataset_name=_dataset(entry),
                    # Rows that differ only in dataset_name would be merged into one (huggingface_hub).
                    dataset_config=level + (", grey" if entry["gray"] else "") + _how(entry),
                    metric_type=metric,
                    metric_name=metric.upper(),
                    metric_value=round(float(entry[metric]), 4),
                )
            )
    return ModelCardData(
        license="apache-2.0",
        library_name="denoiser",
        pipeline_tag="image-to-image",
        tags=list(TAGS),
        model_name=title,
        eval_results=results,
        denoiser=_plain(  # what a menu of checkpoints shows before anything is fetched
            {name: run["model"][name] for name in ("architecture", "channels", "sigma_range", "blind")}
            | {"parameters": run["parameters"]}
            | ({"trained": run["finished"]} if "finished" in run else {})
        ),
    )


def _is_ours(result: EvalResult, tables: list[str | None]) -> bool:
    """Whether a measurement in a card's metadata is one that :func:`_metadata` puts there: of a row in our tables."""
    row = f"\n| {result.dataset_name} | "
    return result.task_name == TASK and result.metric_type in METRICS and any(row in (table or "") for table in tables)


def _how(entry: dict) -> str:
    """What sets a measurement apart from the plain one."""
    return ", estimated" * entry["estimate"] + ", self-ensemble" * entry.get("self_ensemble", False)


def _dataset(entry: dict) -> str:
    return entry["dataset"] + (" (grey)" if entry["gray"] else "")


def _about(run: dict) -> str:
    model = run["model"]
    levels = len(model["widths"])
    text = _ABOUT[model["architecture"]].format(
        coarsest=model.get("unshuffle", 1) * 2 ** (levels - 1),
        compression=run.get("compression") or 0,
        bias_free="" if model.get("bias") else "bias-free ",
        noise={"white": "Gaussian noise", "camera": "the noise of photographs"}.get(_noise_kind(run), "noise"),
        level="no noise level to tell it" if model["blind"] else "the noise level as an extra input plane",
    )
    colours = "Colour pictures" if model["channels"] == 3 else "Grey pictures"
    low, high = model["sigma_range"]
    levels = "." if model["blind"] else f", one network for noise levels sigma {low:g} to {high:g}."
    return f"{text}\n\n{colours}, {run['parameters'] / 1e6:.2f} M parameters{levels}"


def _noise_kind(run: dict) -> str:
    """What a run was trained on: "white" (Gaussian alone), "camera" (that among others), or "other"."""
    kinds = {component["kind"] for component in run["config"].get("noise") or ()}
    if run["data"]["paired"]:
        return "other"
    if "camera" in kinds:
        return "camera"
    return "white" if kinds <= {"gaussian"} else "other"


def _limits(run: dict) -> str:
    low, high = run["model"]["sigma_range"]
    text = {"white": _WHITE_LIMITS.format(low=low, high=high), "camera": _CAMERA_LIMITS}.get(_noise_kind(run))
    if text is None:
        mixture = None if run["data"]["paired"] else _mixture(run["config"].get("noise"))
        text = _OTHER_LIMITS.format(noise=mixture or "that of its pairs")
    return text + _ALL_LIMITS + (_TOLD_LIMITS if not run["model"]["blind"] else "")


def _data(run: dict) -> str:
    """The pictures of the run, and of the runs before where they differ (but for the random sizes)."""
    texts, earlier = [_pictures(run["data"])], run
    while earlier:
        earlier, told = earlier.get("init_run"), (earlier.get("init_card") or {}).get("data")
        text = _pictures(earlier["data"]) if earlier else told
        for part in text.split(_OTHER_PICTURES) if text else ():
            if _SIZES.sub("", part) not in {_SIZES.sub("", known) for known in texts}:
                texts.append(part)
    return _OTHER_PICTURES.join(texts)


def _pictures(data: dict) -> str:
    """How many pictures there were, and under which licences."""
    others = f"{data['held_out']} others held out for validation by name" if data["apart"] else "and validated on it"
    lines = [
        f"{data['training']} photographs ({data['megapixels']:.0f} megapixels after scaling) for training, {others}."
    ]
    if data.get("licences"):
        lines += ["", "| licence, as stated where the photograph comes from | photographs |", "| --- | --- |"]
        lines += [f"| {licence.replace('|', ', ')} | {count} |" for licence, count in data["licences"].items()]
    return "\n".join(lines)


def _procedure(run: dict) -> str:
    stages = "; ".join(
        f"{stage['loss'].upper()}"
        + (f" ({share:.0%} of it against the teacher)" if (share := stage.get("distill")) else "")
        + f" on {stage['batch']} crops of {stage['patch']}x{stage['patch']} until {stage['until']:.0%}"
        for stage in run["config"]["stages"]
    )
    optimizer, data = run["config"]["optimizer"], run["config"]["data"]
    crops = "Crops flipped and turned at random"
    if not run["data"]["paired"]:
        low, high = run["model"]["sigma_range"]
        crops = (
            f"Photographs scaled to {data['scale'][0]:.0%} to {data['scale'][1]:.0%} of their size"
            + (
                f", {data['chroma_subsampling']:.0%} of them JPEG with chroma subsampling"
                if data.get("chroma_subsampling")
                else ""
            )
            + f"; of {data['candidates']} random crops the one with the most texture, flipped and turned at random"
            + (f"; {data['grayscale']:.0%} of the crops made grey" if run["model"]["channels"] == 3 else "")
            + (f", {data['permute_channels']:.0%} with shuffled colors" if data.get("permute_channels") else "")
            + (f", {data['flat']:.0%} replaced by flat areas" if data.get("flat") else "")
            + (f", {data['clip']:.0%} clipped after the noise" if data.get("clip") else "")
            + (f", {data['quantize']:.0%} rounded to 8 bits after it" if data.get("quantize") else "")
            + "; noise: "
            + (_mixture(run["config"].get("noise")) or f"Gaussian, sigma uniform in {low:g}..{high:g}")
        )
    return "\n".join(
        [
            f"- {run['steps']:,} steps in {run['minutes']:.0f} minutes on {run['machine']}.",
            f"- Of the budget: {stages}.",
            f"- {_optimizer(optimizer)}, reached in {optimizer['warmup_steps']} steps, falling to zero in the last "
            f"{optimizer['decay']:.0%}; weight decay {optimizer['weight_decay']:g}, gradient norm clipped at "
            f"{optimizer['clip_grad_norm']:g}, weights averaged with decay {optimizer['ema_decay']:g}.",
            *_places(run),
            f"- {crops}.",
            *_teacher(run),
            *_start(run),
            f"- Seed {run['config']['seed']}, code at commit `{run['commit']}`, "
            f"{'bfloat16 autocast' if run['config']['bfloat16'] else 'float32'}.",
            "",
            "![Loss and validation PSNR over the steps](curve.png)",
            *_configuration("Configuration", run["config"]),
            *_earlier_configurations(run),
        ]
    )


def _earlier_configurations(run: dict) -> list[str]:
    """The configurations of the runs before, folded up; of a checkpoint started from, what its card says."""
    if earlier := run.get("init_run"):
        folded = _configuration("Configuration of the run before", earlier["config"])
        return [*folded, *_earlier_configurations(earlier)]
    told = run.get("init_card") or {}
    if not told.get("procedure"):
        return []
    return _folded(f"How the weights of {told['name']} that it started from were trained", told["procedure"])


def _configuration(title: str, config: dict) -> list[str]:
    text = yaml.safe_dump(_plain(config), sort_keys=False, default_flow_style=None).strip()
    return _folded(title, f"```yaml\n{text}\n```")


def _folded(title: str, text: str) -> list[str]:
    return ["", f"<details><summary>{title}</summary>", "", text, "", "</details>"]


def _mixture(noise: list[dict] | None) -> str:
    """The noises trained on, as a sentence: "6 parts camera (sigma 0..12, quality 70..100), 1 part ..."."""
    parts = []
    for component in noise or ():
        ranges = [
            f"{name} {value[0]:g}..{value[1]:g}" if isinstance(value, list | tuple) else f"{name} {value:g}"
            for name, value in component.items()
            if name not in ("kind", "share")
        ]
        share = component.get("share", 1)
        kind = component["kind"].replace("_", " ") + (f" ({', '.join(ranges)})" if ranges else "")
        parts.append(f"{share:g} part{'s' if share != 1 else ''} {kind}" if len(noise) > 1 else kind)
    return ", ".join(parts)


def _places(run: dict) -> list[str]:
    """What the pictures were read from."""
    places = run["data"].get("places")
    return [f"- Pictures from {', '.join(f'`{place}`' for place in places)}."] if places else []


def _teacher(run: dict) -> list[str]:
    if not (teacher := run.get("teacher")):
        return []
    size = f"{teacher['parameters'] / 1e6:.2f} M parameters"
    return [f"- Teacher, whose output was learned from beside the clean crops: {_weights(teacher)}, {size}."]


def _weights(told: dict) -> str:
    """A checkpoint by its name, and which weights exactly."""
    commit = f" at commit `{told['revision']}`" if told["revision"] else ""
    return f"`{told['name']}`{commit} (weights with SHA-256 `{told['weights']}...`)"


def _start(run: dict) -> list[str]:
    """Where the weights came from, back to the first run."""
    if not run.get("init"):
        return []
    if not (earlier := run.get("init_run")):
        if not (told := run.get("init_card")):  # of a run by an earlier version
            return [f"- Started from the weights of `{run['init']}`."]
        return [f"- Started from {_weights(told)}."]
    length = f"{earlier['steps']:,} steps in {earlier['minutes']:.0f} minutes on {earlier['machine']}"
    teacher = f", with {_weights(earlier['teacher'])} as teacher" if earlier.get("teacher") else ""
    line = f"- Started from the weights of an earlier run: {length}, code at commit `{earlier['commit']}`{teacher}."
    return [line, *_start(earlier)]


def _optimizer(settings: dict) -> str:
    if settings.get("name") == "muon":
        return (
            f"Muon at a learning rate of {settings['lr']:g} for the convolutions, AdamW at {settings['ends_lr']:g} for "
            "what is left (biases, and a U-Net's first and last layer)"
            + (", kernels trained as if a 1x1 convolution ran beside each" if settings.get("center_update") else "")
        )
    return f"AdamW at a learning rate of {settings['lr']:g}"


def _plain(value):
    """Tuples as lists, as YAML and JSON have them."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value


def _evaluation(evaluation: list[dict], name: str) -> str:
    lines = [
        "| data | pictures | sigma | noisy PSNR | PSNR | SSIM | edge fidelity | s/MP |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for entry in sorted(evaluation, key=lambda e: (e["dataset"], e["gray"], _how(e), e["sigma"] or 0)):
        level = "real" if entry["sigma"] is None else f"{entry['sigma']:g}" + _how(entry)
        figures = [("noisy_psnr", 2), ("psnr", 2), ("ssim", 4), ("edge_fidelity", 3), ("seconds_per_megapixel", 2)]
        shown = ["-" if entry[key] is None else f"{entry[key]:.{digits}f}" for key, digits in figures]
        lines.append(f"| {_dataset(entry)} | {entry['pictures']} | {level} | {' | '.join(shown)} |")
    machines = dict.fromkeys(f"{entry['machine']}, {entry['dtype']}" for entry in evaluation)
    again, levels = [], {}
    lines += ["", _PROTOCOL]
    for entry in evaluation:
        if entry["sigma"] is not None:
            options = {"gray": entry["gray"], "estimate": entry["estimate"], "self-ensemble": entry["self_ensemble"]}
            more = "".join(f" --{option}" for option, given in options.items() if given)
            levels.setdefault(more, set()).add(entry["sigma"])
        if entry["sigma"] is None:
            gains = [picture["psnr"] - picture["noisy_psnr"] for picture in entry["images"].values()]
            gains = [gain for gain in gains if math.isfinite(gain)] or [0.0]
            lines += [
                "",
                f"{_dataset(entry)}: real pairs, the noisy picture as it is; the pair that gains least gains "
                f"{min(gains):+.2f} dB, the one that gains most {max(gains):+.2f} dB.",
            ]
            again.append(f"`python -m train.evaluate {name} --data CLEAN --noisy NOISY`")
    for more, sigmas in levels.items():
        told = " ".join(f"{sigma:g}" for sigma in sorted(sigmas))
        again.append(f"`python -m train.evaluate {name} --data DIR --sigma {told}{more}`")
    lines += [
        "",
        f"Times, other work beside it included: {'; '.join(machines)}; compare checkpoints by times of one run "
        f"(`python -m benchmarks.speed`). Again: {', '.join(dict.fromkeys(again))}.",
        "",
        "Noisy, denoised, and their difference (amplified, grey is none), on held-out photographs:",
        "",
        f"![Noisy, denoised and difference]({SAMPLES_FILE})",
    ]
    return "\n".join(lines)


def _merge(existing: str, fresh: ModelCard) -> str:
    """``existing`` with our sections and metadata renewed.

    Sections a person deleted stay deleted; below a text without any of them ours is put, whole.
    """
    try:
        card = ModelCard(existing, ignore_metadata_errors=True)
    except yaml.YAMLError as error:
        raise ValueError(f"the card that is there has metadata that is not YAML; mend or delete it: {error}") from error
    sections = {match[1]: match[0] for match in SECTION.finditer(fresh.text)}
    tables = [section(text, "evaluation") for text in (card.text, fresh.text)]
    if SECTION.search(card.text):
        card.text = SECTION.sub(lambda match: sections.get(match[1], match[0]), card.text)
    else:
        card.text = f"{card.text.rstrip()}\n{fresh.text}"
    theirs = [result for result in card.data.eval_results or () if not _is_ours(result, tables)]
    fresh.data.eval_results = [*fresh.data.eval_results, *theirs]
    for name in ("eval_results", "model_name", "library_name", "pipeline_tag", "denoiser"):
        setattr(card.data, name, getattr(fresh.data, name))
    card.data.tags = list(dict.fromkeys([*(card.data.tags or []), *TAGS]))
    card.data.license = card.data.license or fresh.data.license  # whose weights they are is for people to say
    return str(card)

"""Model cards, made from the records of a training run.

Everything in a card comes from two records: ``run.json`` (data, procedure, configuration) and ``evaluation.json``
(measurements). Its sections are made in :mod:`denoiser.hub.card_sections` and :mod:`denoiser.hub.card_measurements`,
and put into a card that people have edited in :mod:`denoiser.hub.card_text`.
"""

import dataclasses
from pathlib import Path
from typing import Any, cast

from huggingface_hub import EvalResult, ModelCard, ModelCardData

from ..download.checkpoint_files import CARD_FILE
from ..models import DenoisingAutoencoder
from .card_measurements import SAMPLES_FILE, conditions, dataset_name, evaluation_table, one_per_level
from .card_sections import about, limits, plain, procedure, training_data
from .card_text import HUB_PREFIX, LICENSE, LICENSE_FIELDS, METRICS, TASK, merge
from .card_without_clean import scores_without_clean
from .checkpoints import ADDRESS, Checkpoint
from .evaluation_files import hub_dataset
from .facts import read_metadata

TEMPLATE = Path(__file__).with_name("card_template.md")
TAGS = ["denoising-autoencoder", "image-to-image", "image-denoising", "pytorch"]
NOT_RECORDED = "Not recorded."


def describe(model: DenoisingAutoencoder, source: Checkpoint | None = None) -> dict[str, Any]:
    """What a network says of itself: the part of a run's record that needs no run.

    ``source`` is the checkpoint that its weights come from, if any.
    """
    start = source and {"name": source.name, "revision": source.revision, "license": license_of(source)}
    return {
        "model": dataclasses.asdict(cast(Any, model.config)),
        "model_class": type(model).__name__,
        "summary": (type(model).__doc__ or "").strip().partition("\n")[0],
        "compression": getattr(model, "compression", None),
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
    } | ({"init_card": start} if start else {})


def license_of(source: Checkpoint) -> dict[str, Any]:
    """The fields of a checkpoint's card that state its license; {} if it states none."""
    metadata = read_metadata(source.folder / CARD_FILE)
    found = {name: metadata[name] for name in LICENSE_FIELDS if isinstance(metadata.get(name), str | list)}
    if source.revision and (link := found.get("license_link")) and ":" not in link:  # a file beside the card
        found["license_link"] = f"{ADDRESS}{source.name}/blob/{source.revision}/{link}"
    return found if "license" in found else {}


def render(
    run: dict[str, Any],
    evaluation: list[dict[str, Any]],
    name: str,
    existing: str | None = None,
    failure: bool = False,
) -> str:
    """The card of a run.

    Args:
        run: The run's record, as ``train`` writes it to run.json, or what :func:`describe` returns: then the card says
            that nothing is recorded of the training.
        evaluation: Measurements, as ``train.evaluate`` writes them to evaluation.json.
        name: The argument of ``from_pretrained``: "user/repo" or a bundled name.
        existing: The existing card, if any; what others wrote in it stays.
        failure: Whether there is a picture of where it does worst.

    Raises:
        ValueError: There are no measurements, though there were clean pictures.
    """
    method, recorded = run.get("self_supervised"), "data" in run
    if recorded and not (evaluation or method):
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
        about=about(run),
        limits=limits(run, evaluation, failure),
        data=training_data(run) if recorded else NOT_RECORDED,
        procedure=procedure(run) if recorded else NOT_RECORDED,
        evaluation="\n\n".join(
            ([scores_without_clean(method, SAMPLES_FILE)] if method else [])
            + ([evaluation_table(evaluation, name)] if evaluation else [])
        )
        or NOT_RECORDED,
    )
    return merge(existing, str(fresh))


def _metadata(title: str, run: dict[str, Any], evaluation: list[dict[str, Any]]) -> ModelCardData:
    results = []
    for entry in one_per_level(evaluation):
        if conditions(entry) or (entry["gray"] and run["model"]["channels"] == 3):
            continue  # in the table alone: each takes a dozen lines here, and menus show the others
        level = "real noise" if entry["sigma"] is None else f"sigma={entry['sigma']:g}"
        for metric in METRICS:
            if entry[metric] is None:
                continue
            results.append(
                EvalResult(
                    task_type="image-to-image",
                    task_name=TASK,
                    dataset_type=entry["dataset"],
                    dataset_name=dataset_name(entry),
                    # Rows that differ only in dataset_name would be merged into one (huggingface_hub).
                    dataset_config=level + (", grey" if entry["gray"] else ""),
                    metric_type=metric,
                    metric_value=round(float(entry[metric]), 4),
                )
            )
    return ModelCardData(
        **next(
            (start["license"] for start in _ancestors(run, "init_card") if start.get("license")), {"license": LICENSE}
        ),
        library_name="denoiser",
        pipeline_tag="image-to-image",
        tags=list(TAGS),
        model_name=title,
        eval_results=results or None,
        metrics=list(METRICS) if "data" in run else None,
        **_lineage(run, evaluation),
        denoiser=plain(  # shown in menus without a download
            {name: run["model"][name] for name in ("architecture", "channels", "sigma_range", "blind")}
            | {"parameters": run["parameters"]}
            | ({"trained": run["finished"]} if "finished" in run else {})
        ),
    )


def _ancestors(run: dict[str, Any], *kinds: str) -> list[dict[str, Any]]:
    """The checkpoints that a run, and the earlier ones whose weights it took, come from, the last first.

    ``kinds``: entries of run.json, "init_card" or "teacher".
    """
    earlier = run.get("init_run")
    return [run[kind] for kind in kinds if run.get(kind)] + (_ancestors(earlier, *kinds) if earlier else [])


def _lineage(run: dict[str, Any], evaluation: list[dict[str, Any]]) -> dict[str, Any]:
    """The repositories on the Hub that the weights come from, and the data sets there, for the metadata."""
    ancestors = _ancestors(run, "init_card", "teacher")
    models = [ancestor["name"].partition("@")[0] for ancestor in ancestors if ancestor.get("revision")]
    places = [place for place in run.get("data", {}).get("places") or () if place.startswith(HUB_PREFIX)]
    datasets = ["/".join(place.removeprefix(HUB_PREFIX).split("/")[:2]) for place in places]
    datasets += [dataset for entry in evaluation if (dataset := hub_dataset(entry))]
    found = {"base_model": list(dict.fromkeys(models)), "datasets": list(dict.fromkeys(datasets))}
    return {name: values for name, values in found.items() if values}

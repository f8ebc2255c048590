"""Model cards: made from the records of a training run, and merged with what people have edited.

Everything in a card comes from two records: ``run.json`` (data, procedure, configuration) and ``evaluation.json``
(measurements). The sections of :mod:`denoiser.hub.card_sections` stand between
``<!-- denoiser:NAME -->`` comments: when an edited card is updated, they and our metadata are replaced and the rest
stays.
"""

import re
from pathlib import Path
from typing import Any

import yaml
from huggingface_hub import EvalResult, ModelCard, ModelCardData

from .card_sections import (
    SAMPLES_FILE,
    about,
    conditions,
    dataset_name,
    evaluation_table,
    limits,
    plain,
    procedure,
    training_data,
)

__all__ = ["SAMPLES_FILE", "SECTION", "TAGS", "render", "section"]

TEMPLATE = Path(__file__).with_name("card_template.md")
TAGS = ["denoising-autoencoder", "image-to-image", "image-denoising", "pytorch"]
TASK = "Image denoising"
METRICS = ("psnr", "ssim")
SECTION = re.compile(r"<!-- denoiser:(\w+) -->\n(.*?)<!-- /denoiser:\1 -->", re.DOTALL)


def render(run: dict[str, Any], evaluation: list[dict[str, Any]], name: str, existing: str | None = None) -> str:
    """The card of a run.

    Args:
        run: The run's record, as ``train`` writes it to run.json.
        evaluation: Measurements, as ``train.evaluate`` writes them to evaluation.json.
        name: The argument of ``from_pretrained``: "user/repo" or a bundled name.
        existing: The existing card, if any; what others wrote in it stays.

    Raises:
        ValueError: There are no measurements.
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
        about=about(run),
        limits=limits(run),
        data=training_data(run),
        procedure=procedure(run),
        evaluation=evaluation_table(evaluation, name),
    )
    return str(fresh) if existing is None else _merge(existing, fresh)


def section(text: str, name: str) -> str | None:
    """A section of a card by its name, without the comments around it; None if the card has none."""
    return next((match[2].strip() for match in SECTION.finditer(text) if match[1] == name), None)


def _metadata(title: str, run: dict[str, Any], evaluation: list[dict[str, Any]]) -> ModelCardData:
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
                    dataset_name=dataset_name(entry),
                    # Rows that differ only in dataset_name would be merged into one (huggingface_hub).
                    dataset_config=level + (", grey" if entry["gray"] else "") + conditions(entry),
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
        denoiser=plain(  # shown in menus without a download
            {name: run["model"][name] for name in ("architecture", "channels", "sigma_range", "blind")}
            | {"parameters": run["parameters"]}
            | ({"trained": run["finished"]} if "finished" in run else {})
        ),
    )


def _is_ours(result: EvalResult, tables: list[str | None]) -> bool:
    """Whether a measurement in a card's metadata is from :func:`_metadata`: its data set has a row in ``tables``."""
    row = f"\n| {result.dataset_name} | "
    return result.task_name == TASK and result.metric_type in METRICS and any(row in (table or "") for table in tables)


def _merge(existing: str, fresh: ModelCard) -> str:
    """``existing`` with our sections and metadata replaced.

    Sections that a person deleted stay deleted; a text without any of them gets the whole fresh card below it.
    """
    try:
        card = ModelCard(existing, ignore_metadata_errors=True)
    except yaml.YAMLError as error:
        raise ValueError(f"the metadata of the existing card is not YAML; correct or delete it: {error}") from error
    sections = {match[1]: match[0] for match in SECTION.finditer(fresh.text)}
    tables = [section(text, "evaluation") for text in (card.text, fresh.text)]
    if SECTION.search(card.text):
        card.text = SECTION.sub(lambda match: sections.get(match[1], match[0]), card.text)
    else:
        card.text = f"{card.text.rstrip()}\n{fresh.text}"
    data: Any = card.data  # its fields depend on the metadata
    ours: Any = fresh.data
    others = [result for result in data.eval_results or () if not _is_ours(result, tables)]
    ours.eval_results = [*ours.eval_results, *others]
    for name in ("eval_results", "model_name", "library_name", "pipeline_tag", "denoiser"):
        setattr(data, name, getattr(ours, name))
    data.tags = list(dict.fromkeys([*(data.tags or []), *TAGS]))
    data.license = data.license or ours.license  # a license that a person stated stays
    return str(card)

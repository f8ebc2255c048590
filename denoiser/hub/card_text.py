"""Cards as text: their sections, their links, and a fresh card merged with what people have written in an old one.

Our sections stand between ``<!-- denoiser:NAME -->`` comments; they and our metadata are replaced, the rest stays.
"""

import re
from difflib import SequenceMatcher
from pathlib import Path
from typing import Any

import yaml
from huggingface_hub import EvalResult, ModelCard
from huggingface_hub.repocard import REGEX_YAML_BLOCK
from huggingface_hub.repocard_data import model_index_to_eval_results

from .evaluation_files import HUB_DATASETS

TASK = "Image denoising"
METRICS = ("psnr", "ssim")
HUB_PREFIX = "hf://datasets/"
LICENSE = "apache-2.0"
"""Of weights that come from no others."""
LICENSE_FIELDS = ("license", "license_name", "license_link")
_LINK = re.compile(r"(?:\]\(|^license_link: )(?![a-z]+:|[#/])", re.MULTILINE)
SECTION = re.compile(r"<!-- denoiser:(\w+) -->\n(.*?)<!-- /denoiser:\1 -->", re.DOTALL)


def read(path: Path, name: str | None = None) -> str:
    """The text of a card's file; ``name`` is what a message calls it, by default its path.

    Raises:
        ValueError: It is not UTF-8.
    """
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{name or path} is not text in UTF-8: save it as such, or delete it") from error


def rename(text: str, name: str) -> str:
    """A card whose code loads ``name``: what was written for a folder is published as a repository, or the reverse."""
    old = re.search(r'from_pretrained\("([^"\n]+)"\)', text)
    if not old:
        return text
    text = text.replace(f'from_pretrained("{old[1]}")', f'from_pretrained("{name}")')
    return text.replace(f"train.evaluate {old[1]} ", f"train.evaluate {name} ")


def link_files(text: str, address: str) -> str:
    """A card whose relative links lead to ``address``, where its pictures are."""
    return re.sub(_LINK, rf"\g<0>{address}", text)


def linked_files(text: str) -> list[str]:
    """The relative links of a card, as they are written."""
    return re.findall(_LINK.pattern + r"([^)#\s]+)", text, re.MULTILINE)


def section(text: str, name: str) -> str | None:
    """A section of a card by its name, without the comments around it; None if the card has none."""
    return next((match[2].strip() for match in SECTION.finditer(text) if match[1] == name), None)


def _as_list(value: Any) -> list[str]:
    return [value] if isinstance(value, str) else list(value or ())


def _is_ours(result: EvalResult, tables: list[str | None]) -> bool:
    """Whether a measurement in a card's metadata is from a fresh card: its data set has a row in ``tables``."""
    row = f"\n| {result.dataset_name} | "
    return result.task_name == TASK and result.metric_type in METRICS and any(row in (table or "") for table in tables)


def _check_results(text: str, name: str) -> None:
    """Check the measurements in a card's metadata: huggingface_hub leaves all out where one cannot be read.

    Raises:
        ValueError: One cannot be read; the message names it. ``name`` is what it calls the card.
    """
    block = REGEX_YAML_BLOCK.search(text)
    metadata = yaml.safe_load(block[2]) if block else None
    index = metadata.get("model-index") if isinstance(metadata, dict) else None
    try:
        results = [(model["name"], result) for model in index or () for result in model["results"]]
    except (KeyError, TypeError) as error:
        raise ValueError(f"the model-index in {name} has no list of results with a name: correct it") from error
    for number, (model, result) in enumerate(results, 1):
        try:
            model_index_to_eval_results([{"name": model, "results": [result]}])
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            shown = " ".join(str(result).split())[:120]
            raise ValueError(f"result {number} in the model-index of {name} is not complete: {shown}") from error


def _names(sections: str, repo_id: str) -> bool:
    """Whether the sections of a card give a repository on the Hub as an origin or a measured data set."""
    rows = "|".join(re.escape(name) for name, (known, _) in HUB_DATASETS.items() if known == repo_id)
    return bool(
        re.search(rf"`({HUB_PREFIX})?{re.escape(repo_id)}[`@/]", sections)
        or (rows and re.search(rf"^\| ({rows}) ", sections, re.MULTILINE))
    )


def merge(existing: str | None, text: str, own: bool = False) -> str:
    """The card ``existing`` with the sections and metadata of ``text`` in it; ``text`` where there is none.

    Sections that a person deleted stay deleted; a text without any of them gets the whole fresh card below it.

    Args:
        existing: The card that is there.
        text: The card that is to be there.
        own: ``text`` is a person's card, too: its words, license and further metadata are taken. What ``existing``
            has beside them stays.

    Raises:
        ValueError: The metadata of the existing card, or a measurement in either, cannot be read.
    """
    if existing is None:
        return text
    try:
        _check_results(existing, "the README.md that is there")
        _check_results(text, "the new README.md")
        card, fresh = ModelCard(existing), ModelCard(text)
    except yaml.YAMLError as error:
        raise ValueError(f"the metadata of the existing card is not YAML; correct or delete it: {error}") from error
    sections = {match[1]: match[0] for match in SECTION.finditer(fresh.text)}
    if not sections:  # of another origin: nothing in it can be told from what others wrote
        return text
    tables = [section(text, "evaluation") for text in (card.text, fresh.text)]
    before = "".join(match[0] for match in SECTION.finditer(card.text))
    if not SECTION.search(card.text):
        card.text = f"{card.text.rstrip()}\n{fresh.text}"
    elif own:
        card.text = _with_additions(fresh.text, card.text)
    else:
        card.text = SECTION.sub(lambda match: sections.get(match[1], match[0]), card.text)
    data: Any = card.data  # its fields depend on the metadata
    ours: Any = fresh.data
    others = [result for result in data.eval_results or () if not _is_ours(result, tables)]
    ours.eval_results = [*(ours.eval_results or ()), *others] or None
    for name in ("eval_results", "model_name", "library_name", "pipeline_tag", "denoiser"):
        setattr(data, name, getattr(ours, name, None))
    lists = ("tags", "base_model", "datasets", "metrics")
    for name in lists:  # those that a person added stay
        known, added = _as_list(getattr(data, name, None)), _as_list(getattr(ours, name, None))
        if name in ("base_model", "datasets"):  # of former weights and measurements
            known = [value for value in known if value in added or not _names(before, value)]
        setattr(data, name, list(dict.fromkeys([*known, *added])) or None)
    # A license that a person stated stays; the default gives way to that of the weights this started from.
    if ours.license and (own or not data.license or data.license == LICENSE != ours.license):
        for name in LICENSE_FIELDS:
            setattr(data, name, getattr(ours, name))
    if own:
        vars(data).update(
            {name: value for name, value in vars(ours).items() if value is not None and name not in lists}
        )
    return str(card)


def replaced_words(existing: str, text: str) -> list[str]:
    """What others wrote in the card ``existing`` and ``text`` lacks: the license, and lines outside our sections."""

    def words(text: str) -> list[str]:
        card: Any = ModelCard(text, ignore_metadata_errors=True)
        lines = [line for line in SECTION.sub("", card.text).splitlines() if line.strip()]
        return [f"license: {card.data.license}"] * bool(card.data.license) + lines

    known = words(text)
    return [line for line in words(existing) if line not in known]


def _with_additions(text: str, other: str) -> str:
    """The text of a card with the lines that ``other``, another version of it, has more outside our sections.

    Where both have lines of their own, those of ``text`` are taken.
    """
    sections = {f"<!-- {match[1]} -->": match[0] for match in SECTION.finditer(text)}
    lines, others = (SECTION.sub(r"<!-- \1 -->", one).split("\n") for one in (text, other))
    merged: list[str] = []
    for tag, start, end, other_start, other_end in SequenceMatcher(None, lines, others, False).get_opcodes():
        merged += others[other_start:other_end] if tag == "insert" else lines[start:end]
    return "\n".join(sections.get(line, line) for line in merged)

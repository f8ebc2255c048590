"""Measurements in the Hub's own form: `.eval_results/*.yaml`, one file for each data set that the Hub has.

Beside the model-index in a card's metadata, which older clients read. Format:
https://huggingface.co/docs/hub/eval-results
"""

import re
from typing import Any

import yaml
from huggingface_hub import EvalResultEntry, eval_result_entries_to_yaml

from .card_measurements import one_per_level

EVALUATION_FOLDER = ".eval_results"
HUB_DATASETS = {"cbsd68": ("deepinv/CBSD68", 68)}
"""The data sets of the protocol that the Hub has, by their name in evaluation.json: repository and number of pictures.

What was measured on fewer pictures is no result of the data set."""
_TASK = re.compile(r"psnr_sigma_(\d+(?:\.\d+)?)(_gray)?")


def hub_dataset(entry: dict[str, Any]) -> str | None:
    """The data set on the Hub that a measurement is of, all its pictures; None if there is none."""
    repo_id, pictures = HUB_DATASETS.get(entry["dataset"], (None, None))
    return repo_id if pictures == entry["pictures"] else None


def evaluation_files(evaluation: list[dict[str, Any]]) -> dict[str, str]:
    """The files of measurements under known Gaussian noise, by name; none for data sets that the Hub lacks.

    Args:
        evaluation: Measurements, as ``train.evaluate`` writes them to evaluation.json.
    """
    found: dict[str, list[EvalResultEntry]] = {}
    for entry in one_per_level(evaluation):
        dataset, sigma = entry["dataset"], entry["sigma"]
        if not (dataset_id := hub_dataset(entry)) or sigma is None or entry["psnr"] is None:
            continue
        if entry["estimate"] or entry.get("self_ensemble"):
            continue
        result = EvalResultEntry(
            dataset_id=dataset_id,
            task_id=f"psnr_sigma_{sigma:g}" + "_gray" * entry["gray"],
            value=round(float(entry["psnr"]), 4),
            notes=f"PSNR in dB, Gaussian noise of standard deviation {sigma:g} (8-bit units), known to the network",
        )
        found.setdefault(f"{dataset}.yaml", []).append(result)
    return {
        name: yaml.safe_dump(eval_result_entries_to_yaml(results), sort_keys=False) for name, results in found.items()
    }


def outdated_files(before: str, after: str) -> list[str]:
    """The files, as paths in the repository, of measurements that a card listed and lists no more.

    Args:
        before: The section of the card about measurements as it was.
        after: The same now.
    """
    row = r"^\| {}(?: \(grey\))? \| {} \| [\d.]+(?:, b?float\d+)? \|"
    return [
        f"{EVALUATION_FOLDER}/{name}.yaml"
        for name, (_, pictures) in HUB_DATASETS.items()
        if re.search(row.format(name, r"\d+"), before, re.MULTILINE)
        and not re.search(row.format(name, pictures), after, re.MULTILINE)
    ]


def read_psnr(listed: Any) -> list[tuple[str, float]]:
    """Pairs of data set with conditions and PSNR, from the Hub's JSON; what is untrusted and of another form is left
    out."""
    names = {repo_id: name for name, (repo_id, _) in HUB_DATASETS.items()}
    rows: list[tuple[str, float]] = []
    for item in listed if isinstance(listed, list) else ():
        try:
            entry = item.get("data", item)
            name, task, value = names[entry["dataset"]["id"]], entry["dataset"]["task_id"], entry["value"]
            if (match := _TASK.fullmatch(task)) and isinstance(value, int | float) and abs(value) < 1e3:
                rows.append((f"{name}, sigma={match[1]}" + (", gray" if match[2] else ""), float(value)))
        except (AttributeError, KeyError, TypeError):
            continue
    return rows

"""The jobs of a bulk run on Ray's actors: what is left to do, and doing it."""

import argparse
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import ray  # pyright: ignore[reportMissingImports]
import ray.data  # pyright: ignore[reportMissingImports]

from ..file_jobs import Job, check_outputs, name_results
from ..images.codecs import READ_EXTENSIONS
from ..models import DenoisingAutoencoder
from .places import Place
from .worker import SHARD, Shared, Worker, is_shard

TOGETHER = 4
"""Jobs that are handed to a worker at a time: as many are done again when it dies."""


def plan(source: Place, output: Place, names: list[str], extension: str | None) -> list[Job]:
    """Jobs for pictures and shards of a place, by their names there.

    Raises:
        ValueError: There are none, two have the same output, one would replace another's input, or input and output
            are the same folder.
    """
    if not source.exists:
        raise ValueError(f"there is no folder or file {source.address}")
    inside = source.contains(output)
    if inside == "":
        raise ValueError("input and output are the same folder: choose another output")
    wanted = [name for name in names if Path(name).suffix.lower() in (*READ_EXTENSIONS, SHARD)]
    wanted = [name for name in wanted if not any(part.startswith(".") for part in name.split("/"))]
    wanted = [name for name in wanted if not (inside and name.startswith(f"{inside}/"))]
    if not wanted:
        raise ValueError(
            f"there are no pictures and no shards ({', '.join((*READ_EXTENSIONS, SHARD))}) in {source.address}"
        )
    pictures = [(Path(name), Path(name)) for name in wanted if not is_shard(name)]
    jobs = name_results(pictures, extension) + [Job(Path(name), Path(name)) for name in wanted if is_shard(name)]
    around = output.contains(source)
    check_outputs(jobs, {Path(around, name).resolve() for name in wanted} if around else set())
    return jobs


def existing(jobs: list[Job], names: set[str], entries: dict[str, dict[str, Any]]) -> dict[str, str]:
    """The results that are there, by the name of the input; of a shard that has failures, none.

    Args:
        jobs: Whose results.
        names: The files of the output.
        entries: Of the manifest: a file that is another input's result by it is not taken for one.
    """
    owners = {entry["output"]: name for name, entry in entries.items() if "output" in entry}
    found: dict[str, str] = {}
    for job in jobs:
        source = str(job.source)
        entry = entries.get(source, {})
        if entry.get("failures"):
            continue
        recorded = entry.get("output")
        others = [path for path in job.alternatives if path.as_posix() == recorded]
        for name in (path.as_posix() for path in (*job.outputs, *others)):
            if name in names and owners.get(name, source) == source:
                found.setdefault(source, name)
    return found


def count_workers(options: argparse.Namespace) -> tuple[int, float | None]:
    """How many workers the cluster takes, and the share of a GPU that each is given; None on processors.

    Raises:
        ValueError: A GPU is wanted, and the cluster has none: Ray would try to make a worker without end.
    """
    resources = ray.cluster_resources()
    gpus = resources.get("GPU", 0) if options.device in ("auto", "cuda") else 0
    if options.device == "cuda" and not gpus:
        raise ValueError("--device cuda: Ray knows of no GPU here")
    if gpus:
        return options.workers or max(1, int(gpus / options.gpus_per_worker)), options.gpus_per_worker
    return options.workers or max(1, int(resources.get("CPU", 1))), None


def run(
    network: DenoisingAutoencoder, jobs: list[Job], source: str, output: str, options: argparse.Namespace
) -> Iterator[dict[str, Any]]:
    """Do the jobs, between two places, on the cluster that Ray is connected to; a report for each, in no order.

    A job whose worker dies is done again by another.
    """
    workers, gpus = count_workers(options)
    device = ("cuda" if gpus else "cpu") if options.device == "auto" else options.device
    rows = [  # as JSON: Arrow takes no names that are not UTF-8
        {"job": json.dumps([str(job.source), str(job.target), [str(path) for path in job.alternatives]])}
        for job in jobs
    ]
    blocks = max(math.ceil(len(rows) / TOGETHER), min(workers, len(rows)))  # few jobs keep all workers busy, too
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = context.print_on_execution_start = False
    done = ray.data.from_items(rows, override_num_blocks=blocks).map(
        cast(Any, Worker),  # Ray makes one in each actor
        fn_constructor_kwargs={
            "shared": cast(Any, Shared).remote(network),
            "source": source,
            "output": output,
            "denoiser": {"device": device, "self_ensemble": options.self_ensemble, "name": options.checkpoint},
            "call": {"sigma": options.sigma, "strength": options.strength},
            "extension": options.extension,
            "column": options.column,
        },
        compute=ray.data.ActorPoolStrategy(
            size=min(workers, blocks), max_concurrent_calls_per_actor=2, enable_true_multi_threading=True
        ),
        num_cpus=1,
        num_gpus=gpus,
    )
    for row in done.iter_rows():
        yield json.loads(row["report"])

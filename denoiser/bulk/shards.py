"""Parquet shards of pictures: the same rows with the pictures of one column denoised."""

from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import pyarrow as pa
from pyarrow import parquet

ROWS = 16
"""Rows that are in memory at a time."""


def find_column(schema: pa.Schema, wanted: str | None) -> str:
    """The column of encoded pictures: bytes, or what the Hub's data sets have, a struct of ``bytes`` and ``path``.

    Raises:
        ValueError: There is none, or there are several and none is named.
    """
    columns = [field.name for field in schema if _holds_bytes(field.type)]
    if wanted:
        columns = [name for name in columns if name == wanted]
    if len(columns) != 1:
        which = f"no column {wanted!r} of pictures" if wanted else f"{len(columns)} columns that may be pictures"
        raise ValueError(f"it has {which}, among {', '.join(schema.names)}: name one with --column")
    return columns[0]


def _holds_bytes(kind: pa.DataType) -> bool:
    if pa.types.is_struct(kind):
        return kind.get_field_index("bytes") >= 0 and _holds_bytes(kind.field("bytes").type)
    return pa.types.is_binary(kind) or pa.types.is_large_binary(kind)


def denoise_shard(
    source: IO[bytes], target: Path, column: str | None, denoise: Callable[[bytes, str], tuple[bytes, str]]
) -> tuple[int, list[dict[str, Any]]]:
    """Write a shard with the pictures of a column denoised; one that fails becomes empty.

    Args:
        source: The shard.
        target: The file to write.
        column: Of the pictures; None where there is one only that may be.
        denoise: A picture and its name in the shard (or "") -> what takes their place.

    Returns:
        The number of pictures, and the row and reason of each that failed.

    Raises:
        ValueError: It is no Parquet file, or which column is meant is not clear.
    """
    count, failures = 0, []
    try:
        shard = parquet.ParquetFile(source)
    except pa.ArrowInvalid as error:
        raise ValueError(f"it is damaged, or no Parquet file: {error}") from error
    name = find_column(shard.schema_arrow, column)
    index = shard.schema_arrow.get_field_index(name)
    with parquet.ParquetWriter(target, shard.schema_arrow) as writer:
        for batch in shard.iter_batches(batch_size=ROWS):
            cells = batch.column(index).to_pylist()
            for position, cell in enumerate(cells):
                encoded, path = (cell.get("bytes"), cell.get("path")) if isinstance(cell, dict) else (cell, None)
                if cell is None or (encoded is None and path is None):
                    continue  # a row without a picture stays one
                try:
                    if encoded is None:
                        raise ValueError(f"the shard has the path {path} and not the picture")
                    encoded, path = denoise(encoded, path or "")
                except Exception as error:
                    failures.append({"row": count + position, "reason": str(error) or type(error).__name__})
                    encoded = None
                cells[position] = cell | {"bytes": encoded, "path": path} if isinstance(cell, dict) else encoded
            count += len(cells)
            field = shard.schema_arrow.field(index)
            writer.write_batch(batch.set_column(index, field, pa.array(cells, field.type)))
    return count, failures

"""Write a table of features as Parquet, npy or CSV."""

import csv
from pathlib import Path
from typing import Any

import numpy as np

from featx.curation.feature_table import FeatureTable, escape_non_utf8
from featx.runtime import import_optional
from featx.version import __version__

NINE_DIGITS = "{:.9g}".format
"""Format a number with nine significant digits, which are enough to identify a float32 value."""


def write_npy(table: FeatureTable, path: Path) -> None:
    """Write the features of a table as one float32 array (rows, columns)."""
    with path.open("wb") as file:
        header = {"descr": "<f4", "fortran_order": False, "shape": (len(table), table.width)}
        np.lib.format.write_array_header_1_0(file, header)
        for _, values in table.blocks():
            file.write(np.ascontiguousarray(values, "<f4").data)


def write_csv(table: FeatureTable, path: Path) -> None:
    """Write a table as CSV, with one column per feature value after all other columns."""
    columns = table.columns
    with path.open("w", encoding="utf-8", errors="surrogateescape", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([*columns, *table.spec.column_names])
        known = zip(*columns.values(), strict=True)
        for _, values in table.blocks():
            writer.writerows([*next(known), *map(NINE_DIGITS, row.tolist())] for row in values)


def write_parquet(table: FeatureTable, path: Path) -> None:
    """Write a table as Parquet, with one column of fixed-size lists per feature after all other columns.

    Each block of rows becomes one row group of the file.
    """
    arrow = import_optional("pyarrow", "parquet", "--format parquet of export-features")
    parquet = import_optional("pyarrow.parquet", "parquet", "--format parquet of export-features")
    columns = _arrow_columns(table, arrow)
    fields = [arrow.field(name, values.type) for name, values in columns.items()]
    fields += [arrow.field(name, arrow.list_(arrow.float32(), width)) for name, width in table.spec.widths.items()]
    schema = arrow.schema(fields, {"featx": __version__, "featx_spec": table.spec.to_json()})
    # Compression hardly reduces the size of features, and other programs can map pages that are not compressed.
    compression = dict.fromkeys(schema.names, "NONE") | dict.fromkeys(columns, "ZSTD")
    with parquet.ParquetWriter(path, schema, use_dictionary=list(columns), compression=compression) as writer:
        for first, values in table.blocks():
            arrays = [column.slice(first, len(values)) for column in columns.values()]
            for name, width in table.spec.widths.items():
                flat = arrow.array(values[:, table.spec.slices[name]].ravel())
                arrays.append(arrow.FixedSizeListArray.from_arrays(flat, width))
            writer.write_table(arrow.Table.from_arrays(arrays, schema=schema))


def _arrow_columns(table: FeatureTable, arrow: Any) -> dict[str, Any]:
    """Return all columns except the features as Arrow arrays. The label of a row without a label is null."""
    if table.multilabel:
        labels = arrow.array([list(map(escape_non_utf8, names)) for names in table.labels], arrow.list_(arrow.string()))
    else:
        labels = arrow.array([escape_non_utf8(names[0]) if names else None for names in table.labels], arrow.string())
    return {
        "path": arrow.array(map(escape_non_utf8, table.paths), arrow.string()),
        "label": labels,
        "digest": arrow.array(table.digests, arrow.string()),
        "view": arrow.array(table.view_index),
        **{name: arrow.array(list(column), arrow.string()) for name, column in table.store_columns.items()},
    }

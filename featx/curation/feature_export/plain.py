"""Formats that need no package: an array that numpy maps, and CSV."""

import csv
from pathlib import Path

import numpy as np

from featx.curation.feature_export.table import FeatureTable

NINE_DIGITS = "{:.9g}".format
"""As many as give a float32 back."""


def write_npy(table: FeatureTable, path: Path) -> None:
    """One float32 (rows, columns) array."""
    with path.open("wb") as file:
        header = {"descr": "<f4", "fortran_order": False, "shape": (len(table), table.width)}
        np.lib.format.write_array_header_1_0(file, header)
        for _, values in table.blocks():
            file.write(np.ascontiguousarray(values, "<f4").data)


def write_csv(table: FeatureTable, path: Path) -> None:
    """A column a number."""
    columns = table.columns
    with path.open("w", encoding="utf-8", errors="surrogateescape", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([*columns, *table.spec.column_names])
        known = zip(*columns.values(), strict=True)
        for _, values in table.blocks():
            writer.writerows([*next(known), *map(NINE_DIGITS, row.tolist())] for row in values)

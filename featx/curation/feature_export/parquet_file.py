"""Parquet, as DuckDB, Polars and pandas read it."""

from pathlib import Path
from typing import Any

from featx.curation.feature_export.table import FeatureTable, escaped
from featx.runtime import import_optional
from featx.version import __version__


def write_parquet(table: FeatureTable, path: Path) -> None:
    """A column of lists of equal length a feature, and what is known of each row; a row group a block."""
    arrow = import_optional("pyarrow", "parquet", "--to parquet of export-features")
    parquet = import_optional("pyarrow.parquet", "parquet", "--to parquet of export-features")
    known = _known(table, arrow)
    fields = [arrow.field(name, values.type) for name, values in known.items()]
    fields += [arrow.field(name, arrow.list_(arrow.float32(), width)) for name, width in table.spec.widths.items()]
    schema = arrow.schema(fields, {"featx": __version__, "featx_spec": table.spec.to_json()})
    # Features are noise to a compressor, and uncompressed pages are mapped as they are.
    options = {"compression": dict.fromkeys(schema.names, "NONE") | dict.fromkeys(known, "ZSTD")}
    with parquet.ParquetWriter(path, schema, use_dictionary=list(known), **options) as writer:
        for first, values in table.blocks():
            arrays = [column.slice(first, len(values)) for column in known.values()]
            for name, width in table.spec.widths.items():
                flat = arrow.array(values[:, table.spec.slices[name]].ravel())
                arrays.append(arrow.FixedSizeListArray.from_arrays(flat, width))
            writer.write_table(arrow.Table.from_arrays(arrays, schema=schema))


def _known(table: FeatureTable, arrow: Any) -> dict[str, Any]:
    """What is known of each row, as Arrow arrays; a row without a label has null."""
    if table.several:
        labels = arrow.array([list(map(escaped, names)) for names in table.labels], arrow.list_(arrow.string()))
    else:
        labels = arrow.array([escaped(names[0]) if names else None for names in table.labels], arrow.string())
    return {
        "path": arrow.array(map(escaped, table.paths), arrow.string()),
        "label": labels,
        "digest": arrow.array(table.digests, arrow.string()),
        "view": arrow.array(table.views),
        **{name: arrow.array(list(column), arrow.string()) for name, column in table.splits.items()},
    }

"""AnnData, as scanpy and its kin read it."""

import warnings
from pathlib import Path

import h5py

from featx.curation.feature_export.table import FeatureTable, escaped
from featx.runtime import import_optional
from featx.version import __version__


def write_anndata(table: FeatureTable, path: Path) -> None:
    """``X`` (rows, columns), ``obs`` by path, ``var`` by name of the feature's column, and the spec in ``uns``."""
    anndata = import_optional("anndata", "anndata", "--to anndata of export-features")
    pandas = import_optional("pandas", "anndata", "--to anndata of export-features")
    columns = {name: [escaped(str(value)) for value in values] for name, values in table.columns.items()}
    paths = columns.pop("path")
    names = (
        paths if table.spec.n_views == 1 else [f"{path}#{view}" for path, view in zip(paths, table.views, strict=True)]
    )
    obs = pandas.DataFrame({"path": paths, **columns, "view": table.views}, index=names)
    obs["label"] = obs["label"].astype("category")
    owners = [name for name, width in table.spec.widths.items() for _ in range(width)]
    var = pandas.DataFrame({"feature": pandas.Categorical(owners)}, index=table.spec.column_names)
    uns = {"featx": __version__, "featx_spec": table.spec.to_json()}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # What a package says of its own dependencies is not this file's.
        anndata.AnnData(obs=obs, var=var, uns=uns).write_h5ad(path)
    with h5py.File(path, "r+") as file:
        file.pop("X", None)
        values = file.create_dataset("X", (len(table), table.width), "f4", chunks=True)
        values.attrs.update({"encoding-type": "array", "encoding-version": "0.2.0"})
        for first, block in table.blocks():
            values[first : first + len(block)] = block

"""Convert: a store's features as a file that other programs read, written block by block of rows."""

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from featx.backbones import WhichBlocks, WhichPools
from featx.curation.feature_export.table import FeatureTable, open_table
from featx.errors import FeatxError, StoreError, StoreExists
from featx.files import atomic_write, infer_format
from featx.store import check_absent

SUFFIXES = {"parquet": ".parquet", "npy": ".npy", "csv": ".csv"}


@dataclass(frozen=True)
class Converted:
    """What was written: the files, rows, columns of features, and bytes."""

    files: tuple[str, ...]
    rows: int
    columns: int
    bytes: int


def export_features(
    store: str | Path,
    output: str | Path | None = None,
    form: str | None = None,
    *,
    blocks: WhichBlocks | None = None,
    pools: WhichPools | None = None,
    split: str | None = None,
    split_column: str = "split",
    overwrite: bool = False,
) -> Converted:
    """Write features with path, label, digest, view and split columns of each row, whole or not at all.

    Values are the store's float32, to the bit. A block of rows is in memory at a time.

    Parameters
    ----------
    store : path
        The store.
    output : path, optional
        The file to write; by default the store's name with the format's suffix.
    form : str, optional
        ``parquet``: a column of lists of equal length a feature, ``block3_avg``; labels as lists where an image has
        several; the spec in the metadata (extra ``parquet``). ``npy``: one float32 (rows, columns) array, which
        ``numpy.load(…, mmap_mode="r")`` opens, and ``….rows.csv`` beside it. ``csv``: a column a number, with the nine
        digits that give it back. By default what the output's suffix says.
    blocks, pools, split, split_column
        As in `featx.load_features`.
    overwrite : bool
        Replace what is there.

    Raises
    ------
    SpecError
        If the format is not known, ``output`` has the suffix of another, or a block or pool was not extracted.
    DataError
        If there is no such split.
    EngineError
        If a package of the format is not installed.
    StoreError
        If the store cannot be read, or the file is there, is the store itself, or cannot be written.
    """
    form = infer_format(None if output is None else Path(output), form, SUFFIXES, "--to of export-features")
    target = Path(store).with_suffix(SUFFIXES[form]) if output is None else Path(output)
    beside = [target.with_suffix(".rows.csv")] if form == "npy" else []
    files = (target, *beside)
    for path in files:
        if path.exists() and Path(store).exists() and path.samefile(store):
            raise StoreExists(f"{path} is the store that is read; choose another --output")
        check_absent(path, overwrite=overwrite)
    with open_table(store, blocks, pools, split, split_column) as table:
        try:
            with ExitStack() as stack:
                # All are written before any is put in its place.
                written, *rows = [stack.enter_context(atomic_write(path)) for path in files]
                for temporary in rows:
                    table.write_rows(temporary)
                _writer(form)(table, written)
        except FeatxError:
            raise
        except OSError as error:
            raise StoreError(f"{target} cannot be written: {error.strerror or error}") from error
        return Converted(tuple(map(str, files)), len(table), table.width, sum(path.stat().st_size for path in files))


def _writer(form: str) -> Callable[[FeatureTable, Path], None]:
    if form == "parquet":
        from featx.curation.feature_export.parquet_file import write_parquet

        return write_parquet
    from featx.curation.feature_export.plain import write_csv, write_npy

    return write_npy if form == "npy" else write_csv

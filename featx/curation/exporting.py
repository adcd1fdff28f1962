"""Export the features of a store to a file for other programs."""

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from featx.backbones import WhichBlocks, WhichPools
from featx.curation.feature_formats import write_csv, write_npy, write_parquet
from featx.curation.feature_table import FeatureTable, open_table
from featx.errors import FeatxError, StoreError, StoreExists
from featx.files import atomic_write, infer_format
from featx.store import check_absent

SUFFIXES = {"parquet": ".parquet", "npy": ".npy", "csv": ".csv"}
WRITERS: dict[str, Callable[[FeatureTable, Path], None]] = {
    "parquet": write_parquet,
    "npy": write_npy,
    "csv": write_csv,
}


@dataclass(frozen=True)
class ExportedFeatures:
    """The result of `export_features`.

    Attributes
    ----------
    files : tuple of str
        The files that were written.
    rows, columns : int
        Number of rows, and number of columns of features.
    bytes : int
        Total size of the files.
    """

    files: tuple[str, ...]
    rows: int
    columns: int
    bytes: int


def export_features(
    store: str | Path,
    output: str | Path | None = None,
    format: str | None = None,
    *,
    blocks: WhichBlocks | None = None,
    pools: WhichPools | None = None,
    split: str | None = None,
    split_column: str = "split",
    overwrite: bool = False,
) -> ExportedFeatures:
    """Write the features of a store to a file for other programs.

    Each row also has the image's path, label and digest, the number of the augmented copy, and the values of the
    store's columns, such as ``split``. The feature values are exactly the float32 values of the store. The features are
    written block by block, so that they need not fit in memory.

    Parameters
    ----------
    store : path
        The store.
    output : path, optional
        The file to write. By default it has the name of the store, with the suffix of the format.
    format : {"parquet", "npy", "csv"}, optional
        The format of the file. By default the suffix of ``output`` decides.

        - ``parquet``: one column per feature, such as ``block3_avg``. Its values are lists of equal length. Labels are
          lists too if images have several labels. The metadata hold the spec. This format needs the extra ``parquet``.
        - ``npy``: one float32 array (rows, columns), which ``numpy.load(…, mmap_mode="r")`` can map. The other columns
          are written to a second file, whose name ends in ``.rows.csv``.
        - ``csv``: one column per feature value, with nine significant digits.
    blocks, pools, split, split_column
        The rows and features to write, as in `featx.load_features`.
    overwrite : bool
        Replace existing files.

    Raises
    ------
    SpecError
        If the format is unknown, if ``output`` has the suffix of another format, or if a block or pooling was not
        extracted.
    DataError
        If the store does not have the split.
    EngineError
        If a package that the format needs is not installed.
    StoreError
        If the store cannot be read, or if the file to write exists, is the store itself or cannot be written.
    """
    chosen = infer_format(None if output is None else Path(output), format, SUFFIXES, "--format of export-features")
    target = Path(store).with_suffix(SUFFIXES[chosen]) if output is None else Path(output)
    files = (target, target.with_suffix(".rows.csv")) if chosen == "npy" else (target,)
    for path in files:
        if path.exists() and Path(store).exists() and path.samefile(store):
            raise StoreExists(f"--output must not be the store that is read, got {path}; choose another")
        check_absent(path, overwrite=overwrite)
    with open_table(store, blocks, pools, split, split_column) as table:
        try:
            with ExitStack() as stack:
                # All files are written under temporary names before the first one gets its final name.
                written, *rows = [stack.enter_context(atomic_write(path)) for path in files]
                for temporary in rows:
                    table.write_rows(temporary)
                WRITERS[chosen](table, written)
        except FeatxError:
            raise
        except OSError as error:
            raise StoreError(f"{target} cannot be written: {error.strerror or error}") from error
        return ExportedFeatures(
            tuple(map(str, files)), len(table), table.width, sum(path.stat().st_size for path in files)
        )

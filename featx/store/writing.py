"""Write a new store with rows of other stores."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from featx.errors import StoreExists
from featx.spec import ExtractSpec
from featx.store.assembly import assemble
from featx.store.part_folder import PartFolder
from featx.store.row_table import RowTable


def check_absent(target: Path, *, overwrite: bool) -> None:
    """Raise ``StoreExists`` if ``target`` exists and ``overwrite`` is False."""
    if target.exists() and not overwrite:
        raise StoreExists(f"{target} already exists; choose another --output, or replace it with --overwrite")


def write_store(
    target: Path,
    table: RowTable,
    spec: ExtractSpec,
    reference: Mapping[str, np.ndarray],
    sources: Sequence[Path],
    *,
    overwrite: bool = False,
) -> None:
    """Write rows of other stores to a new store, completely or not at all.

    Parameters
    ----------
    target : Path
        The store to write. It may be one of ``sources``.
    table : RowTable
        The rows of the new store.
    spec : ExtractSpec
        The spec of all stores.
    reference : mapping of str to float32 (3, width)
        Features of the reference images, by feature name.
    sources : sequence of Path
        Stores that hold the features of the rows. If several of them hold the same row, the last one is used.
    overwrite : bool
        Replace an existing file.

    Raises
    ------
    StoreExists
        If ``target`` exists and ``overwrite`` is False.
    StoreLocked
        If another process is writing ``target``.
    StoreError
        If the store cannot be written.
    """
    with PartFolder(target) as folder:
        check_absent(target, overwrite=overwrite)
        assemble(target, table, spec, reference, sources, scratch=folder.path)

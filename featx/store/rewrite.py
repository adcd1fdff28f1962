"""Stores made of other stores' rows."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from featx.errors import StoreExists
from featx.spec import ExtractSpec
from featx.store.assembly import RowTable, assemble
from featx.store.parts import PartFolder


def check_absent(target: Path, *, overwrite: bool) -> None:
    """Raise ``StoreExists`` if a file is there and is not to be replaced."""
    if target.exists() and not overwrite:
        raise StoreExists(f"{target} is there already; choose another --output, or replace it with --overwrite")


def write_store(
    target: Path,
    table: RowTable,
    spec: ExtractSpec,
    golden: Mapping[str, np.ndarray],
    sources: Sequence[Path],
    *,
    overwrite: bool = False,
) -> None:
    """Write the table's rows, which ``sources`` have, as a store of its own, whole or not at all.

    Where several sources have a row, the last gives its features. ``target`` may be one of them.

    Raises
    ------
    StoreExists
        If ``target`` is there without ``overwrite``.
    StoreLocked
        If another process writes it.
    StoreError
        If it cannot be written.
    """
    with PartFolder(target) as folder:
        check_absent(target, overwrite=overwrite)
        assemble(target, table, spec, golden, sources, scratch=folder.path)

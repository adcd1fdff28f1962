"""Select: some of a store's images as a store of its own."""

from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

import numpy as np

from featx.errors import DataError
from featx.store import RowTable, Store, check_absent, write_store
from featx.table import find_rows


@dataclass(frozen=True)
class Selected:
    """The new store, how many images it has, and how many the old one has."""

    store: str
    images: int
    of: int


def select(
    store: str | Path,
    output: str | Path,
    where: str | None = None,
    *,
    path_glob: str | None = None,
    overwrite: bool = False,
) -> Selected:
    """Write those images of a store that a query means, with all their views, as a store of the same spec.

    Parameters
    ----------
    store, output : path
        The store, and the one to write.
    where : str, optional
        Such as ``label == 'rose' and split_0 != 'test'``; see `featx.table.query.find_rows`.
    path_glob : str, optional
        Only images whose whole path matches, ``rose/*.jpg``; a ``*`` matches ``/`` too.
    overwrite : bool
        Replace what ``output`` holds.

    Returns
    -------
    Selected
        Failures of the old store are not taken over: nothing says which of them are meant.

    Raises
    ------
    SpecError
        If the query is of another form.
    DataError
        If it means no image.
    StoreError
        If the store cannot be read, or the new one written; ``StoreExists`` if it is there without ``overwrite``.
    """
    check_absent(Path(output), overwrite=overwrite)
    with Store(store) as opened:
        rows, digests = opened.image_table()
        spec, golden = opened.spec, opened.reference_features
    kept = np.ones(len(rows), bool) if where is None else find_rows(rows, where)
    if path_glob is not None:
        kept &= np.fromiter((fnmatchcase(path, path_glob) for path in rows.paths), bool, len(rows))
    if not kept.any():
        asked = " and ".join(filter(None, [where, path_glob and f"--path-glob {path_glob}"]))
        raise DataError(f"a selection must have at least one image, but none of the {len(rows)} of {store} has {asked}")
    digests[~kept] = b""
    table = RowTable.from_images(rows, digests, (), spec.n_views)
    write_store(Path(output), table, spec, golden, [Path(store)], overwrite=overwrite)
    return Selected(str(output), int(kept.sum()), len(rows))

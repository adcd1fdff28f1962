"""Copy some images of a store to a store of their own."""

from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

import numpy as np

from featx.errors import DataError
from featx.store import RowTable, Store, check_absent, write_store
from featx.table import find_rows


@dataclass(frozen=True)
class SelectedStore:
    """The result of `select`.

    Attributes
    ----------
    store : str
        The new store.
    images, source_images : int
        Images of the new store, and of the one they were selected from.
    """

    store: str
    images: int
    source_images: int


def select(
    store: str | Path,
    output: str | Path,
    where: str | None = None,
    *,
    path_glob: str | None = None,
    overwrite: bool = False,
) -> SelectedStore:
    """Copy images of a store that match a query, with their augmented copies, to a new store of the same spec.

    Failures of the store are not copied, because it is unknown which of them would match.

    Parameters
    ----------
    store, output : path
        The store, and the one to write.
    where : str, optional
        A query such as ``label == 'rose' and split_0 != 'test'``; see `featx.table.find_rows`.
    path_glob : str, optional
        A shell pattern that the whole path must match, such as ``rose/*.jpg``; ``*`` also matches ``/``.
    overwrite : bool
        Replace ``output`` if it exists.

    Raises
    ------
    SpecError
        If the query is invalid.
    DataError
        If no image matches.
    StoreError
        If a store cannot be read or written; ``StoreExists`` if ``output`` exists, without ``overwrite``.
    """
    check_absent(Path(output), overwrite=overwrite)
    with Store(store) as opened:
        images, digests = opened.image_table()
        spec, reference = opened.spec, opened.reference_features
    kept = np.ones(len(images), bool) if where is None else find_rows(images, where)
    if path_glob is not None:
        kept &= np.fromiter((fnmatchcase(path, path_glob) for path in images.paths), bool, len(images))
    if not kept.any():
        query = " and ".join(filter(None, [where, path_glob and f"--path-glob {path_glob}"]))
        raise DataError(
            f"a selection must have at least one image, but none of the {len(images)} of {store} has {query}"
        )
    digests[~kept] = b""
    table = RowTable.from_images(images, digests, (), spec.n_views)
    write_store(Path(output), table, spec, reference, [Path(store)], overwrite=overwrite)
    return SelectedStore(str(output), int(kept.sum()), len(images))

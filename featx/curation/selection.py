"""Copy some images of a store to a new store."""

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
        Number of images in the new store, and number of images in the store that they were selected from.
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
    """Copy the images of a store that match a query to a new store with the same spec.

    Augmented copies of these images are copied too. The failures of the store are not copied, because it is not known
    which of them would match.

    Parameters
    ----------
    store, output : path
        The store to read, and the store to write.
    where : str, optional
        A query such as ``label == 'rose' and split_0 != 'test'``; see `featx.table.find_rows`.
    path_glob : str, optional
        A shell pattern that the whole path must match, such as ``rose/*.jpg``. The wildcard ``*`` also matches ``/``.
    overwrite : bool
        Replace ``output`` if it exists.

    Raises
    ------
    SpecError
        If the query is invalid.
    DataError
        If no image matches.
    StoreError
        If a store cannot be read or written. It is ``StoreExists`` if ``output`` exists and ``overwrite`` is false.
    """
    check_absent(Path(output), overwrite=overwrite)
    with Store(store) as opened:
        images, digests = opened.image_table()
        spec, reference, listing = opened.spec, opened.reference_features, opened.listing
    kept = np.ones(len(images), bool) if where is None else find_rows(images, where)
    if path_glob is not None:
        kept &= np.fromiter((fnmatchcase(path, path_glob) for path in images.paths), bool, len(images))
    if not kept.any():
        query = " and ".join(filter(None, [where, path_glob and f"--path-glob {path_glob}"]))
        raise DataError(
            f"a selection must have at least one image, but none of the {len(images)} of {store} has {query}"
        )
    digests[~kept] = b""
    table = RowTable.from_images(images, digests, (), spec.n_views, listing)
    write_store(Path(output), table, spec, reference, [Path(store)], overwrite=overwrite)
    return SelectedStore(str(output), int(kept.sum()), len(images))

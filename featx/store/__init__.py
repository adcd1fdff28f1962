"""The store: part files while images are extracted, one HDF5 file afterwards, and its reader."""

from featx.store.assemble import RowTable, assemble, check_storage
from featx.store.parts import Part, PartFolder
from featx.store.reader import Store, is_store
from featx.store.rewrite import check_absent, write_store

__all__ = [
    "Part",
    "PartFolder",
    "RowTable",
    "Store",
    "assemble",
    "check_absent",
    "check_storage",
    "is_store",
    "write_store",
]

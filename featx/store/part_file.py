"""Write, read and check part files. An extraction writes the features of each group of images to one part file."""

import hashlib
from dataclasses import dataclass, field
from pathlib import Path

import h5py
import numpy as np
from numpy.typing import NDArray

from featx.errors import StoreError
from featx.files import READ_ERRORS, open_untrusted, unreadable_error
from featx.store.datasets import read_string_array, write_column, write_feature_arrays, write_strings
from featx.store.schema import (
    check_columns,
    open_source,
    read_failures,
    read_view_index,
    write_failures,
    write_remarks,
)
from featx.table import StringArray, encode_text

SUFFIX = ".part.h5"


@dataclass
class Part:
    """The contents of a part file: the rows of a group of images, and the images that failed.

    Attributes
    ----------
    paths, digests : list of str
        The image file of each row, and the sha256 of this file as hex.
    exif_rotated : list of bool
        Whether the image of each row was rotated or mirrored because of its EXIF orientation.
    features : dict of str to float32 (rows, width)
        The features by their names.
    failures : list of (path, reason)
        The images that failed.
    view_index : list of int
        Number of the augmented copy in each row; 0 stands for the plain image. The list is empty if all rows are plain
        images. The rows of an image are adjacent.
    remarks : list of int
        The remarks on each row's image, as bits of `featx.images.PixelRemark`. The list is empty if there are none.
    """

    paths: list[str] = field(default_factory=list)
    digests: list[str] = field(default_factory=list)
    exif_rotated: list[bool] = field(default_factory=list)
    features: dict[str, np.ndarray] = field(default_factory=dict)
    failures: list[tuple[str, str]] = field(default_factory=list)
    view_index: list[int] = field(default_factory=list)
    remarks: list[int] = field(default_factory=list)

    @property
    def name(self) -> str:
        """Name of the part file. It is a hash of all paths, so that the same images always have the same part file."""
        paths = sorted([*self.paths, *(path for path, _ in self.failures)])
        return hashlib.sha256(encode_text("\0".join(paths))).hexdigest()[:16] + SUFFIX


def write_part(file: h5py.File, part: Part) -> None:
    """Write a part to an empty HDF5 file."""
    if part.features:
        write_feature_arrays(file.create_group("features"), part.features)
    rows = file.create_group("rows")
    write_strings(rows, "path", part.paths)
    write_strings(rows, "digest", part.digests)
    write_column(rows, "turned", np.array(part.exif_rotated, dtype=bool))
    write_column(rows, "view", np.array(part.view_index or [0] * len(part.paths), "i4"))
    write_remarks(rows, np.array(part.remarks, "u1"))
    write_failures(file, part.failures)


def read_part_images(path: Path) -> tuple[StringArray, NDArray[np.bytes_], list[tuple[str, str]]]:
    """Read which images a part file contains.

    Returns
    -------
    paths : StringArray
        The paths of the images that have features, each path once.
    digests : S64 (images,)
        The sha256 of each image file, as hex.
    failures : list of (path, reason)
        The images that failed.

    Raises
    ------
    StoreUnreadable
        If the part cannot be read now.
    StoreCorrupt
        If the part is damaged.
    """
    with open_source(path) as file:
        plain = read_view_index(file) == 0
        paths = read_string_array(file["rows/path"]).take(np.flatnonzero(plain))
        return paths, file["rows/digest"][:].astype("S64")[plain], read_failures(file)


def check_part(path: Path, *, features: bool) -> None:
    """Read a part file to find damage. If ``features`` is False, the features are not read.

    Raises
    ------
    StoreUnreadable
        If the part cannot be read now.
    OSError, RuntimeError, KeyError, ValueError, AttributeError, TypeError, IndexError
        If the part does not exist or is damaged (`featx.files.READ_ERRORS`).
    """

    def read(name: str, item: h5py.Dataset | h5py.Group) -> None:
        # HDF5 visits all items only if this function returns None.
        if isinstance(item, h5py.Dataset) and (features or not name.startswith("features/")):
            item[()]

    with open_untrusted(path, StoreError) as file:
        try:
            file.visititems(read)
            check_columns(file, optional=("label", "view"))
        except READ_ERRORS as error:
            if unreadable := unreadable_error(path, error, StoreError):
                raise unreadable from error
            raise

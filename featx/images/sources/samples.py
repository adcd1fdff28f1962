"""Divide the files of a tar shard into samples: images, and the sidecar files with their labels and columns.

In the WebDataset format, the key of a sample is the name of its files up to the first dot. But many programs name files
``x.v1.jpg`` and ``x.v2.jpg``, which are then one sample with two images and two labels.
"""

import posixpath
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from featx.errors import ListingError
from featx.runtime import pluralize, shorten_list

SIDECARS = (".json", ".cls")


class Sample(NamedTuple):
    """Files that belong together.

    Attributes
    ----------
    images, sidecars : list of str
        Names of files.
    """

    images: list[str]
    sidecars: list[str]


def sample_key(name: str) -> str:
    """Return the key of a file's sample: its name up to the first dot."""
    folder, base = posixpath.split(name)
    return posixpath.join(folder, base.partition(".")[0])


def divide_samples(key: str, images: Sequence[str], sidecars: Sequence[str]) -> list[Sample]:
    """Divide files with the same key into samples.

    The files are one sample if they have one image, no sidecar, or sidecars of all images. Otherwise each image belongs
    to the sidecar whose name up to the last dot is the start of the image's name.

    Parameters
    ----------
    key : str
        As `sample_key` returns it.
    images, sidecars : sequence of str
        Names of files; there is at least one image.

    Returns
    -------
    list of Sample
        One sample has the key ``key``. If there are several samples, each has sidecars.

    Raises
    ------
    ListingError
        If the sidecars do not show to which images they belong.
    """
    stems = {name: posixpath.splitext(name)[0] for name in sidecars}
    if len(images) == 1 or set(stems.values()) <= {key}:
        return [Sample(list(images), list(sidecars))]
    owners = {image: _owners(image, stems.values()) for image in images}
    ambiguous = any(len(owner) != 1 for owner in owners.values())
    if ambiguous or {owner for (owner,) in owners.values()} != set(stems.values()):
        raise ListingError(
            f"is in the sample {key!r} with {pluralize(len(images), 'image')}, whose labels do not belong to one image "
            f"each: {shorten_list(sorted(stems))}; name the files of one sample alike up to the suffix"
        )
    return [
        Sample(
            [image for image in images if owners[image] == {stem}], [name for name in sidecars if stems[name] == stem]
        )
        for stem in dict.fromkeys(stems.values())
    ]


def _owners(image: str, stems: Iterable[str]) -> set[str]:
    """Return the stems that are the start of an image's name."""
    return {stem for stem in stems if image.startswith(f"{stem}.")}

"""Identify images by the digests of their files."""

import hashlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def fingerprint(digests: Sequence[str]) -> str:
    """Return a sha256 over the sorted digests. It does not depend on the order and the names of the images."""
    return hashlib.sha256("".join(sorted(digests)).encode()).hexdigest()


def compact_ids(digests: Sequence[str]) -> NDArray[np.uint64]:
    """Return the last 8 bytes of each sha256 digest. They are enough to distinguish any practical number of images."""
    return np.frombuffer(bytes.fromhex("".join(digest[-16:] for digest in digests)), ">u8").astype(np.uint64)

"""Power normalization of pooled features, one block at a time."""

import itertools
import re
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, OneToOneFeatureMixin, TransformerMixin
from sklearn.utils.validation import check_is_fitted, validate_data

from featx.backbones import block_widths
from featx.errors import DataError, SpecError

_COLUMN = re.compile(r"(.*block\d+_[a-z]+)_\d+")
_CHUNK_BYTES = 1 << 20


class BlockNormalizer(OneToOneFeatureMixin, TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Scale the features of each block: signed power, then unit L2 norm per block and row.

    This is the power normalization of Perronnin, Sánchez & Mensink (2010), "Improving the Fisher kernel for large-scale
    image classification", applied to each block separately so that no block outweighs another. A block of zeros stays
    zero. Rows are transformed independently: nothing is learned except the number of columns.

    Parameters
    ----------
    widths : tuple of int, "auto" or None
        Number of columns of each block, in order. None treats the whole row as one block. "auto" groups columns with
        names like ``block3_avg_17`` by block and pooling. If columns have no such names, "auto" recognizes VGG16's
        blocks by the number of columns (`featx.backbones.block_widths`).
    power : float
        Exponent, above 0 and at most 1; 0.5 is the signed square root.

    Attributes
    ----------
    widths_ : tuple of int
        Number of columns of each block.
    n_features_in_ : int
        Number of columns.

    Raises
    ------
    SpecError
        From `fit`, if a parameter is out of range.
    DataError
        From `fit`, if the widths do not add up to the columns of X, or the columns of a named block are not adjacent.

    Examples
    --------
    >>> BlockNormalizer(widths=(2, 1)).fit_transform([[9.0, 16.0, 5.0]])
    array([[0.6, 0.8, 1. ]])
    """

    def __init__(self, widths: Sequence[int] | str | None = "auto", power: float = 0.5) -> None:
        self.widths = widths
        self.power = power

    def fit(self, X: ArrayLike, y: object = None) -> "BlockNormalizer":
        """Find the blocks of X (rows, columns) by the names or the number of its columns. Ignore ``y``."""
        validate_data(self, X, dtype=(np.float64, np.float32))
        if not 0 < self.power <= 1:
            raise SpecError(f"power of BlockNormalizer must be above 0 and at most 1, got {self.power}")
        self.widths_ = self._find_widths()
        return self

    def transform(self, X: ArrayLike) -> NDArray[Any]:
        """Return the normalized rows (rows, columns) as a new array. Types other than float32 become float64."""
        check_is_fitted(self)
        values = validate_data(self, X, reset=False, dtype=(np.float64, np.float32))
        out: NDArray[Any] = np.empty_like(values, order="C")
        # Chunks are small enough to stay in the processor's cache during all steps.
        rows = max(1, _CHUNK_BYTES // (values.itemsize * values.shape[1]))
        for start in range(0, len(values), rows):
            self._normalize(values[start : start + rows], out[start : start + rows])
        return out

    def _normalize(self, values: NDArray[Any], out: NDArray[Any]) -> None:
        np.abs(values, out=out)
        if self.power == 0.5:
            np.sqrt(out, out=out)
        elif self.power != 1:
            np.power(out, self.power, out=out)
        np.copysign(out, values, out=out)
        for columns in self._slices():
            block = out[:, columns]
            # In float64, since squares of float32 may overflow or underflow.
            norms = np.sqrt(np.einsum("ij,ij->i", block, block, dtype=np.float64))
            norms[norms == 0] = 1
            np.divide(block, norms[:, np.newaxis], out=block, casting="same_kind")

    def _slices(self) -> Iterator[slice]:
        edges = itertools.accumulate(self.widths_, initial=0)
        return (slice(*edge) for edge in itertools.pairwise(edges))

    def _find_widths(self) -> tuple[int, ...]:
        columns: int = self.n_features_in_
        if self.widths is None:
            return (columns,)
        if isinstance(self.widths, str):
            if self.widths != "auto":
                raise SpecError(
                    f"widths of BlockNormalizer must be 'auto', None or columns of each block, got {self.widths!r}"
                )
            return widths_by_name(getattr(self, "feature_names_in_", ())) or block_widths(columns)
        widths = tuple(int(width) for width in self.widths)
        if min(widths, default=0) < 1 or sum(widths) != columns:
            raise DataError(
                f"widths of BlockNormalizer must be positive and add up to the {columns} columns of X, got {widths}"
            )
        return widths

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags


def widths_by_name(names: Sequence[str]) -> tuple[int, ...]:
    """Count the adjacent columns of each feature by names like ``block3_avg_17``. Return () for other names."""
    matches = [_COLUMN.fullmatch(name) for name in names]
    runs = [(name, len(list(run))) for name, run in itertools.groupby(match and match[1] for match in matches)]
    owners = [name for name, _ in runs]
    if None in owners:
        return ()
    for name in owners:
        if owners.count(name) > 1:
            raise DataError(f"columns of {name} must be adjacent for BlockNormalizer, got them in several places")
    return tuple(width for _, width in runs)

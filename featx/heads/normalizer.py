"""Power normalization of pooled features, block by block."""

import itertools
import re
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, OneToOneFeatureMixin, TransformerMixin
from sklearn.utils.validation import check_is_fitted, validate_data

from featx.backbones import widths_of
from featx.errors import DataError, SpecError

_COLUMN = re.compile(r"(.*block\d+_[a-z]+)_\d+")
_CHUNK_BYTES = 1 << 20


class BlockNormalizer(OneToOneFeatureMixin, TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Signed power, then unit L2 norm for each block of columns of each row.

    Power normalization of Perronnin, Sánchez & Mensink (2010), "Improving the Fisher kernel for large-scale image
    classification", applied to each block's features apart, so that no block outweighs another. A block that is
    all zero stays zero. Rows are independent: nothing is learned from the data but its number of columns.

    Parameters
    ----------
    widths : tuple of int, "auto" or None
        Columns of each block, in order. None takes the whole row as one block. "auto" groups columns named like
        ``block3_avg_17`` by their block and pool; without such names it takes `featx.backbones.widths_of`, which knows
        VGG16's blocks by the number of columns.
    power : float
        Exponent, above 0 and at most 1; 0.5 is the signed square root.

    Attributes
    ----------
    widths_ : tuple of int
        Columns of each block.
    n_features_in_ : int
        Columns of a row.

    Raises
    ------
    SpecError
        From `fit`, if a parameter is out of range.
    DataError
        From `fit`, if the widths do not add up to the columns of X, or a named block's columns are not side by side.

    Examples
    --------
    >>> BlockNormalizer(widths=(2, 1)).fit_transform([[9.0, 16.0, 5.0]])
    array([[0.6, 0.8, 1. ]])
    """

    def __init__(self, widths: Sequence[int] | str | None = "auto", power: float = 0.5) -> None:
        self.widths = widths
        self.power = power

    def fit(self, X: ArrayLike, y: object = None) -> "BlockNormalizer":
        """Take the blocks from X's number of columns, or from their names; X is (rows, columns), ``y`` is ignored."""
        validate_data(self, X, dtype=(np.float64, np.float32))
        if not 0 < self.power <= 1:
            raise SpecError(f"power of BlockNormalizer must be above 0 and at most 1, got {self.power}")
        self.widths_ = self._find_widths()
        return self

    def transform(self, X: ArrayLike) -> NDArray[Any]:
        """The normalized rows in a new array: float32 for float32 (rows, columns), float64 for all else."""
        check_is_fitted(self)
        values = validate_data(self, X, reset=False, dtype=(np.float64, np.float32))
        out: NDArray[Any] = np.empty_like(values, order="C")
        # In chunks that stay in the processor's cache while they go through every step.
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
            # Norms in float64, where no float32 overflows or vanishes when it is squared.
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
            return widths_by_name(getattr(self, "feature_names_in_", ())) or widths_of(columns)
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
    """Return the number of columns of each run of names like ``block3_avg_17``; empty if there are other names."""
    matches = [_COLUMN.fullmatch(name) for name in names]
    runs = [(name, len(list(run))) for name, run in itertools.groupby(match and match[1] for match in matches)]
    owners = [name for name, _ in runs]
    if None in owners:
        return ()
    for name in owners:
        if owners.count(name) > 1:
            raise DataError(
                f"columns of {name} must stand side by side for BlockNormalizer, got them in several places"
            )
    return tuple(width for _, width in runs)

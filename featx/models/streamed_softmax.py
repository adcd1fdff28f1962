"""Fit multinomial logistic regression on rows that do not fit in memory.

The rows are normalized once and written to a scratch file. Each step of L-BFGS reads this file block by block. The
operating system caches as much of the file as memory allows. The first steps use a sample of the rows in memory, so
that few passes over all rows are needed.
"""

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import OptimizeResult, minimize
from sklearn.base import BaseEstimator
from sklearn.pipeline import Pipeline

from featx.errors import DataError, StoreError
from featx.files import wrap_os_error
from featx.heads import ESTIMATOR_MAX_ITER, describe_stop, from_linear_parts, make_head
from featx.spec import ExtractSpec
from featx.store import BLOCK_BYTES, Store

SAMPLE_CELLS = 1 << 26
"""Largest number of values in the sample. This many values take 0.25 GB."""
TOLERANCE = 1e-4
"""Largest entry of the mean loss's gradient at which L-BFGS stops, as in scikit-learn."""
Blocks = Callable[[], Iterator[tuple[NDArray[np.float32], NDArray[np.intp]]]]
"""A function that starts a pass over all rows. It yields blocks of rows with their class numbers."""


class StreamedSoftmax(NamedTuple):
    """A fitted pipeline, the number of passes over the rows, and a line about the fit if it did not converge."""

    pipeline: Pipeline
    passes: int
    stopped: str | None


def fit_softmax(
    store: Store, spec: ExtractSpec, rows: NDArray[np.intp], codes: NDArray[np.intp], classes: tuple[str, ...],
    *, C: float, normalize: str, scratch: Path,
) -> StreamedSoftmax:  # fmt: skip
    """Fit the weights that scikit-learn would fit, within scikit-learn's tolerance.

    Parameters
    ----------
    store : Store
        Open store.
    spec : ExtractSpec
        Features to use.
    rows : int array (n,)
        Numbers of the rows in the store, sorted.
    codes : int array (n,)
        Class number of each row: an index into ``classes``.
    classes : tuple of str
        Class names, sorted.
    C, normalize
        As in `featx.heads.make_head`.
    scratch : Path
        Folder for the scratch file, which takes 4 bytes per value.

    Raises
    ------
    StoreError
        If the store is damaged, or if the disk is full.
    DataError
        If a feature is not finite.
    """
    normalizer = _fit_normalizer(store, spec, rows, normalize)
    # Every stride-th row is in the sample.
    stride = max(1, -(-len(rows) * spec.width // SAMPLE_CELLS))
    with wrap_os_error(scratch, StoreError), tempfile.TemporaryFile(dir=scratch) as file:
        sample = np.empty((-(-len(rows) // stride), spec.width), np.float32)
        done = 0
        for values in _feature_blocks(store, spec, rows):
            if not np.isfinite(values).all():
                raise DataError(f"features of {store.path} must be finite, but some are NaN or infinite")
            values = values if isinstance(normalizer, str) else normalizer.transform(values)
            # ndarray.tofile is not used, because its error on a full disk does not name the cause.
            file.write(np.ascontiguousarray(values, np.float32).data)
            first = -done % stride
            sample[(done + first) // stride :][: len(values[first::stride])] = values[first::stride]
            done += len(values)
        penalty = 1 / (C * len(rows))
        start = _minimize(lambda: iter([(sample, codes[::stride])]), len(classes), spec.width, penalty).x
        found = _minimize(_file_blocks(file, codes, spec.width), len(classes), spec.width, penalty, start)
    W = found.x.reshape(-1, spec.width + 1)
    linear = W[:, :-1].astype(np.float32), W[:, -1].astype(np.float32)
    pipeline = from_linear_parts("softmax", *linear, np.array(classes), normalizer, C=C)
    stopped = None if found.success else describe_stop("softmax", C, int(found.nit), normalized=normalize != "none")
    return StreamedSoftmax(pipeline, int(found.nfev), stopped)


def _fit_normalizer(store: Store, spec: ExtractSpec, rows: NDArray[np.intp], normalize: str) -> BaseEstimator | str:
    normalizer = make_head("softmax", normalize=normalize, widths=tuple(spec.widths.values())).named_steps["normalizer"]
    if normalize == "power":
        return normalizer.fit(store.read(spec.widths, rows[:1]))
    if normalize == "standard":
        for values in _feature_blocks(store, spec, rows):
            normalizer.partial_fit(values)
    return normalizer


def _feature_blocks(store: Store, spec: ExtractSpec, rows: NDArray[np.intp]) -> Iterator[NDArray[np.float32]]:
    for first in range(0, len(rows), _block_rows(spec.width)):
        yield store.read(spec.widths, rows[first : first + _block_rows(spec.width)])


def _file_blocks(file: IO[bytes], codes: NDArray[np.intp], width: int) -> Blocks:
    buffer = np.empty((_block_rows(width), width), np.float32)

    def read() -> Iterator[tuple[NDArray[np.float32], NDArray[np.intp]]]:
        file.seek(0)
        for first in range(0, len(codes), len(buffer)):
            block_codes = codes[first : first + len(buffer)]
            block = buffer[: len(block_codes)]
            file.readinto(block.data.cast("B"))  # type: ignore[attr-defined]
            yield block, block_codes

    return read


def _block_rows(width: int) -> int:
    return max(1, BLOCK_BYTES // (4 * width))


def _minimize(
    blocks: Blocks, classes: int, width: int, penalty: float, start: NDArray[np.float64] | None = None
) -> OptimizeResult:
    """Return the result of scipy. Its ``x`` is the flat matrix of weights, with the intercepts in the last column.

    If there are two classes, the matrix has one row.
    """
    shape = (1 if classes == 2 else classes, width + 1)
    return minimize(
        lambda flat: _loss_and_gradient(flat.reshape(shape), blocks, penalty),
        np.zeros(shape).ravel() if start is None else start.ravel(),
        method="L-BFGS-B",
        jac=True,
        options={"maxiter": ESTIMATOR_MAX_ITER, "maxfun": 2 * ESTIMATOR_MAX_ITER, "maxls": 50, "gtol": TOLERANCE,
                 "ftol": 64 * np.finfo(float).eps},
    )  # fmt: skip


def _loss_and_gradient(W: NDArray[np.float64], blocks: Blocks, penalty: float) -> tuple[float, NDArray[np.float64]]:
    """Return the mean loss plus the penalty, and its gradient as one row."""
    weights, bias = W[:, :-1].astype(np.float32), W[:, -1].astype(np.float32)
    loss, count, gradient = 0.0, 0, np.zeros_like(W)
    for X, codes in blocks():
        losses, errors = (_binary_loss if len(W) == 1 else _softmax_loss)(X @ weights.T + bias, codes)
        loss += float(losses.sum(dtype=np.float64))
        gradient[:, :-1] += errors.T @ X
        gradient[:, -1] += errors.sum(axis=0, dtype=np.float64)
        count += len(X)
    gradient /= count
    gradient[:, :-1] += penalty * W[:, :-1]
    return loss / count + penalty / 2 * float((W[:, :-1] ** 2).sum()), gradient.ravel()


def _softmax_loss(Z: NDArray[Any], codes: NDArray[np.intp]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return the losses (n,) and their derivatives by the decisions Z (n, classes). Overwrite Z."""
    Z -= Z.max(axis=1, keepdims=True)
    own = np.take_along_axis(Z, codes[:, np.newaxis], axis=1)[:, 0]
    np.exp(Z, out=Z)
    total = Z.sum(axis=1)
    Z /= total[:, np.newaxis]
    Z[np.arange(len(Z)), codes] -= 1
    return np.log(total) - own, Z


def _binary_loss(Z: NDArray[Any], codes: NDArray[np.intp]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return the same as `_softmax_loss`, for two classes that share one decision per row, Z (n, 1)."""
    z = np.where(codes == 1, -Z[:, 0], Z[:, 0])
    errors = np.exp(-np.logaddexp(0, -z))
    return np.logaddexp(0, z), np.where(codes == 1, -errors, errors)[:, np.newaxis]

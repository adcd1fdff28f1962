"""`VGG16Features`: the backbone as a scikit-learn transformer."""

import dataclasses
import itertools
import os
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from joblib import cpu_count
from PIL import Image
from sklearn.base import BaseEstimator, TransformerMixin

from featx.backbones import BACKBONES, BLOCK_NUMBERS, WhichBlocks, WhichPools, load_backbone
from featx.engines import Engine, feature_parts, make_engine
from featx.errors import DataError, ImageError, SpecError
from featx.extraction import AssemblyOptions, extract
from featx.images import from_array, list_images, load_upright, prepare
from featx.runtime import Compute
from featx.spec import ExtractSpec
from featx.store import Store

CACHED_POOLS = ("avg", "max", "gem")
COLORS = ((1,), (3,), (4,))
"""Last of three sides of an array that is one picture, and not many gray ones of so few columns."""


class VGG16Features(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Pooled features of VGG16's blocks (Simonyan & Zisserman 2015), for scikit-learn pipelines.

    The transformer learns nothing: ``fit`` only checks the parameters. The backbone is loaded at the first
    ``transform`` and shared by all instances of equal parameters.

    Parameters
    ----------
    blocks : sequence of int or str
        Blocks to tap, 1 to 5, such as ``(3, 4, 5)`` or ``"3-5"``.
    pools : sequence of str, or str
        How each block is pooled: ``avg``, ``max``, ``gem``, ``flat``, or ``"avg,max"``.
    size, resize, interpolation, precision, backbone
        As in `ExtractSpec`; ``int8`` needs a ``cache``.
    weights : path, optional
        A weights file to use instead of the known sources of ``backbone``.
    engine, device, batch_size, workers
        What runs the backbone, where, images a pass, decoding threads; by default what suits the machine.
    cache : path, optional
        A store of its own, which is read and filled with what it lacks, so that a grid search extracts once. It holds
        all blocks and the pools avg, max and gem, whatever is asked for here; with ``flat``, just what is asked for.

    Attributes
    ----------
    spec_ : ExtractSpec
        What is extracted; of other weights than those known by the backbone's name, without their digest.

    Examples
    --------
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn.svm import LinearSVC
    >>> from featx import BlockNormalizer, VGG16Features
    >>> model = make_pipeline(VGG16Features(blocks=(3, 4, 5)), BlockNormalizer(), LinearSVC())
    """

    def __init__(
        self,
        blocks: WhichBlocks = (3, 4, 5),
        pools: WhichPools = ("avg",),
        size: int = 224,
        resize: str = "squash",
        interpolation: str = "bilinear",
        precision: str = "fp32",
        backbone: str = "oxford",
        weights: str | Path | None = None,
        engine: str = "auto",
        device: str = "auto",
        batch_size: int | None = None,
        workers: int | None = None,
        cache: str | Path | None = None,
    ) -> None:
        self.blocks = blocks
        self.pools = pools
        self.size = size
        self.resize = resize
        self.interpolation = interpolation
        self.precision = precision
        self.backbone = backbone
        self.weights = weights
        self.engine = engine
        self.device = device
        self.batch_size = batch_size
        self.workers = workers
        self.cache = cache

    def fit(self, X: Any, y: Any = None) -> "VGG16Features":
        """Check the parameters, ``SpecError`` names the one that is wrong, and that there is something in X."""
        _items(X)
        self.spec_ = self._spec()
        return self

    def transform(self, X: Any) -> np.ndarray:
        """Features of images, float32 (n, columns), by block, then by pool.

        Parameters
        ----------
        X : array-like of n paths, or of n images
            Paths as str or Path; images as uint8 arrays (height, width), (height, width, 1, 3 or 4), or PIL images,
            which are turned as their EXIF orientation says, as files are.

        Raises
        ------
        ImageError
            If one of them cannot be read: rows must stay aligned with labels, so none is passed over.
        DataError
            If ``cache`` is given and X holds images, which have no file to be known by.
        """
        items = _items(X)
        if isinstance(items[0], str):
            return self._of_cached(items) if self.cache is not None else _of_paths(self._engine(), items, self._workers)
        if self.cache is not None:
            raise DataError("cache of VGG16Features needs paths of files, got images: leave cache out, or give paths")
        return _of_images(self._engine(), items)

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:
        """Column names, ``block3_avg_0`` and so on."""
        return np.array(self._spec().column_names, object)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = False
        tags.input_tags.one_d_array = True
        tags.input_tags.three_d_array = True
        tags.input_tags.string = True
        tags.requires_fit = False
        tags.transformer_tags.preserves_dtype = []
        return tags

    @property
    def _workers(self) -> int:
        return self.workers or cpu_count()

    def _spec(self) -> ExtractSpec:
        names = {field.name for field in dataclasses.fields(ExtractSpec)} & self.get_params().keys()
        spec = ExtractSpec(**{name: getattr(self, name) for name in names})
        if self.backbone in BACKBONES and self.weights is None:
            known = BACKBONES[self.backbone]
            spec = spec.with_backbone(known.name, known.digest, known.preprocessing)
        spec.check_resolved("VGG16Features")
        if spec.precision == "int8" and self.cache is None:
            raise SpecError("precision int8 of VGG16Features needs cache, which keeps its calibration; give a file")
        return spec

    def _engine(self) -> Engine:
        return _shared_engine(self._spec(), self.weights, self.device, self.batch_size, self.engine)

    def _of_cached(self, paths: Sequence[str]) -> np.ndarray:
        spec = self._spec()
        if "flat" not in spec.pools:
            spec = dataclasses.replace(spec, blocks=BLOCK_NUMBERS, pools=CACHED_POOLS)
        _check_cache(Path(self.cache or ""), spec)
        extract(
            list(dict.fromkeys(paths)), str(self.cache), spec, Compute(self.engine, self.device, self.batch_size,
            self.workers), weights=self.weights, assembly=AssemblyOptions("keep"), strict=True, wait=True,
        )  # fmt: skip
        with Store(str(self.cache)) as store:
            row_of = {path: row for row, path in enumerate(store.paths)}
            rows, inverse = np.unique([row_of[path] for path in paths], return_inverse=True)
            return store.read(self._spec().widths, rows)[inverse]


@lru_cache(maxsize=1)
def _shared_engine(
    spec: ExtractSpec, weights: str | Path | None, device: str, batch_size: int | None, engine: str
) -> Engine:
    backbone = load_backbone(spec.backbone, weights)
    spec = spec.with_backbone(backbone.name, backbone.digest, backbone.preprocessing)
    return make_engine(backbone, spec, device, batch_size, engine)


def _check_cache(path: Path, spec: ExtractSpec) -> None:
    """A store that `featx.extract.extract` made would get rows without a label, under other paths."""
    if not path.exists():
        return
    with Store(path) as store:
        spec.check_same(
            dataclasses.replace(spec, blocks=store.spec.blocks, pools=store.spec.pools),
            this="every cache of VGG16Features", that=str(path), remedy="give cache a file of its own",
        )  # fmt: skip


def _items(X: Any) -> list[Any]:
    """Paths as str, images as they are; a column of paths, as a data frame gives it, is taken as a list."""
    if isinstance(X, str | os.PathLike | Image.Image) or (isinstance(X, np.ndarray) and X.shape[2:] in COLORS):
        raise DataError("X of VGG16Features must be a list of paths or images, got a single one: give [X]")
    if hasattr(X, "to_numpy"):
        X = X.to_numpy()
    if isinstance(X, np.ndarray) and X.ndim == 2 and X.shape[1] == 1:
        X = X[:, 0]
    if not len(X):
        raise DataError("X of VGG16Features must hold at least one path or image, got none")
    items = [os.fspath(item) if isinstance(item, str | os.PathLike) else item for item in X]
    if len({isinstance(item, str) for item in items}) > 1:
        raise DataError("X of VGG16Features must hold either paths or images, got both")
    return items


def _of_paths(engine: Engine, paths: Sequence[str], workers: int) -> np.ndarray:
    rows = []
    for part in feature_parts(engine, list_images(paths), range(len(paths)), workers):
        if part.failures:
            raise ImageError(f"{': '.join(part.failures[0])}; rows must match labels, so leave it out of X")
        rows.append(np.hstack(list(part.features.values())))
    return np.concatenate(rows)


def _of_images(engine: Engine, images: Iterable[Any]) -> np.ndarray:
    rows = []
    for batch in _batched(images, engine.batch_size):
        features = engine(np.stack([prepare(_rgb(image), engine.spec) for image in batch]))
        rows.append(np.hstack(list(features.values())))
    return np.concatenate(rows)


def _batched(items: Iterable[Any], size: int) -> Iterator[list[Any]]:
    items = iter(items)
    while batch := list(itertools.islice(items, size)):
        yield batch


def _rgb(image: Any) -> Image.Image:
    return load_upright(image).image if isinstance(image, Image.Image) else from_array(np.asarray(image))

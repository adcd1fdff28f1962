"""The backbone as a scikit-learn transformer."""

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

from featx.backbones import BACKBONES, BLOCK_NUMBERS, CHANNEL_POOLS, WhichBlocks, WhichPools, load_backbone
from featx.engines import Engine, feature_parts, make_engine
from featx.errors import DataError, ImageError, SpecError
from featx.extraction import AssemblyOptions, extract
from featx.images import MAX_PIXELS, from_array, list_images, load_upright, preprocess
from featx.runtime import Compute
from featx.spec import ExtractSpec
from featx.store import Store

CHANNELS = ((1,), (3,), (4,))
"""An array is a single image if its third axis has one of these lengths. Otherwise it is a stack of images."""
DEFAULTS = ExtractSpec()


class VGG16Features(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Extract pooled features of VGG16's blocks (Simonyan & Zisserman 2015) in a scikit-learn pipeline.

    The transformer learns nothing from the images: ``fit`` only checks the parameters. The backbone is loaded at the
    first ``transform``, and instances with equal parameters share it.

    Parameters
    ----------
    blocks : sequence of int or str
        Blocks to use, 1 to 5, such as ``(3, 4, 5)`` or ``"3-5"``. By default, all are used.
    pools : sequence of str, or str
        Poolings of each block, such as ``("avg", "max")`` or ``"avg,max"``. `featx.ExtractSpec` lists all names.
    size, resize, interpolation, precision, backbone
        As in `ExtractSpec`, with the same defaults. The precision ``int8`` needs a ``cache``, and ``auto`` is not
        available.
    weights : path, optional
        File with the backbone's weights. It replaces the known sources of ``backbone``.
    cache : path, optional
        Store that this transformer reads and extends, so that a grid search extracts each image once. Give it a file of
        its own: a store that `featx.extract` made is refused. If ``pools`` has ``flat``, the cache holds only the
        requested features. Otherwise it holds all blocks with all poolings except ``flat``.
    compute : Compute, optional
        Engine, device, batch size and workers. The default suits the machine.

    Attributes
    ----------
    spec_ : ExtractSpec
        Spec of the extracted features. If the weights are from a file, the digest is empty.

    Examples
    --------
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn.svm import LinearSVC
    >>> from featx import BlockNormalizer, VGG16Features
    >>> model = make_pipeline(VGG16Features(blocks=(3, 4, 5)), BlockNormalizer(), LinearSVC())
    """

    def __init__(
        self,
        blocks: WhichBlocks = DEFAULTS.blocks,
        pools: WhichPools = DEFAULTS.pools,
        size: int = DEFAULTS.size,
        resize: str = DEFAULTS.resize,
        interpolation: str = DEFAULTS.interpolation,
        precision: str = DEFAULTS.precision,
        backbone: str = DEFAULTS.backbone,
        weights: str | Path | None = None,
        cache: str | Path | None = None,
        compute: Compute | None = None,
    ) -> None:
        self.blocks = blocks
        self.pools = pools
        self.size = size
        self.resize = resize
        self.interpolation = interpolation
        self.precision = precision
        self.backbone = backbone
        self.weights = weights
        self.cache = cache
        self.compute = compute

    def fit(self, X: Any, y: Any = None) -> "VGG16Features":
        """Check the parameters, and check that X holds images or paths. No image is read.

        Raises
        ------
        SpecError
            If a parameter is not valid. The message names it.
        DataError
            If X is empty, is a single image, or mixes paths and images.
        """
        _items(X)
        self.spec_ = self._spec()
        return self

    def transform(self, X: Any) -> np.ndarray:
        """Return the features of images, float32 (n, columns), ordered by block and then by pooling.

        Parameters
        ----------
        X : array-like of n paths, or of n images
            Paths are str or Path. Images are PIL images or uint8 arrays, (height, width) or (height, width, channels)
            with 1, 3 or 4 channels. Files and PIL images are rotated as their EXIF orientation says.

        Raises
        ------
        ImageError
            If an image cannot be read. The image is not skipped, because rows must match the labels.
        DataError
            If ``cache`` is given and X holds images. The cache needs paths, because it identifies images by them.
        """
        items = _items(X)
        if isinstance(items[0], str):
            if self.cache is not None:
                return self._transform_cached(items)
            return _transform_paths(self._engine(), items, self._compute())
        if self.cache is not None:
            raise DataError("cache of VGG16Features needs paths of files, got images: leave cache out, or give paths")
        return _transform_images(self._engine(), items)

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:
        """Return the column names: ``block3_avg_0``, ``block3_avg_1`` and so on."""
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

    def _compute(self) -> Compute:
        return self.compute or Compute()

    def _spec(self) -> ExtractSpec:
        names = {field.name for field in dataclasses.fields(ExtractSpec)} & self.get_params().keys()
        spec = ExtractSpec(**{name: getattr(self, name) for name in names})
        if self.backbone in BACKBONES and self.weights is None:
            known = BACKBONES[self.backbone]
            spec = spec.with_backbone(known.name, known.digest, known.preprocessing)
        spec.check_resolved("VGG16Features")
        self._compute().check_unused("VGG16Features", "executor", "shard")
        if spec.precision == "int8" and self.cache is None:
            raise SpecError("precision int8 of VGG16Features needs cache, which keeps its calibration; give a file")
        return spec

    def _engine(self) -> Engine:
        compute = self._compute()
        return _shared_engine(self._spec(), self.weights, compute.device, compute.batch_size, compute.engine)

    def _transform_cached(self, paths: Sequence[str]) -> np.ndarray:
        spec, compute = self._spec(), self._compute()
        # A cache of all blocks would be too large if it had features per position.
        if set(spec.pools) <= set(CHANNEL_POOLS):
            spec = dataclasses.replace(spec, blocks=BLOCK_NUMBERS, pools=CHANNEL_POOLS)
        _check_cache(Path(self.cache or ""), spec)
        extract(
            list(dict.fromkeys(paths)), str(self.cache), spec, dataclasses.replace(compute, wait=True),
            weights=self.weights, assembly=AssemblyOptions(missing_images="keep"), strict=True,
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
    """Refuse a store that `featx.extract` made, because the rows of a cache have no labels and other paths."""
    if not path.exists():
        return
    with Store(path) as store:
        spec.check_same(
            dataclasses.replace(spec, blocks=store.spec.blocks, pools=store.spec.pools),
            this="every cache of VGG16Features", that=str(path), remedy="give cache a file of its own",
        )  # fmt: skip


def _items(X: Any) -> list[Any]:
    """Return X as a list of paths (str) or of images. A data frame with one column counts as a list."""
    if isinstance(X, str | os.PathLike | Image.Image) or (isinstance(X, np.ndarray) and X.shape[2:] in CHANNELS):
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


def _transform_paths(engine: Engine, paths: Sequence[str], compute: Compute) -> np.ndarray:
    workers, max_pixels = compute.workers or cpu_count(), compute.max_pixels or MAX_PIXELS
    rows = []
    for part in feature_parts(engine, list_images(paths), range(len(paths)), workers, max_pixels):
        if part.failures:
            raise ImageError(f"{': '.join(part.failures[0])}; rows must match the labels, so leave it out of X")
        rows.append(np.hstack(list(part.features.values())))
    return np.concatenate(rows)


def _transform_images(engine: Engine, images: Iterable[Any]) -> np.ndarray:
    rows = []
    for batch in _batched(images, engine.batch_size):
        features = engine(np.stack([preprocess(_upright_rgb(image, engine.spec), engine.spec) for image in batch]))
        rows.append(np.hstack(list(features.values())))
    return np.concatenate(rows)


def _batched(items: Iterable[Any], size: int) -> Iterator[list[Any]]:
    items = iter(items)
    while batch := list(itertools.islice(items, size)):
        yield batch


def _upright_rgb(image: Any, spec: ExtractSpec) -> Image.Image:
    if isinstance(image, Image.Image):
        return load_upright(image, value_range=spec.value_range).image
    return from_array(np.asarray(image))

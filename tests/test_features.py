import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
import pytest
from conftest import draw
from PIL import Image, ImageOps
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.svm import LinearSVC
from sklearn.utils.estimator_checks import check_estimator

from featx import BlockNormalizer, VGG16Features
from featx.backbones.poolings import CHANNEL_POOLS, POOLINGS
from featx.curation.dataset import load_features
from featx.errors import DataError, ImageError, SpecError, SpecMismatch
from featx.models.transformer import _shared_engine
from featx.runtime.compute import Compute
from featx.spec.extract_spec import ExtractSpec
from featx.store.reader import Store

POOLS = (*POOLINGS, "cov32")


@pytest.fixture(scope="module")
def paths(shared_photos):
    return sorted(str(path) for path in shared_photos.rglob("*.png"))


@pytest.fixture(scope="module")
def labels(paths):
    return [path.split("/")[-2] for path in paths]


def test_features_equal_those_of_a_store(paths, shared_store):
    stored = load_features(shared_store, blocks=(3, 5), pools="avg")
    values = VGG16Features(blocks=(3, 5), size=32).fit_transform(paths)
    assert values.dtype == np.float32
    np.testing.assert_allclose(values, stored.data, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    "kind", [list, np.array, lambda p: np.array(p, object)[:, None], pd.Series, lambda p: pd.DataFrame({"path": p})]
)
def test_paths_come_in_any_array_like(paths, kind):
    transformer = VGG16Features(blocks=(1,), size=32)
    np.testing.assert_array_equal(transformer.transform(kind(paths[:3])), transformer.transform(paths[:3]))


def test_images_give_the_features_of_their_files(paths):
    transformer = VGG16Features(blocks=(2,), size=32, compute=Compute(batch_size=2))
    expected = transformer.transform(paths[:3])
    opened = [Image.open(path) for path in paths[:3]]
    np.testing.assert_allclose(transformer.transform(opened), expected, rtol=1e-4, atol=1e-3)
    np.testing.assert_allclose(transformer.transform(np.stack(opened)), expected, rtol=1e-4, atol=1e-3)
    turned = opened[0].transpose(Image.Transpose.ROTATE_90)
    turned.getexif()[0x0112] = 6
    np.testing.assert_allclose(transformer.transform([turned]), expected[:1], rtol=1e-4, atol=1e-3)
    upright = ImageOps.exif_transpose(turned)
    np.testing.assert_allclose(transformer.transform([upright]), expected[:1], rtol=1e-4, atol=1e-3)
    gray = np.asarray(opened[0])[..., 0]
    assert transformer.transform([gray]).shape == (1, 128)


def test_an_unreadable_image_is_named(paths, tmp_path):
    (tmp_path / "bad.jpg").write_text("text")
    with pytest.raises(
        ImageError, match=r"bad\.jpg: no image format .*; rows must match the labels, so leave it out of X"
    ):
        VGG16Features(size=32).transform([paths[0], str(tmp_path / "bad.jpg")])
    with pytest.raises(ImageError, match="uint8"):
        VGG16Features(size=32).transform(np.zeros((2, 40, 40, 3)))


@pytest.mark.parametrize(
    ("X", "message"),
    [
        ([], "at least one path or image, got none"),
        (["a.png", np.zeros((4, 4), np.uint8)], "either paths or images, got both"),
        ("a.png", r"must be a list of paths or images, got a single one: give \[X\]"),
        (Image.new("RGB", (8, 8)), "got a single one"),
        (np.zeros((40, 40, 3), np.uint8), "got a single one"),
    ],
)
def test_x_must_be_a_list_of_paths_or_of_images(X, message):
    with pytest.raises(DataError, match=message):
        VGG16Features(size=32).transform(X)


def test_fit_checks_the_parameters(paths):
    transformer = VGG16Features(blocks=(9,))
    with pytest.raises(SpecError, match="must be 1 to 5, got 9"):
        transformer.fit(paths)
    with pytest.raises(SpecError, match=r"precision of VGG16Features must be one of .*, got 'auto'"):
        VGG16Features(precision="auto").fit(paths)
    with pytest.raises(SpecError, match="executor of Compute is not supported by VGG16Features, got 'ray'; leave it"):
        VGG16Features(compute=Compute(executor="ray")).fit(paths)


def test_compute_is_a_parameter_like_any_other(paths):
    transformer = clone(VGG16Features(size=32, compute=Compute(workers=2)))
    assert transformer.get_params()["compute"] == Compute(workers=2)
    assert transformer.set_params(compute=Compute(engine="torch")).fit(paths).compute.engine == "torch"
    assert VGG16Features().blocks == ExtractSpec().blocks


def test_the_spec_is_that_of_the_backbone(paths):
    spec = VGG16Features(backbone="imagenet1k_v1").fit(paths).spec_
    assert (spec.backbone, spec.preprocessing) == ("imagenet1k_v1", "imagenet1k_v1")
    assert VGG16Features().fit(paths).spec_.backbone_digest.startswith("25d244c5")


def test_blocks_and_pools_may_be_texts(paths):
    texts, tuples = (
        VGG16Features(blocks=b, pools=p, size=32) for b, p in (("1-2", "avg,max"), ((1, 2), ("avg", "max")))
    )
    np.testing.assert_array_equal(texts.fit_transform(paths[:2]), tuples.fit_transform(paths[:2]))


def test_int8_needs_a_cache_for_its_calibration(paths, tmp_path):
    with pytest.raises(SpecError, match="int8 of VGG16Features needs cache, which keeps its calibration"):
        VGG16Features(size=32, precision="int8").fit(paths)
    transformer = VGG16Features(blocks=(1,), size=32, precision="int8", cache=tmp_path / "cache.h5")
    assert transformer.fit_transform(paths[:2]).shape == (2, 64)


def test_fit_does_not_load_the_backbone(paths):
    _shared_engine.cache_clear()
    clone(VGG16Features(size=32)).fit(paths)
    assert _shared_engine.cache_info().currsize == 0


@pytest.mark.parametrize("engine", ["torch", "openvino", "ncnn"])
def test_threads_can_share_a_backbone(paths, engine):
    transformer = VGG16Features(blocks=(1,), size=32, compute=Compute(engine=engine)).fit(paths)
    alone = transformer.transform(paths)
    with ThreadPoolExecutor(4) as pool:
        for found in pool.map(transformer.transform, [paths] * 8):
            np.testing.assert_array_equal(found, alone)


def test_equal_transformers_share_one_backbone(paths):
    _shared_engine.cache_clear()
    for _ in range(2):
        VGG16Features(blocks=(1,), size=32).transform(paths[:1])
    assert _shared_engine.cache_info().misses == 1


def test_a_pickled_transformer_does_not_hold_the_backbone(paths):
    transformer = VGG16Features(size=32).fit(paths)
    transformer.transform(paths[:1])
    assert len(pickle.dumps(transformer)) < 2000


def test_pandas_output_has_named_columns(paths):
    transformer = VGG16Features(blocks="3-4", pools=("avg", "max"), size=32).set_output(transform="pandas")
    frame = transformer.fit_transform(paths[:2])
    assert list(frame.columns[:2]) == ["block3_avg_0", "block3_avg_1"]
    assert frame.shape == (2, 2 * (256 + 512))
    assert list(frame.columns) == transformer.get_feature_names_out().tolist()
    assert BlockNormalizer().fit(frame).widths_ == (256, 256, 512, 512)


def test_html_repr_shows_the_pipeline():
    html = make_pipeline(VGG16Features(), BlockNormalizer())._repr_html_()
    assert "VGG16Features" in html


def test_a_pipeline_can_be_cross_validated(paths, labels):
    pipeline = make_pipeline(VGG16Features(blocks=(3, 4, 5), size=32), BlockNormalizer(), LinearSVC())
    assert cross_val_score(clone(pipeline), paths, labels, cv=2).mean() == 1


@pytest.mark.slow
def test_a_grid_search_with_a_cache_extracts_once(paths, labels, tmp_path, monkeypatch):
    from featx.extraction import local_executor as extraction

    engines = []
    make = extraction.make_engine
    monkeypatch.setattr(extraction, "make_engine", lambda *args: engines.append(args) or make(*args))
    pipeline = make_pipeline(VGG16Features(size=32, cache=tmp_path / "cache.h5"), BlockNormalizer(), LinearSVC())
    grid = GridSearchCV(pipeline, {"vgg16features__blocks": [(3, 4, 5), (1,), (5,)]}, cv=2)
    grid.fit(paths, labels)
    assert grid.best_score_ == 1
    assert len(engines) == 2  # one engine for each of the two folds of the first candidate
    with Store(tmp_path / "cache.h5") as store:
        assert store.n_rows == len(paths)
        assert store.spec.pools == CHANNEL_POOLS


@pytest.mark.parametrize("pool", POOLS)
def test_cached_features_equal_uncached_in_any_order(paths, tmp_path, pool):
    plain = VGG16Features(blocks=(2, 5), pools=(pool,), size=32)
    cached = clone(plain).set_params(cache=str(tmp_path / "cache.h5"))
    chosen = [paths[5], paths[0], paths[5], paths[9]]
    np.testing.assert_allclose(cached.transform(chosen), plain.transform(chosen), rtol=1e-4, atol=1e-3)


def test_a_cache_of_flat_features_holds_nothing_else(paths, tmp_path):
    cached = VGG16Features(blocks=(5,), pools=("flat",), size=32, cache=tmp_path / "cache.h5")
    assert cached.transform(paths[:2]).shape == (2, 512)
    with Store(tmp_path / "cache.h5") as store:
        assert store.spec.blocks == (5,)


def test_a_store_of_extract_is_refused_as_a_cache(shared_store, shared_photos):
    """The message says that these poolings are those of every cache, because only avg was requested."""
    every = ", ".join(CHANNEL_POOLS)
    message = rf"pools is {every} in every cache of VGG16Features but avg, max in .*h5; give cache a file of its own"
    with pytest.raises(SpecMismatch, match=message):
        VGG16Features(size=32, cache=shared_store).transform([shared_photos / "red" / "0.png"])


def test_a_cache_needs_paths(tmp_path):
    with pytest.raises(DataError, match="cache of VGG16Features needs paths of files, got images"):
        VGG16Features(cache=tmp_path / "cache.h5").transform([draw(0, 1)])


FEEDS_NUMBERS = "gives rows of numbers to transform, which takes paths or uint8 images"
COUNTS_COLUMNS = "needs n_features_in_ or a number of columns, which images do not have"
REFUSES_IN_FIT = "expects fit to refuse some kinds of numbers; fit reads no image, and transform refuses all numbers"
NOT_FOR_IMAGES = {
    "check_complex_data": REFUSES_IN_FIT,
    "check_dict_unchanged": FEEDS_NUMBERS,
    "check_dont_overwrite_parameters": FEEDS_NUMBERS,
    "check_dtype_object": FEEDS_NUMBERS,
    "check_estimator_sparse_array": REFUSES_IN_FIT,
    "check_estimators_dtypes": FEEDS_NUMBERS,
    "check_estimators_empty_data_messages": COUNTS_COLUMNS,
    "check_estimators_nan_inf": REFUSES_IN_FIT,
    "check_estimators_pickle": FEEDS_NUMBERS,
    "check_f_contiguous_array_estimator": FEEDS_NUMBERS,
    "check_fit1d": "expects a list of single values to be refused, but a list of paths is one",
    "check_fit2d_1feature": FEEDS_NUMBERS,
    "check_fit2d_1sample": FEEDS_NUMBERS,
    "check_fit2d_predict1d": FEEDS_NUMBERS,
    "check_fit_idempotent": FEEDS_NUMBERS,
    "check_fit_score_takes_y": FEEDS_NUMBERS,
    "check_methods_sample_order_invariance": FEEDS_NUMBERS,
    "check_methods_subset_invariance": FEEDS_NUMBERS,
    "check_n_features_in": COUNTS_COLUMNS,
    "check_n_features_in_after_fitting": COUNTS_COLUMNS,
    "check_pipeline_consistency": FEEDS_NUMBERS,
    "check_transformer_data_not_an_array": FEEDS_NUMBERS,
    "check_transformer_general": FEEDS_NUMBERS,
    "check_transformers_unfitted_stateless": FEEDS_NUMBERS,
}


class SaysItIsTabular(VGG16Features):
    """A transformer that claims two-dimensional input: without this tag scikit-learn skips all checks."""

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = True
        return tags


def test_checks_of_sklearn_that_apply_to_images_pass():
    results = check_estimator(SaysItIsTabular(size=32), on_fail=None, on_skip=None)
    failed = {result["check_name"] for result in results if result["status"] == "failed"}
    assert failed == set(NOT_FOR_IMAGES)
    assert sum(result["status"] == "passed" for result in results) >= 18


def test_features_do_not_depend_on_order_or_subset(paths):
    """Check on images what four of the skipped checks of scikit-learn check on numbers."""
    transformer = VGG16Features(blocks=(1, 4), size=32).fit(paths)
    before = dict(vars(transformer))
    whole = transformer.transform(paths[:6])
    assert vars(transformer) == before
    np.testing.assert_allclose(transformer.transform(paths[:6][::-1])[::-1], whole, rtol=1e-4, atol=1e-3)
    alone = np.vstack([transformer.transform([path]) for path in paths[:6]])
    np.testing.assert_allclose(alone, whole, rtol=1e-4, atol=1e-3)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(transformer)).fit(paths).transform(paths[:6]), whole)

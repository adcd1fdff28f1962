import pickle

import numpy as np
import pandas as pd
import pytest
from conftest import draw
from PIL import Image
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.svm import LinearSVC
from sklearn.utils.estimator_checks import check_estimator

from featx import BlockNormalizer, VGG16Features
from featx.errors import DataError, ImageError, SpecError
from featx.features import _shared_engine
from featx.load import load_features
from featx.store import Store


@pytest.fixture(scope="module")
def paths(shared_photos):
    return sorted(str(path) for path in shared_photos.rglob("*.png"))


@pytest.fixture(scope="module")
def labels(paths):
    return [path.split("/")[-2] for path in paths]


def test_features_equal_those_of_a_store(paths, shared_store):
    stored = load_features(shared_store, blocks=(3, 5), pool="avg")
    values = VGG16Features(blocks=(3, 5), size=32).fit_transform(paths)
    assert values.dtype == np.float32
    np.testing.assert_allclose(values, stored.data, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    "kind", [list, np.array, lambda p: np.array(p, object)[:, None], pd.Series, lambda p: pd.DataFrame({"path": p})]
)
def test_paths_come_in_any_array_like(paths, kind):
    transformer = VGG16Features(blocks=(1,), size=32)
    np.testing.assert_array_equal(transformer.transform(kind(paths[:3])), transformer.transform(paths[:3]))


def test_images_equal_their_files(paths):
    transformer = VGG16Features(blocks=(2,), size=32, batch_size=2)
    expected = transformer.transform(paths[:3])
    opened = [Image.open(path) for path in paths[:3]]
    np.testing.assert_allclose(transformer.transform(opened), expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(transformer.transform(np.stack(opened)), expected, rtol=1e-4, atol=1e-5)
    gray = np.asarray(opened[0])[..., 0]
    assert transformer.transform([gray]).shape == (1, 128)


def test_a_bad_image_is_an_error_that_names_it(paths, tmp_path):
    (tmp_path / "bad.jpg").write_text("text")
    with pytest.raises(ImageError, match=r"bad\.jpg: no image format .*; rows must match labels, so leave it out of X"):
        VGG16Features(size=32).transform([paths[0], str(tmp_path / "bad.jpg")])
    with pytest.raises(ImageError, match="uint8"):
        VGG16Features(size=32).transform(np.zeros((2, 40, 40, 3)))


@pytest.mark.parametrize(
    ("X", "message"),
    [
        ([], "at least one path or image, got none"),
        (["a.png", np.zeros((4, 4), np.uint8)], "either paths or images, got both"),
    ],
)
def test_what_is_no_list_of_images_is_refused(X, message):
    with pytest.raises(DataError, match=message):
        VGG16Features(size=32).transform(X)


def test_parameters_are_checked_by_fit_not_before(paths):
    transformer = VGG16Features(blocks=(9,))
    with pytest.raises(SpecError, match="must be 1 to 5, got 9"):
        transformer.fit(paths)


def test_it_loads_nothing_until_it_transforms(paths):
    _shared_engine.cache_clear()
    clone(VGG16Features(size=32)).fit(paths)
    assert _shared_engine.cache_info().currsize == 0


def test_equal_transformers_share_one_trunk(paths):
    _shared_engine.cache_clear()
    for _ in range(2):
        VGG16Features(blocks=(1,), size=32).transform(paths[:1])
    assert _shared_engine.cache_info().misses == 1


def test_pickled_and_cloned_it_stays_small(paths):
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


def test_a_pipeline_cross_validates(paths, labels):
    pipeline = make_pipeline(VGG16Features(blocks=(3, 4, 5), size=32), BlockNormalizer(), LinearSVC())
    assert cross_val_score(clone(pipeline), paths, labels, cv=2).mean() == 1


def test_a_grid_search_over_blocks_extracts_once(paths, labels, tmp_path, monkeypatch):
    import featx.extract as extraction

    engines = []
    make = extraction.make_engine
    monkeypatch.setattr(extraction, "make_engine", lambda *args: engines.append(args) or make(*args))
    pipeline = make_pipeline(VGG16Features(size=32, cache=tmp_path / "cache.h5"), BlockNormalizer(), LinearSVC())
    grid = GridSearchCV(pipeline, {"vgg16features__blocks": [(3, 4, 5), (1,), (5,)]}, cv=2)
    grid.fit(paths, labels)
    assert grid.best_score_ == 1
    assert len(engines) == 2  # the two folds of the first candidate
    with Store(tmp_path / "cache.h5") as store:
        assert store.rows == len(paths)
        assert store.spec.pools == ("avg", "max", "gem")


def test_cached_features_equal_uncached_in_any_order(paths, tmp_path):
    plain = VGG16Features(blocks=(2, 5), size=32)
    cached = clone(plain).set_params(cache=str(tmp_path / "cache.h5"))
    chosen = [paths[5], paths[0], paths[5], paths[9]]
    np.testing.assert_allclose(cached.transform(chosen), plain.transform(chosen), rtol=1e-4, atol=1e-5)


def test_a_cache_of_flat_features_holds_just_those(paths, tmp_path):
    cached = VGG16Features(blocks=(5,), pools=("flat",), size=32, cache=tmp_path / "cache.h5")
    assert cached.transform(paths[:2]).shape == (2, 512)
    with Store(tmp_path / "cache.h5") as store:
        assert store.spec.blocks == (5,)


def test_images_have_no_place_in_a_cache(tmp_path):
    with pytest.raises(DataError, match="cache of VGG16Features needs paths of files, got images"):
        VGG16Features(cache=tmp_path / "cache.h5").transform([draw(0, 1)])


NOT_TABULAR = {}


def test_sklearns_checks_that_apply():
    check_estimator(VGG16Features(size=32), expected_failed_checks=NOT_TABULAR)

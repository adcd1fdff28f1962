"""`load_features` returns rows that an estimator of scikit-learn can take as they are, also if labels are missing."""

import numpy as np
import pytest
from conftest import draw
from sklearn.linear_model import LogisticRegression
from sklearn.semi_supervised import SelfTrainingClassifier

from featx.curation.dataset import load_features
from featx.errors import FeatxWarning, SpecError
from featx.extraction import extract
from featx.spec.extract_spec import ExtractSpec
from featx.store.reader import Store


@pytest.fixture(scope="module")
def stores(tmp_path_factory):
    """Stores of 24 images of which every fourth has no label: with one label per image, and multi-label."""
    folder = tmp_path_factory.mktemp("partly")
    lines = {"one": ["path,label,split"], "multi": ["path,label,split"]}
    for number in range(24):
        draw(number % 3, number).save(folder / f"{number:02}.png")
        name = "" if number % 4 == 3 else ("ant", "bee", "cat")[number % 3]
        split = "test" if number % 4 == 3 and number > 12 else "train"
        lines["one"].append(f"{number:02}.png,{name},{split}")
        lines["multi"].append(f"{number:02}.png,{name and f'{name}|all'},{split}")
    for name, rows in lines.items():
        (folder / f"{name}.csv").write_text("\n".join(rows))
        extract(folder / f"{name}.csv", folder / f"{name}.h5", ExtractSpec(size=32, blocks=(1,)))
    return folder


def test_unlabeled_rows_are_left_out_and_counted(stores):
    with pytest.warns(FeatxWarning, match=r"6 rows of .*one\.h5 without a label left out; to keep them .*keep") as said:
        data = load_features(stores / "one.h5")
    assert said[0].filename == __file__
    assert data.data.shape == (18, 64)
    assert data.target.min() == 0
    names = data.target_names[data.target]
    for name, file, row in zip(names, data.filenames, data.rows, strict=True):
        number = int(file.removesuffix(".png"))
        assert (number % 4 != 3, row) == (True, number)
        assert name == ("ant", "bee", "cat")[number % 3]
    assert len(data.groups) == len(data.view_index) == len(data.filenames) == 18
    assert data.n_unlabeled == 6
    fitted = LogisticRegression(max_iter=1000).fit(data.data, data.target)
    assert fitted.classes_.tolist() == [0, 1, 2]
    with Store(stores / "one.h5") as store:
        np.testing.assert_array_equal(data.data, store.read(store.spec.widths, data.rows))


def test_unlabeled_rows_may_be_kept(stores, recwarn):
    data = load_features(stores / "one.h5", unlabeled="keep")
    assert not recwarn.list
    assert (data.data.shape, (data.target == -1).sum(), data.n_unlabeled) == ((24, 64), 6, 6)
    fitted = SelfTrainingClassifier(LogisticRegression(max_iter=1000)).fit(data.data, data.target)
    assert fitted.classes_.tolist() == [0, 1, 2]


def test_multilabel_rows_without_a_label(stores):
    with pytest.warns(FeatxWarning, match="6 rows"):
        data = load_features(stores / "multi.h5")
    assert data.target.shape == (18, 4)
    assert set(data.target.sum(axis=1).tolist()) == {2}
    kept = load_features(stores / "multi.h5", unlabeled="keep").target
    assert (kept[3::4] == -1).all()
    assert (np.delete(kept, np.s_[3::4], axis=0) == data.target).all()


@pytest.mark.parametrize("unlabeled", ["drop", "keep"])
def test_a_split_without_any_label_is_loaded_whole(stores, recwarn, unlabeled):
    data = load_features(stores / "one.h5", split="test", unlabeled=unlabeled)
    assert not recwarn.list
    assert (len(data.data), data.target, data.n_unlabeled) == (3, None, 3)


def test_a_store_with_labels_says_nothing(shared_store, recwarn):
    data = load_features(shared_store)
    assert not recwarn.list
    assert (data.n_unlabeled, len(data.target)) == (0, len(data.data))
    assert data.rows.tolist() == list(range(len(data.data)))


def test_an_unknown_choice_is_refused(shared_store):
    with pytest.raises(SpecError, match="unlabeled of load_features must be drop or keep, got 'ignore'"):
        load_features(shared_store, unlabeled="ignore")

"""Images with several labels, from the manifest to the prediction."""

import numpy as np
import pytest
from conftest import SPEC, draw
from PIL import Image

from featx.extract import extract
from featx.info import describe
from featx.load import load_features
from featx.store import Store


def label_of(number):
    """Red, blue, or both, by the number of a picture."""
    return ("red", "blue", "red|blue")[number % 3]


@pytest.fixture(scope="module")
def manifest(tmp_path_factory):
    """Thirty pictures; red and blue ones, and such as are both, a copy among them, and one without a label."""
    folder = tmp_path_factory.mktemp("several")
    lines = ["path,label,split"]
    for number in range(30):
        pixels = np.array(draw(0 if number % 3 == 0 else 2, number))
        if number % 3 == 2:
            pixels[..., 0] = np.minimum(pixels[..., 0] + 120, 255)
        Image.fromarray(pixels).save(folder / f"{number:02}.png")
        lines.append(f"{number:02}.png,{label_of(number)},{'test' if number >= 24 else 'train'}")
    (folder / "30.png").write_bytes((folder / "00.png").read_bytes())
    draw(1, 99).save(folder / "31.png")
    lines += ["30.png,red,train", "31.png,,train"]
    (folder / "labels.csv").write_text("\n".join(lines))
    return folder / "labels.csv"


@pytest.fixture(scope="module")
def several_store(manifest, oxford):
    path = manifest.parent / "several.h5"
    extract(manifest, path, SPEC)
    return path


def test_the_store_has_all_labels(several_store):
    with Store(several_store) as store:
        assert store.classes == ["blue", "red"]
        wanted = [["blue" in label_of(number), "red" in label_of(number)] for number in range(30)]
        np.testing.assert_array_equal(store.indicator, [*wanted, [False, True], [False, False]])
    facts = describe(several_store)
    assert (facts["classes"], facts["several labels"], facts["unlabeled"]) == ({"blue": 20, "red": 21}, 10, 1)
    target = load_features(several_store, blocks=1).target
    assert (target.shape, target.dtype, target.sum()) == ((32, 2), np.int64, 41)


def test_labels_change_with_the_manifest(manifest, tmp_path):
    (tmp_path / "m.csv").write_text("path,label\n00.png,red|blue\n01.png,red\n02.png,\n")
    extract(tmp_path / "m.csv", tmp_path / "p.h5", SPEC, root=manifest.parent)
    (tmp_path / "m.csv").write_text("path,label\n03.png,ant\n")
    extract(tmp_path / "m.csv", tmp_path / "p.h5", SPEC, root=manifest.parent, missing="keep")
    with Store(tmp_path / "p.h5") as store:
        assert (store.paths, store.classes) == (["00.png", "01.png", "02.png", "03.png"], ["ant", "blue", "red"])
        np.testing.assert_array_equal(store.indicator, np.array([[0, 1, 1], [0, 0, 1], [0, 0, 0], [1, 0, 0]], bool))
    (tmp_path / "m.csv").write_text("path,label\n00.png,red\n03.png,ant\n")
    extract(tmp_path / "m.csv", tmp_path / "p.h5", SPEC, root=manifest.parent, missing="drop")
    with Store(tmp_path / "p.h5") as store:
        assert (store.indicator, store.labels.tolist()) == (None, [1, 0])

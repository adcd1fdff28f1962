"""featx reads the layouts of benchmarks/layouts.py right, which compares it with other libraries."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
from layouts import LAYOUTS, Found, read_datasets, read_featx, read_torchvision

sys.path.pop(0)


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.name)
def test_featx_finds_what_is_in_the_files(layout, tmp_path):
    assert read_featx(layout.write(tmp_path / "files")) == layout.truth


def test_other_libraries_are_read_as_they_are(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    (plain,) = (layout for layout in LAYOUTS if layout.name.startswith("class folders (Keras)"))
    plain.write(tmp_path / "files")
    for read in (read_torchvision, read_datasets):
        assert read(tmp_path / "files").agrees(plain.truth)
    (tmp_path / "empty").mkdir()
    assert read_torchvision(tmp_path / "empty").error == "Couldn't find any class folder"


def test_results_are_compared_by_images_classes_and_splits():
    truth = Found(2, {"a": 2}, {"val": 2})
    assert Found(2, {"a": 2}, {"validation": 2}, note="more").agrees(truth)
    for other in (Found(1, {"a": 2}, {"val": 2}), Found(2, {"b": 2}, {"val": 2}), Found(2, {"a": 2}), Found(error="x")):
        assert not other.agrees(truth)

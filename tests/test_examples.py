"""Every example runs on few small images and prints its results."""

import csv
import runpy
import sys
from pathlib import Path

import pytest
from conftest import fill

pytestmark = pytest.mark.slow

EXAMPLES = Path(__file__).parents[1] / "examples"
TESTED = {"digits_early_blocks.py", "flowers17.py", "sklearn_pipeline.py", "finetune.py"}


def main_of(name):
    return runpy.run_path(str(EXAMPLES / name))["main"]


def test_no_example_is_left_out():
    assert {path.name for path in EXAMPLES.glob("*.py")} == TESTED


@pytest.mark.parametrize("name", sorted(TESTED))
def test_every_example_has_a_help_text(name, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", [name, "--help"])
    with pytest.raises(SystemExit, match="0"):
        runpy.run_path(str(EXAMPLES / name), run_name="__main__")
    said = capsys.readouterr().out
    assert f"usage: {name}" in said
    assert "--size" in said


@pytest.mark.filterwarnings("ignore:.* have near-duplicates in other folds")
def test_an_early_block_is_best_for_digits(tmp_path, oxford, capsys):
    table = main_of("digits_early_blocks.py")(tmp_path, size=32, count=200)
    assert list(table) == ["1", "2", "3", "4", "5"]
    best = {block: max(scores.values()) for block, scores in table.items()}
    assert max(best, key=best.get) in "234"
    assert best["5"] < max(best.values()) - 0.02
    assert "accuracy on the held-out fifth" in capsys.readouterr().out


@pytest.mark.filterwarnings("ignore:.* have near-duplicates in other folds")
def test_both_recipes_run_on_photographs(flowers, tmp_path, oxford, capsys):
    results = main_of("flowers17.py")(flowers, tmp_path / "work", each=5, size=48)
    assert results["classic"]["columns"] == 512
    assert all(row["accuracy"] > 3 / 17 for row in results.values())
    assert results["featx"]["accuracy"] >= results["classic"]["accuracy"]
    with (tmp_path / "work" / "manifest.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {row["split"] for row in rows} == {"train", "test"}
    assert len(rows) == 17 * 2 * 5
    assert capsys.readouterr().out.startswith("recipe    accuracy")


def some_flowers(flowers, folder, names, each):
    """Make a folder of links to a few photographs of some classes."""
    for name in names:
        (folder / name).mkdir(parents=True)
        for path in sorted((flowers / "jpg" / name).iterdir())[:each]:
            (folder / name / path.name).symlink_to(path)
    return folder


def test_a_grid_search_over_blocks_and_c(flowers, tmp_path, oxford, capsys):
    photos = some_flowers(flowers, tmp_path / "photos", ("sunflower", "bluebell"), 12)
    search = main_of("sklearn_pipeline.py")(photos, tmp_path / "work", size=48)
    assert len(search.cv_results_["params"]) == 8
    assert search.best_score_ > 0.8
    said = capsys.readouterr().out
    assert "accuracy on the 6 held-out images" in said
    assert (tmp_path / "work" / "cache.h5").is_file()


def test_finetuning_from_a_head(tmp_path, oxford, capsys):
    photos = fill(tmp_path / "photos", each=12)
    results = main_of("finetune.py")(photos, tmp_path / "work", size=32, n_views=2, epochs=1)
    assert set(results) == {"head", "tuned"}
    assert min(results.values()) > 0.6
    assert (tmp_path / "work" / "curve.png").read_bytes().startswith(b"\x89PNG")
    assert "held-out images: head" in capsys.readouterr().out

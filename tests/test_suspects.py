"""Suspects: wrong labels, near-duplicates, outliers and confused classes, and the sheet of thumbnails."""

import dataclasses
import json
import re
import sys

import h5py
import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image, ImageOps
from sklearn.metrics import log_loss
from sklearn.model_selection import cross_val_predict

from featx.cli.group import main
from featx.errors import DataError, EngineError, ImageError, SpecError
from featx.extraction import extract
from featx.heads import default_grid, make_folds, make_head
from featx.images import THUMBNAIL_SIDE
from featx.inspection import draw_suspects, suspects
from featx.inspection.suspect_images.findings import ConfusedClasses, FailedImage
from featx.inspection.suspect_images.label_quality import score_labels
from featx.inspection.suspect_images.outliers import EXTREME, NEIGHBORS, list_outliers, score_outliers
from featx.spec import ExtractSpec

SPEC = ExtractSpec(size=64, blocks=(3, 4, 5))
WRONG = tuple(f"sunflower-{number:02}" for number in (5, 9, 13, 17))
COPIES = {
    "re-encoded": lambda image: image,
    "resized": lambda image: image.resize((image.width // 2, image.height // 2)),
    "mirrored": ImageOps.mirror,
}


@pytest.fixture(scope="session")
def garden(flowers, tmp_path_factory, oxford):
    """A store of photographs of five classes, among them copies, a noise image, wrong labels and a damaged file."""
    root = tmp_path_factory.mktemp("garden")
    lines = ["path,label,split"]
    for name in ("daffodil", "iris", "sunflower", "snowdrop", "pansy"):
        for number, path in enumerate(sorted((flowers / "jpg" / name).glob("*.jpg"))[:24]):
            image = Image.open(path).convert("RGB")
            image.thumbnail((160, 160))
            image.save(root / f"{name}-{number:02}.png")
            lines.append(f"{name}-{number:02}.png,{name},{'train' if number < 16 else 'test'}")
    for kind, change in COPIES.items():
        change(Image.open(root / "pansy-03.png")).save(root / f"{kind}.jpg", quality=50)
        lines.append(f"{kind}.jpg,pansy,test")
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (90, 90, 3), np.uint8)).save(root / "noise.png")
    (root / "bad.png").write_text("not an image")
    lines += ["noise.png,iris,train", "bad.png,iris,train"]
    lines = [line.replace(",sunflower", ",snowdrop") if line.startswith(WRONG) else line for line in lines]
    (root / "garden.csv").write_text("\n".join(lines))
    extract(root / "garden.csv", root / "garden.h5", SPEC)
    return root


@pytest.fixture(scope="session")
def found(garden):
    return suspects(garden / "garden.h5")


def paths(items):
    return [item.path for item in items]


@pytest.mark.slow
def test_wrong_labels_are_found_and_the_right_class_is_suggested(garden):
    """Which of the four wrong labels are found depends on the folds."""
    found = [suspects(garden / "garden.h5", random_state=seed).mislabeled for seed in range(4)]
    wrong = [item for items in found for item in items if item.path.startswith(WRONG)]
    assert len(wrong) >= 8
    assert len({item.path for item in wrong}) == 4
    for item in wrong:
        assert (item.label, item.suggested) == ("snowdrop", "sunflower")
        assert item.probability > 0.5 > item.quality
    for items in found:
        assert items[0].path.startswith(WRONG)
        assert [item.quality for item in items] == sorted(item.quality for item in items)
        assert len(items) < 12


@pytest.mark.parametrize("kind", COPIES)
def test_a_copy_across_the_split_is_found(found, kind):
    (pair,) = [p for p in found.near_duplicates if {p.first, p.second} == {"pansy-03.png", f"{kind}.jpg"}]
    assert pair.cosine >= found.min_cosine
    assert pair.split_columns == ("split",)
    assert not pair.labels_differ


def test_pairs_show_one_photograph_and_are_sorted_by_cosine(found):
    cosines = [pair.cosine for pair in found.near_duplicates]
    assert cosines == sorted(cosines, reverse=True)
    assert len({frozenset((pair.first, pair.second)) for pair in found.near_duplicates}) == len(cosines)
    assert found.pairs_across_splits["split"] >= 3
    # All other pairs are photographs that the data set itself has twice, always in one class.
    assert all(
        pair.first.split("-")[0] == pair.second.split("-")[0]
        for pair in found.near_duplicates
        if not {pair.first, pair.second} & {f"{kind}.jpg" for kind in COPIES}
    )


def test_noise_is_an_outlier_and_a_damaged_file_is_a_failure(found):
    assert paths(found.outliers)[0] == "noise.png"
    assert found.outliers[0].score > EXTREME
    (failed,) = found.failed
    assert failed.path == "bad.png"
    assert failed.reason.startswith("no image format that Pillow knows")
    assert found.images == 5 * 24 + 3 + 1


def test_confused_classes_are_sorted_by_count(found):
    counts = [pair.count for pair in found.confused]
    assert counts == sorted(counts, reverse=True)
    assert all(pair.label != pair.predicted and pair.count > 0 for pair in found.confused)
    assert any((pair.label, pair.predicted) == ("snowdrop", "sunflower") for pair in found.confused)


@pytest.mark.parametrize("label", [0, -1], ids=["another label", "no label"])
def test_labels_differ_only_if_both_images_have_one(garden, tmp_path, label):
    store = tmp_path / "garden.h5"
    store.write_bytes((garden / "garden.h5").read_bytes())
    with h5py.File(store, "r+") as file:
        names = [path.decode() for path in file["rows/path"][:]]
        file["rows/label"][names.index("mirrored.jpg")] = label
    found = suspects(store)
    pair = next(p for p in found.near_duplicates if {p.first, p.second} == {"pansy-03.png", "mirrored.jpg"})
    assert pair.labels_differ == (label == 0)


@pytest.mark.parametrize(("split_column", "reported"), [("split_1", ("split_1",)), (None, ("split_0", "split_1"))])
def test_one_split_column_or_all_are_reported(garden, tmp_path, split_column, reported):
    store = tmp_path / "garden.h5"
    store.write_bytes((garden / "garden.h5").read_bytes())
    with h5py.File(store, "r+") as file:
        file["splits"].move("split", "split_0")
        file.copy(file["splits/split_0"], file["splits"], "split_1")
    found = suspects(store, split_column=split_column)
    pair = next(p for p in found.near_duplicates if {p.first, p.second} == {"pansy-03.png", "mirrored.jpg"})
    assert pair.split_columns == reported
    assert tuple(found.pairs_across_splits) == reported


@pytest.mark.parametrize("classes", [2, 3])
def test_probabilities_are_those_of_scikit_learn(classes):
    """Both use the C with the smallest log loss; scikit-learn needs a smaller tolerance to converge."""
    rng = np.random.default_rng(0)
    codes = np.repeat(np.arange(classes), 30)
    X = rng.random((len(codes), 12)) + np.eye(classes, 12)[codes]
    X /= np.linalg.norm(X, axis=1, keepdims=True)
    labels, groups = np.array(["a", "b", "c"])[codes], np.arange(len(codes))
    quality = score_labels(X, labels, groups)
    candidates = []
    for C in default_grid("softmax", X):
        head = make_head("softmax", C, normalize="none").set_params(head__tol=1e-9)
        folds = make_folds(labels, groups, 5)
        candidates.append(cross_val_predict(head, X, labels, cv=folds, method="predict_proba"))
    best = min(candidates, key=lambda probability: log_loss(labels, probability))
    np.testing.assert_allclose(quality.probability, best, atol=2e-3)
    np.testing.assert_array_equal(quality.quality, quality.probability[np.arange(len(codes)), codes])


def test_the_copy_of_an_image_does_not_confirm_its_label():
    rng = np.random.default_rng(2)
    codes = np.repeat([0, 1], 20)
    X = rng.standard_normal((40, 30)) + 2 * np.eye(2, 30)[codes]
    labels = np.array(["a", "b"])[codes]
    X[1], labels[:2] = X[0], "b"
    separate, together = np.arange(40), np.array([0, 0, *range(2, 40)])
    grouped, confirmed = (score_labels(X, labels, groups).quality[:2].mean() for groups in (together, separate))
    assert grouped < 0.2 < confirmed


def test_separable_classes_have_no_wrong_labels_and_no_confusions():
    codes = np.repeat([0, 1, 2], 20)
    X = np.random.default_rng(1).random((60, 6)) + 2 * np.eye(3, 6)[codes]
    quality = score_labels(X, np.array(["x", "y", "z"])[codes], np.arange(60))
    assert quality.classes.tolist() == ["x", "y", "z"]
    assert quality.confusions == []
    assert len(quality.mislabeled) == 0
    assert quality.suggested is quality.suggested, "computed once and not once per suspect"


def test_a_row_far_from_all_others_is_an_outlier_and_equal_rows_are_not():
    X = np.abs(np.random.default_rng(0).standard_normal((80, 40))).astype(np.float32)
    X[5] += 20
    z_scores = score_outliers(X)
    assert list_outliers(z_scores).tolist()[0] == 5
    assert z_scores[5] > EXTREME
    assert not len(list_outliers(score_outliers(np.tile(X[:1], (NEIGHBORS + 30, 1)))))


def small_store(folder, photos, labels=None):
    rows = sorted(photos.rglob("*.png"))
    label = labels or (lambda path: path.parent.name)
    lines = [f"{path.relative_to(photos)},{label(path)}" for path in rows]
    (folder / "m.csv").write_text("\n".join(["path,label", *lines]))
    extract(folder / "m.csv", folder / "m.h5", ExtractSpec(size=32, blocks=(1,)), root=photos)
    return folder / "m.h5"


@pytest.mark.parametrize(
    ("labels", "folds", "notes"),
    [
        (lambda path: "", 5, ["outliers need at least 32 images, got 24", "has no labels; extract a folder"]),
        (lambda path: path.parent.name + "|all", 5, ["got 24", "labels were not checked: .* is multi-label"]),
        (lambda path: "-".join(path.parts[-2:]), 5, ["got 24", "labels were not checked: .* each class has one"]),
        (
            lambda path: "red" if path.parent.name == "red" else str(path),
            5,
            ["got 24", "labels were not checked: only class red has several images or groups"],
        ),
    ],
    ids=["unlabeled", "multi-label", "one image per class", "one class of several images"],
)
def test_notes_say_what_could_not_be_looked_for(tmp_path, photos, oxford, labels, folds, notes):
    found = suspects(small_store(tmp_path, photos, labels), folds=folds)
    assert found.min_cosine is None
    assert found.mislabeled == found.near_duplicates == found.outliers == found.confused == ()
    assert found.pairs_across_splits == {}
    for note, pattern in zip(found.notes, notes, strict=True):
        assert re.search(pattern, note), note


def test_augmented_copies_are_not_near_duplicates(tmp_path, photos, oxford):
    extract(photos, tmp_path / "v.h5", ExtractSpec(size=32, blocks=(1,), n_views=2, augment="flip"))
    found = suspects(tmp_path / "v.h5", folds=4)
    assert found.images == 24
    assert found.near_duplicates == ()


def test_errors_name_the_option(garden, tmp_path, photos, oxford):
    with pytest.raises(
        DataError, match=r"--split-column of suspects must be a split column of .* \(split\), got place"
    ):
        suspects(garden / "garden.h5", split_column="place")
    with pytest.raises(DataError, match=r"\(none: extract a manifest that has one\), got split"):
        suspects(small_store(tmp_path, photos), split_column="split")
    with pytest.raises(SpecError, match="folds must be 2 or more, got 1"):
        suspects(garden / "garden.h5", folds=1)


def test_checking_labels_needs_cleanlab(garden, monkeypatch):
    monkeypatch.setitem(sys.modules, "cleanlab.filter", None)
    with pytest.raises(EngineError, match=r"suspects needs? a package: pip install 'featx\[suspects\]'"):
        suspects(garden / "garden.h5")


def test_the_sheet_has_a_tile_per_suspect_and_a_cross_for_a_missing_image(garden, found, tmp_path):
    whole = draw_suspects(found, garden, limit=2)
    one = dataclasses.replace(found, near_duplicates=(), outliers=(), mislabeled=found.mislabeled[:1])
    assert draw_suspects(one, garden).height < whole.height
    pixels = np.asarray(draw_suspects(one, garden))
    path = one.mislabeled[0].path
    thumbnail = Image.open(garden / path).convert("RGB")
    thumbnail.thumbnail((THUMBNAIL_SIDE, THUMBNAIL_SIDE))
    shown = [
        (pixels[top : top + thumbnail.height, 4 : 4 + thumbnail.width] == np.asarray(thumbnail)).all()
        for top in range(20, 40)
    ]
    assert any(shown)
    gone = dataclasses.replace(
        one, mislabeled=(one.mislabeled[0], dataclasses.replace(one.mislabeled[0], path="no/" * 20))
    )
    assert (np.asarray(draw_suspects(gone, garden)) == 160).all(axis=-1).any()
    with pytest.raises(ImageError, match=r"--root of suspects must be the folder .* for example"):
        draw_suspects(found, tmp_path)


def test_suspects_print_their_counts(garden, found):
    lines = repr(found).splitlines()
    assert lines[0] == f"Suspects({garden / 'garden.h5'}: 124 images)"
    assert lines[1].startswith(f"  {len(found.mislabeled)} probably mislabeled, {len(found.near_duplicates)} near-dup")
    assert lines[1].endswith("1 failed")


def test_a_sheet_without_suspects_has_only_titles(found):
    nothing = dataclasses.replace(found, mislabeled=(), near_duplicates=(), outliers=())
    assert draw_suspects(nothing, "nowhere").height < THUMBNAIL_SIDE


def test_the_command_prints_suspects_draws_them_and_writes_json(garden, found, tmp_path):
    sheet = tmp_path / "sheet.png"
    options = ["suspects", str(garden / "garden.h5"), "--sheet", str(sheet), "--root", str(garden)]
    result = CliRunner().invoke(main, [*options, "--limit", "1"])
    assert result.exit_code == 0, result.output
    assert sheet.read_bytes()[:4] == b"\x89PNG"
    lines = result.stdout.splitlines()
    assert lines[0] == f"probably mislabeled: {len(found.mislabeled)}"
    assert f"near-duplicates ({found.pairs_across_splits['split']} across split): {len(found.near_duplicates)}" in lines
    assert f"  and {len(found.near_duplicates) - 1} more" in lines
    assert f"  {found.failed[0].path}: {found.failed[0].reason}" in lines
    document = json.loads(CliRunner().invoke(main, [*options, "--json"]).stdout)
    assert document["near_duplicates"] == json.loads(json.dumps([dataclasses.asdict(p) for p in found.near_duplicates]))
    assert ConfusedClasses(**document["confused"][0]) == found.confused[0]
    assert FailedImage(**document["failed"][0]) == found.failed[0]


def test_a_sheet_of_unknown_format_is_refused_first(tmp_path):
    """The store does not exist either, but the message is about the sheet."""
    refused = CliRunner().invoke(main, ["suspects", str(tmp_path / "no.h5"), "--sheet", str(tmp_path / "sheet.txt")])
    assert refused.exit_code == 1
    message = "--sheet of suspects must end in the suffix of an image format, such as .png, got 'sheet.txt'"
    assert message in refused.output


def test_without_suspects_no_sheet_is_written(tmp_path, photos, oxford):
    sheet = tmp_path / "sheet.png"
    store = small_store(tmp_path, photos)
    options = ["--folds", "2", "--sheet", str(sheet), "--root", str(photos)]
    result = CliRunner().invoke(main, ["suspects", str(store), *options])
    assert result.exit_code == 0, result.output
    assert "probably mislabeled: nothing found\nnear-duplicates: nothing found\n" in result.stdout
    assert "sheet.png not written: there is nothing to draw" in result.stderr
    assert not sheet.exists()


def test_the_command_prints_notes(tmp_path, photos, oxford):
    result = CliRunner().invoke(main, ["suspects", str(small_store(tmp_path, photos)), "--folds", "2"])
    assert result.exit_code == 0, result.output
    assert "near-duplicates and outliers need at least 32 images" in result.stderr

"""Groups of the user, such as patients, stay on one side of every fold, hold-out and validation."""

import json

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from featx.cli.group import main
from featx.curation.dataset import load_features
from featx.errors import DataError, FeatxWarning
from featx.extraction import extract
from featx.heads import HeadSearchCV
from featx.heads.splitting.folds import make_folds
from featx.heads.splitting.groups import combine_groups
from featx.heads.splitting.holdout import hold_out
from featx.images import ListingOptions
from featx.models.evaluation import evaluate
from featx.models.fit_options import FitOptions, Validation
from featx.models.fitting import fit
from featx.models.model_file import load_model
from featx.models.row_groups import GroupOptions
from featx.models.training_rows import read_training_rows
from featx.spec.extract_spec import ExtractSpec
from featx.store.reader import Store

pytestmark = pytest.mark.core

PATIENTS, SHOTS = 8, 5
HEAD = {"head": "linear-svc", "C": 1.0, "blocks": (3, 4)}
SPEC = ExtractSpec(size=48)


def run(*arguments, code=0):
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert result.exit_code == code, result.output + repr(result.exception)
    return result


@pytest.fixture(scope="session")
def patients(tmp_path_factory, oxford):
    """A store of patients with several images each, extracted by the command; the label depends on the patient."""
    root = tmp_path_factory.mktemp("patients")
    lines = ["path,label,patient,site"]
    for patient in range(PATIENTS):
        pixels = np.random.default_rng(patient).integers(0, 256, (9, 12, 3), dtype=np.uint8)
        image = Image.fromarray(pixels).resize((96, 72), Image.Resampling.NEAREST)
        for shot in range(SHOTS):
            image.save(root / f"p{patient}_{shot}.jpg", quality=70 + 4 * shot)
            lines.append(f"p{patient}_{shot}.jpg,{'ab'[patient % 2]},{patient},{patient // 4}")
    (root / "manifest.csv").write_text("\n".join(lines))
    run("extract", root / "manifest.csv", "-o", root / "patients.h5", "--group-column", "patient", "--size", 48, "-q")
    return root / "patients.h5"


def groups_of(store):
    with Store(store) as opened:
        return np.array(opened.columns["group"])


def test_extract_keeps_the_column_and_info_counts_its_groups(patients):
    assert groups_of(patients).tolist() == [str(patient) for patient in range(PATIENTS) for _ in range(SHOTS)]
    assert json.loads(run("info", patients, "--json").stdout)["groups"] == PATIENTS


@pytest.mark.filterwarnings("ignore:40 of 40 images have near-duplicates")
def test_without_groups_the_score_is_near_one_and_with_them_near_chance(patients):
    """The images of a patient look alike, and the labels of patients are arbitrary."""
    apart = fit(patients, validation=Validation(folds=4, group_column="none"), **HEAD)
    together = fit(patients, validation=Validation(folds=4), **HEAD)
    assert apart.info["search"]["best"]["mean"] == 1
    assert together.info["search"]["best"]["mean"] < 0.7
    assert "groups" not in apart.info
    assert together.info["groups"] == {
        "column": "group", "source": "patient", "near_duplicates": False, "count": PATIENTS,
    }  # fmt: skip


def test_the_command_says_which_groups_it_used(patients, tmp_path):
    model = tmp_path / "m.featx"
    options = ["-o", model, "--overwrite", "--head", "softmax", "--C", 1, "--blocks", 3, "--folds", 4]
    by_default = run("fit", patients, *options)
    assert by_default.stderr == ""
    assert by_default.stdout.endswith("2 classes, 40 rows, groups: 8 by column patient\n")
    assert "groups: 8 by column patient\n" in run("info", model).stdout
    assert "groups: 8 by column patient" in repr(load_model(model))
    saved = model.read_bytes()
    for name in ("patient", "group"):
        run("fit", patients, *options, "--group-column", name)
        assert model.read_bytes() == saved
    wrong = run("fit", patients, *options, "--group-column", "doctor", code=1)
    assert "--group-column must be none or one of the columns of" in wrong.stderr
    assert "(group), got doctor; extract keeps the column that its option --group-column names" in wrong.stderr


@pytest.mark.parametrize("stream", [False, True])
def test_a_hold_out_keeps_groups_together(patients, stream):
    validation, options = Validation(test_size=0.25, folds=3 if not stream else 5), FitOptions(stream=stream)
    model = fit(patients, head="softmax", C=1.0, blocks=(3,), validation=validation, options=options)
    assert model.info["groups"]["count"] == PATIENTS * 3 // 4
    groups = groups_of(patients)
    rows = read_training_rows(patients, test_size=0.25).row_index
    held = np.setdiff1d(np.arange(len(groups)), rows)
    assert model.info["rows"] == len(rows)
    assert not {*groups[rows]} & {*groups[held]}
    assert evaluate(model, patients)["n"] == len(held) == PATIENTS * SHOTS // 4


def test_nested_cross_validation_keeps_groups_together(patients):
    model = fit(patients, validation=Validation(folds=4, nested=True), **HEAD)
    assert model.info["nested"]["mean"] < 0.7


@pytest.mark.filterwarnings("ignore:40 of 40 images have near-duplicates")
def test_calibration_keeps_groups_together(patients):
    """With groups apart, all probabilities would be near 0 and 1."""
    data = load_features(patients, blocks=(3, 4))
    confidence = {}
    for column in ("none", "group"):
        validation = Validation(folds=4, group_column=column)
        model = fit(patients, validation=validation, options=FitOptions(calibrate=True), **HEAD)
        confidence[column] = model.predict_proba(data.data).max(axis=1).mean()
    assert confidence["none"] > 0.9
    assert confidence["group"] < 0.75


def split_manifest(patients, tmp_path, split_of):
    """Extract the images of the patients again, with the split that ``split_of`` gives for the number of each row."""
    tmp_path.mkdir(exist_ok=True)
    root = patients.parent
    lines = (root / "manifest.csv").read_text().splitlines()
    rows = [f"{line},{split_of(number)}" for number, line in enumerate(lines[1:])]
    (tmp_path / "split.csv").write_text("\n".join([f"{lines[0]},split", *rows]))
    options = ListingOptions(group_column="patient")
    extract(tmp_path / "split.csv", tmp_path / "split.h5", SPEC, root=root, listing=options)
    return tmp_path / "split.h5"


def test_evaluate_warns_if_a_group_is_on_both_sides_of_the_split(patients, tmp_path):
    store = split_manifest(patients, tmp_path, lambda row: "test" if row % SHOTS == 0 else "train")
    model = fit(store, validation=Validation(folds=4), **HEAD)
    with pytest.warns(FeatxWarning, match=r"^8 of 8 scored images belong to groups \(column patient\) that the model"):
        report = evaluate(model, store)
    assert report["in_fitted_groups"] == PATIENTS
    assert report["accuracy"] == 1
    clean = split_manifest(patients, tmp_path / "clean", lambda row: "test" if row // SHOTS < 2 else "train")
    assert "in_fitted_groups" not in evaluate(fit(clean, validation=Validation(folds=3), **HEAD), clean)


def test_images_without_a_group_count_for_themselves_and_that_is_said(photos, tmp_path):
    paths = sorted(path.relative_to(photos) for path in photos.rglob("*.png"))
    lines = [f"{path},{path.parent},{'' if path.stem < '4' else path.stem}" for path in paths]
    (tmp_path / "m.csv").write_text("\n".join(["path,label,group", *lines]))
    extract(tmp_path / "m.csv", tmp_path / "m.h5", ExtractSpec(size=32, blocks=(1,)), root=photos)
    with pytest.warns(FeatxWarning) as caught:
        model = fit(tmp_path / "m.h5", head="softmax", C=1.0, validation=Validation(folds=4))
    said = [str(warning.message) for warning in caught]
    assert said == ["12 images have no value in the column group: each counts as a group of its own"]
    assert model.info["groups"]["count"] == 16


def test_equal_files_link_groups_and_that_is_said(photos, tmp_path):
    (photos / "blue" / "1.png").write_bytes((photos / "blue" / "0.png").read_bytes())
    paths = sorted(path.relative_to(photos) for path in photos.rglob("*.png"))
    lines = [f"{path},{path.parent},{path}" for path in paths]
    (tmp_path / "m.csv").write_text("\n".join(["path,label,group", *lines]))
    extract(tmp_path / "m.csv", tmp_path / "m.h5", ExtractSpec(size=32, blocks=(1,)), root=photos)
    said = "equal files are in several groups of the column group: 1 group is kept together with another one"
    with pytest.warns(FeatxWarning, match=f"^{said}$"):
        model = fit(tmp_path / "m.h5", head="softmax", C=1.0, validation=Validation(folds=4))
    assert model.info["groups"]["count"] == 23


def test_load_features_returns_the_groups(patients):
    data = load_features(patients)
    assert len(set(data.groups)) == PATIENTS
    search = HeadSearchCV(("softmax",), [1.0], normalize="power", cv=4).fit(data.data, data.target, groups=data.groups)
    assert search.best_score_ < 0.7


def test_groups_are_combined_with_equal_images():
    images = np.array(["d", "a", "a", "c", "b", "e"])
    assert combine_groups(images).tolist() == [3, 0, 0, 2, 1, 4]
    given = ["x", "", "y", "y", "", "x"]
    assert combine_groups(images, given).tolist() == [2, 0, 0, 0, 1, 2]
    assert combine_groups(images, given, [(0, 4)]).tolist() == [1, 0, 0, 0, 1, 1]
    assert combine_groups(images, None, np.zeros((0, 2), int)).tolist() == [3, 0, 0, 2, 1, 4]
    assert combine_groups(np.arange(4), [7, 7, 8, 9]).tolist() == [0, 0, 1, 2]


@pytest.mark.parametrize("seed", range(5))
def test_groups_with_several_classes_are_balanced_by_rows(seed):
    """Each patient has healthy and sick images, so no class is that of the first row of a group."""
    rng = np.random.default_rng(seed)
    sizes = rng.integers(2, 9, 30)
    groups = np.repeat(np.arange(30), sizes)
    y = np.where(rng.random(len(groups)) < 0.3, "sick", "healthy")
    y[np.unique(groups, return_index=True)[1]] = "healthy"
    folds = make_folds(y, groups, 5, seed=seed)
    shares = [(y[test] == "sick").mean() for _, test in folds]
    assert max(shares) - min(shares) < 0.15
    np.testing.assert_array_equal(np.sort(np.concatenate([test for _, test in folds])), np.arange(len(y)))
    train, test = hold_out((y == "sick").astype(int), groups, 0.2, seed)
    assert not {*groups[train]} & {*groups[test]}
    assert {*y[train]} == {*y[test]} == {"sick", "healthy"}


def test_a_group_column_needs_a_store_that_has_it(shared_store):
    with pytest.raises(DataError, match=r"--group-column must be none or one of the columns of .* \(none\), got group"):
        read_training_rows(shared_store, groups=GroupOptions("group"))
    plain = read_training_rows(shared_store)
    none = read_training_rows(shared_store, groups=GroupOptions("none"))
    assert plain.grouping == none.grouping == {}
    np.testing.assert_array_equal(plain.groups, none.groups)


@pytest.mark.slow
def test_fine_tuning_validates_on_other_groups(patients, tmp_path):
    from featx.finetuning.recipe import Recipe
    from featx.finetuning.starting_point import read_finetune_data

    model = fit(patients, tmp_path / "m.featx", validation=Validation(folds=4), **HEAD)
    data = read_finetune_data(model, patients, Recipe(val_size=0.25))
    with Store(patients) as store:
        group_of = dict(zip(store.paths, store.columns["group"], strict=True))
    sides = [{group_of[path] for path in subset.digests} for subset in (data.train, data.val)]
    assert not sides[0] & sides[1]
    assert len(sides[0]) + len(sides[1]) == PATIENTS

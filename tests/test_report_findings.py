"""What a report's sections find: each against the same told apart by other means."""

import dataclasses
import json
import shlex

import h5py
import numpy as np
import pytest

from featx import load_features, load_model
from featx.extraction import extract
from featx.inspection.advice.cases import CASES
from featx.inspection.html_report.decisions import read_decisions
from featx.inspection.html_report.page import load_templates, render
from featx.inspection.html_report.run import open_run
from featx.inspection.html_report.section import percent
from featx.inspection.html_report.sections import (
    accuracy,
    advice,
    classes,
    commands,
    confusion,
    feature_map,
    mistakes,
    reliability,
    suspects,
)
from featx.inspection.suspect_images.findings import Confused, NearDuplicate, Suspects
from featx.models.fit_options import FitOptions, Validation
from featx.models.fitting import fit
from featx.spec.extract_spec import ExtractSpec


@pytest.fixture(scope="module")
def run(hostile_model):
    return open_run(hostile_model, root=hostile_model.parent / "images")


def changed(run, **values):
    """The run with other values of what it has found out."""
    other = dataclasses.replace(run)
    vars(other).update(values)
    return other


def points_of(text):
    return np.array([[float(number) for number in pair.split(",")] for pair in text.split()])


# Which rows


@pytest.mark.parametrize(("column", "rows", "across"), [("split", 30, ()), ("split_1", 21, ("split_1",))])
def test_a_store_is_looked_at_by_the_column_that_is_asked_for(hostile_model, tmp_path, column, rows, across):
    store = tmp_path / "s.h5"
    store.write_bytes(hostile_model.with_suffix(".h5").read_bytes())
    with h5py.File(store, "r+") as file:
        file.copy(file["splits/split"], file["splits"], "split_1")
        file["splits/split_1"][:] = np.array(["train", "test"] * 21, object)
        for values in file["features"].values():
            values[1] = values[0]
    found = open_run(store, split_column=column)
    assert found.probe.rows == rows
    (pair,) = [pair for pair in found.suspects.near_duplicates if pair.cosine > 0.999]
    assert pair.across == across


# Accuracy


def test_of_several_labels_naming_one_is_not_called_right(tmp_path, photos, oxford):
    rows = [
        f"{path.relative_to(photos)},{path.parent.name}|{'some' if int(path.stem) < 6 else 'others'}"
        for path in sorted(photos.rglob("*.png"))
    ]
    (tmp_path / "m.csv").write_text("\n".join(["path,label", *rows]))
    extract(tmp_path / "m.csv", tmp_path / "m.h5", ExtractSpec(size=32, blocks=(1,)), root=photos)
    fit(tmp_path / "m.h5", tmp_path / "m.featx", head="ovr-logistic", C=1, validation=Validation(folds=3))
    said = accuracy.make(open_run(tmp_path / "m.featx")).data.majority
    assert said == "The most frequent class is one of those of 75.0\N{NO-BREAK SPACE}% of these images."


def test_the_most_frequent_class_is_what_guessing_would_get_right(run):
    said = "Always naming the most frequent class would be right in 50.0\N{NO-BREAK SPACE}% of these images."
    assert accuracy.make(run).data.majority == said


def test_on_the_folds_that_chose_it_a_model_is_flattered(shared_store, tmp_path):
    """Unless nested cross-validation says what the choice is worth, or there was none."""
    options = {"head": "softmax", "blocks": (1,)}
    sections = {}
    for name, more in {"alone": {"C": 1.0}, "chosen": {}, "nested": {}}.items():
        model = fit(
            shared_store,
            tmp_path / f"{name}.featx",
            validation=Validation(folds=3, nested=name == "nested"),
            **options,
            **more,
        )
        sections[name] = accuracy.make(open_run(tmp_path / f"{name}.featx", store=shared_store))
    tried = len(model.info["search"]["rows"])
    assert tried > 3
    assert "95 % interval" in sections["alone"].lead
    assert "flatters" not in sections["alone"].lead
    choice = f"each by a fit without it, but on the folds that chose the best of {tried} candidates, so that "
    assert (
        f"{choice}it flatters. For a score that does not, fit with --nested or --test-size." in sections["chosen"].lead
    )
    assert sections["chosen"].figure.more == f"flattered: best of {tried}"
    error = f"standard error {percent(model.info['nested']['standard_error'])}"
    found = percent(model.info["nested"]["mean"])
    assert sections["nested"].lead.startswith(
        f"Accuracy is {found} by nested cross-validation, {error}. The scores here"
    )
    assert f"{choice}they flatter." in sections["nested"].lead
    assert (sections["nested"].figure.value, sections["nested"].figure.more) == (found, f"nested, {error}")
    for name, section in sections.items():
        assert any(score.interval for score in section.data.scores) == (name == "alone")


def test_an_estimate_that_is_no_share_is_no_percentage(shared_store, tmp_path):
    fit(
        shared_store,
        tmp_path / "m.featx",
        head="softmax",
        blocks=(1,),
        validation=Validation(folds=3, nested=True, scoring="neg_log_loss"),
    )
    assert accuracy.make(open_run(tmp_path / "m.featx", store=shared_store)).lead.startswith("Neg log loss is -0.")


def test_a_table_without_intervals_has_no_columns_for_them(run):
    scores = tuple(dataclasses.replace(score, interval=None) for score in accuracy.make(run).data.scores)
    section = accuracy.make(run)
    without = dataclasses.replace(section, data=dataclasses.replace(section.data, scores=scores))
    pages = [render(load_templates(), "m", "s", [one], {}) for one in (section, without)]
    assert ["Interval by" in page for page in pages] == [True, False]


# Classes


def test_a_class_says_what_it_is_taken_for_and_how_often(run):
    rows = {row.name: row.taken_for for row in classes.make(run).data.rows}
    assert (rows.pop("green"), set(rows.values())) == ("red (2)", {""})
    assert next(iter(classes.make(run).data.rows)).name == "red"


# Reliability


@pytest.mark.parametrize(
    ("sure", "says"), [(0.99, "The model is surer than it may be"), (0.4, "The model is less sure than it could be")]
)
def test_a_model_is_told_whether_it_is_too_sure(run, sure, says):
    """Ten of twelve are right."""
    found = run.decisions
    probability = np.full((12, 3), (1 - sure) / 2)
    probability[np.arange(12), found.guesses] = sure
    other = dataclasses.replace(found, scored=dataclasses.replace(found.scored, probability=probability))
    lead = reliability.make(changed(run, decisions=other)).lead
    assert lead.startswith(f"{says}: it claims {100 * sure:.1f}")
    assert "is right in 83.3" in lead


def test_sigmoids_that_were_fitted_to_these_decisions_flatter(run, shared_store, tmp_path):
    """Of images held out they were not, and the other heads have none."""
    sections = {"held out": reliability.make(run)}
    for head in ("linear-svc", "softmax"):
        fit(
            shared_store,
            tmp_path / "m.featx",
            head=head,
            C=1,
            blocks=(1,),
            overwrite=True,
            options=FitOptions(calibrate=head == "linear-svc"),
            validation=Validation(folds=3),
        )
        sections[head] = reliability.make(open_run(tmp_path / "m.featx", store=shared_store))
    assert [name for name, section in sections.items() if "The sigmoids were fitted to" in section.lead] == [
        "linear-svc"
    ]


# The map


def test_a_class_name_stands_where_its_images_are_densest(run):
    data = feature_map.make(run).data
    for place in data.places:
        own = np.array([(point.x, point.y) for point in data.points if point.code == place.code])
        apart = np.sort(np.linalg.norm(own[:, np.newaxis] - own, axis=-1), axis=1)
        reach = apart[:, min(feature_map.NEAR, len(own)) - 1]
        assert (place.x, place.y) in set(map(tuple, own[reach <= reach.min() + 1e-9].tolist()))
        assert reach.min() < reach.max()


def test_the_map_counts_nearest_neighbors_of_the_own_class(run):
    data = load_features(run.store, blocks=(1, 2), pool="avg")
    X = run.model.estimator.named_steps["normalizer"].transform(data.data)
    distance = np.linalg.norm(X[:, np.newaxis] - X, axis=-1) + np.diag(np.full(len(X), np.inf))
    same = (data.target[distance.argmin(axis=1)] == data.target).mean()
    assert 0.5 < same < 1
    assert f"any head is fitted, {100 * same:.1f}\N{NO-BREAK SPACE}%" in feature_map.make(run).lead


# Suspects


def test_pairs_across_splits_come_first(run):
    paths = run.images.paths
    one_side = NearDuplicate(paths[0], paths[1], 0.99, (), False)
    across = NearDuplicate(paths[2], paths[3], 0.95, ("split",), False)
    found = Suspects(str(run.store), 42, 0.9, (), (one_side, across), (), (), (), ())
    section = suspects.make(changed(run, suspects=found))
    assert section.data.pairs == (across, one_side)
    assert section.images == {0, 1, 2, 3}
    assert section.data.numbers == {path: number for number, path in enumerate(paths[:4])}


def test_a_store_alone_shows_which_classes_are_confused(run):
    """With a model, the confusion matrix does."""
    found = dataclasses.replace(run.suspects, confused=(Confused("red", "green", 3),))
    assert not suspects.make(changed(run, suspects=found)).data.confusions
    assert suspects.make(changed(open_run(run.store), suspects=found)).data.confusions


# The advice


def test_the_law_is_drawn_from_the_first_point_through_the_forecast(run):
    def law(images):
        return 0.9 - 0.6 * images**-0.5

    now, then = (dataclasses.replace(one, accuracy=law(one.per_class), low=0.5) for one in run.advice.size.forecasts)
    curve = tuple(dataclasses.replace(point, mean=law(point.per_class)) for point in run.advice.size.curve)
    size = dataclasses.replace(run.advice.size, floor=0.1, factor=0.6, exponent=0.5, curve=curve, forecasts=(now, then))
    data = advice.make(changed(run, advice=dataclasses.replace(run.advice, size=size))).data

    def place(images):
        return data.curve.x(images), data.curve.y(law(images))

    known, beyond = points_of(data.known), points_of(data.beyond)
    assert tuple(known[0]) == place(size.curve[0].per_class)
    assert tuple(known[-1]) == tuple(beyond[0]) == place(size.curve[-1].per_class)
    assert tuple(beyond[-1]) == place(then.per_class)
    assert (np.diff(known[:, 1]) < 0).all()


@pytest.mark.parametrize(("score", "above"), [(0.9, False), (0.6, True), (None, True)])
def test_the_words_of_a_quarter_stand_where_the_dot_is_not(run, score, above):
    likeness = dataclasses.replace(run.advice.likeness, score=score)
    size = dataclasses.replace(run.advice.size, score=0.8, low=0.7, high=0.9)
    case = next(case for case in CASES if case.large and case.alike)
    found = dataclasses.replace(run.advice, likeness=likeness, size=size, case=case.name, way=case.way)
    data = advice.make(changed(run, advice=found)).data
    (chosen,) = [quarter for quarter in data.quarters if quarter.chosen]
    middle = chosen.y + chosen.height / 2
    assert (chosen.text < middle) == above
    assert all(quarter.text < quarter.y + quarter.height / 2 for quarter in data.quarters if not quarter.chosen)


# The commands


def test_a_model_of_all_rows_is_not_to_be_scored_on_them(shared_store, run, tmp_path):
    fit(shared_store, tmp_path / "m.featx", head="softmax", C=1, blocks=(1,))
    whole = commands.make(open_run(tmp_path / "m.featx", store=shared_store)).data
    assert [one.what for one in whole] == [
        "Extract the features",
        "Fit the head",
        "Look at every depth",
        "Make this page",
    ]
    elsewhere = open_run(tmp_path / "m.featx", store=run.store)
    assert "Score it" in [one.what for one in commands.make(elsewhere).data]
    assert "Score it" in [one.what for one in commands.make(run).data]


def test_the_page_is_made_again_with_its_logs(hostile_model, tmp_path):
    folders = [tmp_path / "a b.finetune", tmp_path / "c.finetune"]
    for folder in folders:
        folder.mkdir()
        (folder / "log.jsonl").write_text(json.dumps({"epoch": 0, "stage": "head", "val_accuracy": 0.5}))
    line = commands.make(open_run(hostile_model, finetune=folders)).data[-1].line
    words = shlex.split(line)
    assert [words[at + 1] for at, word in enumerate(words) if word == "--finetune"] == list(map(str, folders))


# Words


def test_one_is_one_image(run):
    found = run.decisions
    right = found.scored.labels.copy()
    wrong = np.flatnonzero(found.guesses != right)[1:]
    member = found.scored.targets.copy()
    member[wrong] = np.eye(3, dtype=bool)[found.guesses[wrong]]
    other = changed(run, decisions=dataclasses.replace(found, scored=dataclasses.replace(found.scored, member=member)))
    assert mistakes.make(other).lead.startswith("1 image is mistaken. ")
    assert confusion.make(other).lead.startswith("1 of 12 images is taken for another class")
    with_one = dataclasses.replace(load_model(run.model.path), path=run.model.path)
    assert read_decisions(with_one, run.store).how == "12 images that it was not fitted on"

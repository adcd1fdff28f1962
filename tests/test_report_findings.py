"""The sections of a report, compared with independent computations."""

import dataclasses
import json
import shlex

import h5py
import numpy as np
import pytest
from click.testing import CliRunner

from featx import load_features, load_model
from featx.cli import main
from featx.extraction import extract
from featx.inspection.advice.cases import CASES
from featx.inspection.advice.plots import plot_learning_curve, plot_plane
from featx.inspection.html_report.inputs import open_context
from featx.inspection.html_report.page import load_templates, render
from featx.inspection.html_report.section import percent
from featx.inspection.html_report.sections.accuracy import make_accuracy
from featx.inspection.html_report.sections.classes import make_classes, make_confusion
from featx.inspection.html_report.sections.commands import make_commands
from featx.inspection.html_report.sections.image_map import NEIGHBORS, make_image_map
from featx.inspection.html_report.sections.images import make_mistakes, make_suspects
from featx.inspection.html_report.sections.reliability import make_reliability
from featx.inspection.html_report.unseen import read_decisions
from featx.inspection.suspect_images.findings import ConfusedClasses, NearDuplicate, Suspects
from featx.models.fit_options import FitOptions, Validation
from featx.models.fitting import fit
from featx.spec.extract_spec import ExtractSpec


@pytest.fixture(scope="module")
def context(hostile_model):
    return open_context(hostile_model, root=hostile_model.parent / "images")


def changed(context, **values):
    """Return the context with other computed values."""
    other = dataclasses.replace(context)
    vars(other).update(values)
    return other


# Split columns


@pytest.mark.parametrize(("column", "rows", "across"), [("split", 30, ()), ("split_1", 21, ("split_1",))])
def test_the_report_of_a_store_uses_the_given_split_column(hostile_model, tmp_path, column, rows, across):
    store = tmp_path / "s.h5"
    store.write_bytes(hostile_model.with_suffix(".h5").read_bytes())
    with h5py.File(store, "r+") as file:
        file.copy(file["splits/split"], file["splits"], "split_1")
        file["splits/split_1"][:] = np.array(["train", "test"] * 21, object)
        for values in file["features"].values():
            values[1] = values[0]
    found = open_context(store, split_column=column)
    assert found.probe.rows == rows
    (pair,) = [pair for pair in found.suspects.near_duplicates if pair.cosine > 0.999]
    assert pair.split_columns == across


# Accuracy


def test_the_most_frequent_class_of_a_multi_label_store_is_worded_apart(tmp_path, photos, oxford):
    rows = [
        f"{path.relative_to(photos)},{path.parent.name}|{'some' if int(path.stem) < 6 else 'others'}"
        for path in sorted(photos.rglob("*.png"))
    ]
    (tmp_path / "m.csv").write_text("\n".join(["path,label", *rows]))
    extract(tmp_path / "m.csv", tmp_path / "m.h5", ExtractSpec(size=32, blocks=(1,)), root=photos)
    fit(tmp_path / "m.h5", tmp_path / "m.featx", head="ovr-logistic", C=1, validation=Validation(folds=3))
    said = make_accuracy(open_context(tmp_path / "m.featx")).data.majority
    assert said == "The most frequent class is among the labels of 75.0\N{NO-BREAK SPACE}% of these images."


def test_the_share_of_the_most_frequent_class_is_stated(context):
    said = "Always predicting the most frequent class would be correct for 50.0\N{NO-BREAK SPACE}% of these images."
    assert make_accuracy(context).data.majority == said


def test_scores_by_the_folds_that_selected_the_model_are_called_optimistic(shared_store, tmp_path):
    """Not if there was a single candidate; nested cross-validation gives an unbiased score."""
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
        sections[name] = make_accuracy(open_context(tmp_path / f"{name}.featx", store=shared_store))
    tried = len(model.info["search"]["rows"])
    assert tried > 3
    assert "95 % interval" in sections["alone"].lead
    assert "optimistic" not in sections["alone"].lead
    choice = f"The same folds selected this model among {tried} candidates, so "
    unbiased = "this score is optimistic; for an unbiased one, fit with --nested or --test-size."
    assert f"{choice}{unbiased}" in sections["chosen"].lead
    assert sections["chosen"].headline.remark == f"optimistic: best of {tried}"
    error = f"standard error {percent(model.info['nested']['standard_error'])}"
    found = percent(model.info["nested"]["mean"])
    assert sections["nested"].lead.startswith(
        f"Accuracy is {found} by nested cross-validation ({error}). "
        "The scores below are by cross-validation on 36 images."
    )
    assert f"{choice}they are optimistic." in sections["nested"].lead
    assert (sections["nested"].headline.value, sections["nested"].headline.remark) == (found, f"nested, {error}")
    for name, section in sections.items():
        assert any(score.interval for score in section.data.scores) == (name == "alone")


def test_a_loss_is_not_formatted_as_percent(shared_store, tmp_path):
    fit(
        shared_store,
        tmp_path / "m.featx",
        head="softmax",
        blocks=(1,),
        validation=Validation(folds=3, nested=True, scoring="neg_log_loss"),
    )
    assert make_accuracy(open_context(tmp_path / "m.featx", store=shared_store)).lead.startswith("Neg log loss is -0.")


def test_a_table_without_intervals_has_no_columns_for_them(context):
    scores = tuple(dataclasses.replace(score, interval=None) for score in make_accuracy(context).data.scores)
    section = make_accuracy(context)
    without = dataclasses.replace(section, data=dataclasses.replace(section.data, scores=scores))
    sections = [dataclasses.replace(one, name="accuracy") for one in (section, without)]
    pages = [render(load_templates(), "m", "s", [one], {}) for one in sections]
    assert ["Method of the interval" in page for page in pages] == [True, False]


# Classes


def test_a_class_names_the_class_it_is_most_often_confused_with(context):
    rows = {row.name: row.confused_with for row in make_classes(context).data.rows}
    assert (rows.pop("green"), set(rows.values())) == ("red (2)", {""})
    assert next(iter(make_classes(context).data.rows)).name == "red"


# Reliability


@pytest.mark.parametrize(("sure", "says"), [(0.99, "The model is overconfident"), (0.4, "The model is underconfident")])
def test_overconfidence_and_underconfidence_are_stated(context, sure, says):
    """Ten of twelve predictions are correct."""
    found = context.decisions
    probability = np.full((12, 3), (1 - sure) / 2)
    probability[np.arange(12), found.predictions] = sure
    other = dataclasses.replace(found, scored=dataclasses.replace(found.scored, probabilities=probability))
    lead = make_reliability(changed(context, decisions=other)).lead
    assert lead.startswith(f"{says}: its mean confidence is {100 * sure:.1f}")
    assert ", and 83.3" in lead


def test_calibration_on_the_scored_images_is_called_optimistic(context, shared_store, tmp_path):
    """Held-out images were not used for calibration, and softmax needs none."""
    sections = {"held out": make_reliability(context)}
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
        sections[head] = make_reliability(open_context(tmp_path / "m.featx", store=shared_store))
    assert [name for name, section in sections.items() if "The probabilities were calibrated on" in section.lead] == [
        "linear-svc"
    ]


# The map


def test_a_class_name_is_written_where_its_images_are_densest(context):
    data = make_image_map(context).data
    for place in data.labels:
        own = np.array([(point.x, point.y) for point in data.points if point.code == place.code])
        apart = np.sort(np.linalg.norm(own[:, np.newaxis] - own, axis=-1), axis=1)
        reach = apart[:, min(NEIGHBORS, len(own)) - 1]
        assert (place.x, place.y) in set(map(tuple, own[reach <= reach.min() + 1e-9].tolist()))
        assert reach.min() < reach.max()


def test_the_map_states_the_share_of_nearest_neighbors_of_the_same_class(context):
    data = load_features(context.store, blocks=(1, 2), pools="avg")
    X = context.model.estimator.named_steps["normalizer"].transform(data.data)
    distance = np.linalg.norm(X[:, np.newaxis] - X, axis=-1) + np.diag(np.full(len(X), np.inf))
    same = (data.target[distance.argmin(axis=1)] == data.target).mean()
    assert 0.5 < same < 1
    assert make_image_map(context).lead.startswith(f"For {100 * same:.1f}\N{NO-BREAK SPACE}% of the images")


# Suspects


def test_near_duplicates_across_splits_come_first(context):
    paths = context.images.paths
    one_side = NearDuplicate(paths[0], paths[1], 0.99, (), False)
    across = NearDuplicate(paths[2], paths[3], 0.95, ("split",), False)
    found = Suspects(str(context.store), 42, 0.9, (), (one_side, across), (), (), (), ())
    section = make_suspects(changed(context, suspects=found))
    assert section.data.pairs == (across, one_side)
    assert section.images == {0, 1, 2, 3}
    assert section.data.numbers == {path: number for number, path in enumerate(paths[:4])}


def test_the_report_of_a_store_lists_confused_classes(context):
    """With a model, the confusion matrix does."""
    found = dataclasses.replace(context.suspects, confused=(ConfusedClasses("red", "green", 3),))
    assert not make_suspects(changed(context, suspects=found)).data.show_confused
    assert make_suspects(changed(open_context(context.store), suspects=found)).data.show_confused


# The advice


def test_the_power_law_is_drawn_from_the_first_point_to_the_forecast(context):
    def law(images):
        return 0.9 - 0.6 * images**-0.5

    now, then = (
        dataclasses.replace(one, accuracy=law(one.per_class), low=0.5) for one in context.advice.size.forecasts
    )
    curve = tuple(dataclasses.replace(point, mean=law(point.per_class)) for point in context.advice.size.curve)
    size = dataclasses.replace(
        context.advice.size, floor=0.1, factor=0.6, exponent=0.5, curve=curve, forecasts=(now, then)
    )
    (axes,) = plot_learning_curve(size).axes
    known, beyond = (line.get_xydata() for line in axes.lines if len(line.get_xdata()) > len(curve))
    assert known[0] == pytest.approx((size.curve[0].per_class, law(size.curve[0].per_class)))
    assert known[-1] == pytest.approx(beyond[0])
    assert beyond[0] == pytest.approx((size.curve[-1].per_class, law(size.curve[-1].per_class)))
    assert beyond[-1] == pytest.approx((then.per_class, law(then.per_class)))
    assert (np.diff(known[:, 1]) > 0).all()


@pytest.mark.parametrize(("score", "top"), [(0.9, False), (0.6, True), (None, True)])
def test_the_text_of_a_quarter_of_the_plane_leaves_room_for_the_dot(context, score, top):
    similarity = dataclasses.replace(context.advice.similarity, score=score)
    size = dataclasses.replace(context.advice.size, score=0.8, low=0.7, high=0.9)
    case = next(case for case in CASES if case.large and case.similar)
    found = dataclasses.replace(
        context.advice, similarity=similarity, size=size, case=case.name, strategy=case.strategy
    )
    (axes,) = plot_plane(found).axes
    places = {text.get_text().partition("\n")[0]: text.get_verticalalignment() for text in axes.texts}
    assert {name: places[name] for name in [case.name for case in CASES]} == {
        one.name: "bottom" if one is case and not top else "top" for one in CASES
    }


# The commands


def test_a_model_fitted_on_all_rows_has_no_command_that_scores_it_on_them(shared_store, context, tmp_path):
    fit(shared_store, tmp_path / "m.featx", head="softmax", C=1, blocks=(1,))
    whole = make_commands(open_context(tmp_path / "m.featx", store=shared_store)).data
    assert [one.purpose for one in whole] == [
        "Extract the features",
        "Fit the head",
        "Compare the depths",
        "Write this page",
    ]
    elsewhere = open_context(tmp_path / "m.featx", store=context.store)
    assert "Score the model" in [one.purpose for one in make_commands(elsewhere).data]
    assert "Score the model" in [one.purpose for one in make_commands(context).data]


def test_options_become_flags_and_recipes_of_older_models_get_present_names(context):
    recipe = {"learning_rate": 0.01, "trunk_factor": 0.1, "average": 0.9, "seed": 3, "refit": True, "amp": False}
    info = {**context.model.info, "finetune": {"recipe": recipe}}
    tuned = dataclasses.replace(context, model=dataclasses.replace(context.model, info=info))
    lines = {one.purpose: one.line for one in make_commands(tuned).data}
    options = "--lr 0.01 --backbone-lr-scale 0.1 --ema-decay 0.9 --seed 3 --refit --no-amp"
    assert lines["Fine-tune it"].endswith(options)
    assert CliRunner().invoke(main, [*shlex.split(lines["Fine-tune it"])[1:], "--help"]).exit_code == 0


def test_the_commands_keep_the_seed_of_the_hold_out(shared_store, tmp_path):
    validation = Validation(test_size=0.25, random_state=4)
    fit(shared_store, tmp_path / "m.featx", head="softmax", C=1, blocks=(1,), validation=validation)
    lines = {
        one.purpose: one.line for one in make_commands(open_context(tmp_path / "m.featx", store=shared_store)).data
    }
    assert lines["Compare the depths"] == f"featx probe {shared_store} --test-size 0.25 --seed 4"
    assert lines["Fit the head"].count("--seed 4") == 1


def test_the_command_for_the_page_includes_its_logs(hostile_model, tmp_path):
    folders = [tmp_path / "a b.finetune", tmp_path / "c.finetune"]
    for folder in folders:
        folder.mkdir()
        (folder / "log.jsonl").write_text(json.dumps({"epoch": 0, "stage": "head", "val_accuracy": 0.5}))
    line = make_commands(open_context(hostile_model, finetune=folders)).data[-1].line
    words = shlex.split(line)
    assert [words[at + 1] for at, word in enumerate(words) if word == "--finetune"] == list(map(str, folders))


# Singular and plural


def test_a_single_image_is_worded_in_the_singular(context):
    found = context.decisions
    right = found.scored.labels.copy()
    wrong = np.flatnonzero(found.predictions != right)[1:]
    targets = found.scored.targets.copy()
    targets[wrong] = np.eye(3, dtype=bool)[found.predictions[wrong]]
    other = changed(
        context, decisions=dataclasses.replace(found, scored=dataclasses.replace(found.scored, targets=targets))
    )
    assert make_mistakes(other).lead.startswith("1 image is misclassified. ")
    assert make_confusion(other).lead.startswith("1 of 12 images is misclassified, most often ")
    with_one = dataclasses.replace(load_model(context.model.path), path=context.model.path)
    assert read_decisions(with_one, context.store).how == "on 12 images that the model was not fitted on"

import shutil
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from conftest import SPEC, draw, fill

from featx.cli.group import main
from featx.curation.neighbors import nearest
from featx.engines.batching import BatchedEngine
from featx.errors import ListingError, SpecError, SpecMismatch, StoreError, WeightsError
from featx.extraction import extract
from featx.models.evaluation import evaluate
from featx.models.fit_options import Validation
from featx.models.fitting import fit
from featx.models.prediction import predict
from featx.runtime.compute import Compute
from featx.store.reader import Store


@pytest.fixture(scope="module")
def model(shared_store):
    return fit(shared_store, head="softmax", blocks=(1, 3), C=1.0, validation=Validation(folds=3))


def test_files_folders_and_stores_give_the_same_predictions(model, shared_store, shared_photos):
    from_store = list(predict(model, [shared_store]))
    from_folder = list(predict(model, [shared_photos]))
    assert [p.classes for p in from_store] == [p.classes for p in from_folder]
    assert [str(shared_photos / p.path) for p in from_store] == [p.path for p in from_folder]
    np.testing.assert_allclose([p.probabilities for p in from_store], [p.probabilities for p in from_folder], atol=1e-4)
    one = next(predict(model, [shared_photos / "red" / "3.png"]))
    assert one.classes == ("red",)
    assert one.path == str(shared_photos / "red" / "3.png")


def test_predictions_have_the_order_of_the_sources(model, shared_store, shared_photos):
    one, other = shared_photos / "red" / "3.png", shared_photos / "blue" / "1.png"
    found = [p.path for p in predict(model, [one, shared_store, other])]
    assert (found[0], found[-1]) == (str(one), str(other))
    assert len(found) == 2 + 36


def test_neighboring_files_share_batches_and_keep_their_order(model, shared_photos, tmp_path, monkeypatch):
    """The order is kept with unreadable files, repeated files and any names."""
    (tmp_path / "bad.png").write_bytes(b"")
    (tmp_path / "of.png").mkdir()
    draw(0, 1).save(tmp_path / "of.png" / "in it.png")
    photos = [shared_photos / "red" / "3.png", tmp_path / "bad.png", shared_photos / "blue" / "1.png"]
    monkeypatch.chdir(shared_photos)
    sources = [*map(str, photos), "./red/3.png", str(photos[0]), tmp_path / "of.png", photos[2]]
    passes, compute = [], BatchedEngine.__call__
    monkeypatch.setattr(BatchedEngine, "__call__", lambda engine, x: passes.append(len(x)) or compute(engine, x))
    found = list(predict(model, sources, Compute(batch_size=8)))
    assert [p.path for p in found] == [
        *map(str, photos), "red/3.png", str(photos[0]), str(tmp_path / "of.png" / "in it.png"), str(photos[2])
    ]  # fmt: skip
    assert [bool(p.reason) for p in found] == [False, True, False, False, False, False, False]
    assert [p.classes for p in found if not p.reason] == [("red",), ("blue",), ("red",), ("red",), ("red",), ("blue",)]
    assert passes[-3:] == [4, 1, 1]  # the passes before are for the reference images


def test_images_of_any_folder_layout_are_predicted(model, tmp_path):
    """Images beside class folders, or in a folder whose name cannot be a class, are predicted too."""
    fill(tmp_path / "photos", each=1)
    draw(0, 1).save(tmp_path / "photos" / "loose.png")
    (tmp_path / "photos" / "a|b").mkdir()
    draw(0, 2).save(tmp_path / "photos" / "a|b" / "1.png")
    found = list(predict(model, [tmp_path / "photos"]))
    assert [p.path.removeprefix(f"{tmp_path}/photos/") for p in found] == [
        "a|b/1.png", "blue/0.png", "green/0.png", "loose.png", "red/0.png"
    ]  # fmt: skip
    assert not any(p.reason for p in found)


def test_fields_of_compute_without_effect_are_refused(model, shared_store):
    with pytest.raises(SpecError, match="shard of Compute is not supported by predict, got '1/2'; leave it out"):
        next(predict(model, [shared_store], Compute(shard="1/2")))


def test_a_missing_source_is_reported_before_anything_is_computed(model, shared_store, tmp_path):
    with pytest.raises(ListingError, match="typo"):
        next(predict(model, [shared_store, tmp_path / "typo"]))


def test_top_gives_classes_best_first(model, shared_photos):
    found = next(predict(model, [shared_photos / "red" / "3.png"], top=9))
    assert found.classes[0] == "red"
    assert sorted(found.classes) == ["blue", "green", "red"]
    assert list(found.probabilities) == sorted(found.probabilities, reverse=True)
    assert sum(found.probabilities) == pytest.approx(1)
    assert list(found.decisions) == sorted(found.decisions, reverse=True)


def test_two_classes_share_one_decision(shared_photos, tmp_path):
    shutil.copytree(shared_photos / "red", tmp_path / "two" / "red")
    shutil.copytree(shared_photos / "blue", tmp_path / "two" / "blue")
    extract(tmp_path / "two", tmp_path / "two.h5", SPEC)
    model = fit(tmp_path / "two.h5", head="linear-svc", blocks=(2,), C=1.0, validation=Validation(folds=3))
    found = {p.path.split("/")[-2]: p for p in predict(model, [tmp_path / "two"], top=2)}
    assert found["red"].classes == ("red", "blue")
    assert found["blue"].classes == ("blue", "red")
    assert found["red"].probabilities is None
    assert found["red"].decisions[0] == -found["red"].decisions[1] > 0


def test_a_bad_image_has_its_reason(model, tmp_path):
    draw(0, 1).save(tmp_path / "good.png")
    (tmp_path / "bad.png").write_bytes(b"")
    good, bad = sorted(predict(model, [tmp_path]), key=lambda p: p.reason)
    assert (good.classes, good.reason) == (("red",), "")
    assert bad.classes == ()
    assert "empty" in bad.reason


def test_failures_of_a_store_are_reported_too(model, tmp_path):
    fill(tmp_path / "photos", each=1)
    (tmp_path / "photos" / "red" / "bad.png").write_text("text")
    extract(tmp_path / "photos", tmp_path / "photos.h5", SPEC)
    found = list(predict(model, [tmp_path / "photos.h5"]))
    assert [p.path for p in found if p.reason] == ["red/bad.png"]
    assert len(found) == 4


def test_a_store_with_another_spec_is_refused(model, photos, tmp_path):
    import dataclasses

    extract(photos, tmp_path / "other.h5", dataclasses.replace(SPEC, size=48))
    with pytest.raises(SpecMismatch, match=r"size is 32 in the model but 48 in .*other\.h5"):
        list(predict(model, [tmp_path / "other.h5"]))
    with pytest.raises(SpecMismatch, match="size is 32 in the model but 48"):
        evaluate(model, tmp_path / "other.h5")


def test_other_weights_are_refused(model, shared_photos, oxford, tmp_path):
    from safetensors.numpy import save_file

    tensors = {name: values.copy() for name, values in oxford.tensors.items()}
    tensors["features.0.bias"][0] += 1
    save_file(tensors, tmp_path / "other.safetensors")
    with pytest.raises(WeightsError, match=oxford.digest):
        list(predict(model, [shared_photos], weights=tmp_path / "other.safetensors"))


def test_a_machine_with_other_reference_features_is_refused(model, shared_photos):
    import dataclasses

    changed = dataclasses.replace(
        model, reference_features={name: values * np.float32(1.1) for name, values in model.reference_features.items()}
    )
    with pytest.raises(SpecMismatch, match=r"of the reference images differs by .* from that in the model"):
        list(predict(changed, [shared_photos]))


def test_a_damaged_store_is_an_error(model, shared_store, tmp_path):
    copy = tmp_path / "copy.h5"
    copy.write_bytes(shared_store.read_bytes()[:-200])
    with pytest.raises(StoreError, match="cut short or damaged"):
        list(predict(model, [copy]))


def test_rows_of_a_store_are_predicted_in_blocks(model, shared_store, monkeypatch):
    from featx.models import prediction as module

    whole = list(predict(model, [shared_store]))
    monkeypatch.setattr(module, "BLOCK_ROWS", 5)
    assert [p.classes for p in predict(model, [shared_store])] == [p.classes for p in whole]
    with Store(shared_store) as store:
        assert len(whole) == store.n_rows


def test_root_is_the_folder_of_a_manifest_s_images(model, shared_store, shared_photos, tmp_path):
    (tmp_path / "rows.csv").write_text("path\nred/0.png\n")
    with pytest.raises(ListingError, match="names a file below"):
        list(predict(model, [tmp_path / "rows.csv"]))
    (found,) = predict(model, [tmp_path / "rows.csv"], root=shared_photos)
    (expected,) = predict(model, [shared_photos / "red" / "0.png"])
    assert found.decisions == pytest.approx(expected.decisions, rel=1e-4)
    query, matches = next(nearest(shared_store, tmp_path / "rows.csv", root=shared_photos, top=1))
    assert (Path(query).name, matches[0].path) == ("0.png", "red/0.png")


def test_predict_says_what_it_skipped(shared_store, tmp_path):
    fit(shared_store, tmp_path / "m.featx", head="softmax", C=1, blocks=(1,))
    (tmp_path / "new").mkdir()
    draw(0, 1).save(tmp_path / "new/1.png")
    (tmp_path / "new/2.heic").write_bytes(b"x")
    arguments = ["predict", str(tmp_path / "m.featx"), str(tmp_path / "new"), str(tmp_path / "new/1.png")]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, result.output
    assert f"{tmp_path}/new: 1 file skipped: .heic (1)\n" in result.stderr
    assert len(result.stdout.splitlines()) == 3

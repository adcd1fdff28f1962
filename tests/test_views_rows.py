import dataclasses
import shutil

import h5py
import numpy as np
import pytest
from conftest import draw, failing_disk, fill
from scipy.special import softmax

from featx.curation.dataset import load_features
from featx.engines import streaming
from featx.errors import DataError, SpecError, SpecMismatch, StoreError, StoreExists
from featx.extraction import AssemblyOptions, extract
from featx.heads.pipeline.calibration import fit_temperature
from featx.heads.pipeline.linear_heads import make_head
from featx.heads.pipeline.refitting import refit, refit_calibrated
from featx.heads.splitting.folds import make_folds
from featx.images.decoding.decoder import decode
from featx.images.loading import load_images
from featx.images.pixels.augmentation import augmented_copies
from featx.images.sources.any_source import list_images
from featx.inspection.summary import describe
from featx.models.evaluation import evaluate
from featx.models.fit_options import Validation
from featx.models.fitting import fit
from featx.models.prediction import predict
from featx.models.training_rows import read_training_rows
from featx.spec.extract_spec import ExtractSpec
from featx.store.part_folder import PartFolder
from featx.store.reader import Store

PLAIN = ExtractSpec(size=32, blocks=(1, 3))
SPEC = ExtractSpec(size=32, blocks=(1, 3), n_views=3, augment="flip,rotate=20,color")
HEAD = {"head": "softmax", "blocks": (1, 3), "C": 1.0}
FOLDS = Validation(folds=3)


@pytest.fixture(scope="module")
def stores(shared_photos, oxford, tmp_path_factory):
    """Stores of the same images, plain and with three views per image. Tests must not change them."""
    folder = tmp_path_factory.mktemp("views")
    extract(shared_photos, folder / "plain.h5", PLAIN)
    extract(shared_photos, folder / "views.h5", SPEC)
    return folder / "plain.h5", folder / "views.h5"


@pytest.fixture(scope="module")
def model(stores):
    return fit(stores[1], validation=Validation(folds=3, test_size=0.25), **HEAD)


def features(path):
    with Store(path) as store:
        return store.read(store.spec.widths)


def test_views_of_an_image_are_consecutive_rows(stores):
    with Store(stores[0]) as plain, Store(stores[1]) as store:
        assert store.n_rows == 3 * plain.n_rows == 108
        assert store.view_index.tolist() == [0, 1, 2] * 36
        for column in ("paths", "digests"):
            assert getattr(store, column) == [value for value in getattr(plain, column) for _ in range(3)]
        np.testing.assert_array_equal(store.labels, np.repeat(plain.labels, 3))
        np.testing.assert_allclose(features(stores[1])[::3], features(stores[0]), rtol=1e-4, atol=1e-5)
        assert plain.view_index.tolist() == [0] * 36


def test_each_row_has_the_features_of_its_view(stores, shared_photos, oxford):
    from featx.engines.selection import make_engine

    with Store(stores[1]) as store:
        row, path, digest, spec = 31, store.paths[31], store.digests[31], store.spec
        view = list(augmented_copies(decode((shared_photos / path).read_bytes()).image, spec, digest))[
            store.view_index[31]
        ]
    expected = np.hstack(list(make_engine(oxford, spec)(view[np.newaxis]).values()))
    np.testing.assert_allclose(features(stores[1])[[row]], expected, rtol=1e-4, atol=1e-5)


def test_info_counts_images(stores):
    facts = describe(stores[1])
    assert (facts["rows"], facts["images"], facts["classes"]) == (108, 36, {"blue": 12, "green": 12, "red": 12})
    assert describe(stores[0])["images"] == 36


def test_a_store_of_another_augmentation_is_refused(stores, shared_photos):
    for spec, field in ((PLAIN, "views"), (ExtractSpec(**{**vars(SPEC), "augment": "flip,rotate=10"}), "augment")):
        with pytest.raises(SpecMismatch, match=f"{field} is .* in .*views.h5 but .* in this extraction"):
            extract(shared_photos, stores[1], spec)


def test_an_update_extracts_all_views_of_new_images(photos, tmp_path):
    path = tmp_path / "photos.h5"
    first = extract(photos, path, SPEC)
    assert (first.rows, first.extracted) == (72, 72)
    before = features(path)
    assert extract(photos, path, SPEC).extracted == 0
    draw(0, 999).save(photos / "red" / "a new one.png")
    report = extract(photos, path, SPEC)
    assert (report.rows, report.extracted) == (75, 3)
    with Store(path) as store:
        new = np.array([name == "red/a new one.png" for name in store.paths])
        assert store.view_index.tolist() == [0, 1, 2] * 25
    np.testing.assert_array_equal(features(path)[~new], before)
    shutil.copyfile(path, tmp_path / "updated.h5")
    extract(photos, path, SPEC, overwrite=True)
    np.testing.assert_allclose(features(path), features(tmp_path / "updated.h5"), rtol=1e-4, atol=1e-5)


def test_missing_and_bad_images_lose_all_views(photos, tmp_path):
    path = tmp_path / "photos.h5"
    (photos / "blue" / "bad.png").write_bytes(b"")
    shutil.copyfile(photos / "blue" / "0.png", photos / "red" / "same.png")
    report = extract(photos, path, SPEC)
    assert (report.rows, [name for name, _ in report.failures]) == (75, ["blue/bad.png"])
    assert report.conflicts == [("blue/0.png", "red/same.png")]
    (photos / "red" / "1.png").unlink()
    with pytest.raises(StoreExists, match=r"has 3 rows whose images are no longer .* first is 'red/1\.png'"):
        extract(photos, path, SPEC)
    kept = extract(photos, path, SPEC, assembly=AssemblyOptions("keep"))
    assert (kept.rows, kept.dropped) == (75, 0)
    dropped = extract(photos, path, SPEC, assembly=AssemblyOptions("drop"))
    assert (dropped.rows, dropped.dropped) == (72, 3)


def test_exif_rotated_images_are_counted_once(photos, tmp_path):
    image = draw(0, 1)
    exif = image.getexif()
    exif[0x0112] = 6
    image.save(photos / "red" / "rotated.jpg", exif=exif)
    assert extract(photos, tmp_path / "photos.h5", SPEC).exif_rotated == 1


@pytest.mark.parametrize(("rows", "views", "images"), [(128, 3, 42), (8, 3, 2), (8, 20, 1)])
def test_a_part_holds_all_views_of_its_images(monkeypatch, rows, views, images):
    monkeypatch.setattr(streaming, "PART_ROWS", rows)
    assert streaming.rows_per_part(ExtractSpec(n_views=views, augment="flip")) == images * views


def test_fewer_images_are_loaded_ahead_with_more_views(shared_photos):
    asked = []
    listing = list_images([str(path) for path in sorted(shared_photos.glob("*/*.png"))], shared_photos)
    rows = (asked.append(row) or row for row in range(27))
    images = load_images(listing, rows, SPEC, 1, prefetch=12)
    next(images)
    images.close()
    assert len(asked) == 5


@pytest.mark.slow
@pytest.mark.parametrize("parts", [0, 1, 2])
def test_a_stopped_run_with_views_resumes(photos, tmp_path, monkeypatch, parts):
    (photos / "blue" / "bad.png").write_bytes(b"")
    monkeypatch.setattr(streaming, "PART_ROWS", 24)
    extract(photos, tmp_path / "whole.h5", SPEC)
    written, write = [], PartFolder.write

    def writing(folder, part):
        if len(written) == parts:
            raise KeyboardInterrupt
        written.append(part)
        write(folder, part)

    monkeypatch.setattr(PartFolder, "write", writing)
    with pytest.raises(KeyboardInterrupt):
        extract(photos, tmp_path / "photos.h5", SPEC)
    assert [len(part.paths) for part in written] == [24, 21][:parts]  # the second holds the bad image
    monkeypatch.setattr(PartFolder, "write", write)
    extract(photos, tmp_path / "photos.h5", SPEC)
    assert (tmp_path / "photos.h5").read_bytes() == (tmp_path / "whole.h5").read_bytes()


def test_parts_written_before_views_existed_are_used(photos, tmp_path, monkeypatch):
    monkeypatch.setattr(streaming, "PART_ROWS", 8)
    extract(photos, tmp_path / "whole.h5", PLAIN)
    with failing_disk(tmp_path / "photos.h5"), pytest.raises(StoreError, match="Input/output error"):
        extract(photos, tmp_path / "photos.h5", PLAIN)
    monkeypatch.undo()
    for part in (tmp_path / "photos.h5.parts").glob("*.part.h5"):
        with h5py.File(part, "r+") as file:
            del file["rows/view"]
    assert extract(photos, tmp_path / "photos.h5", PLAIN).rows == 24
    assert (tmp_path / "photos.h5").read_bytes() == (tmp_path / "whole.h5").read_bytes()


def test_folds_test_plain_rows_and_equal_those_of_a_plain_store():
    y, images = np.repeat(np.arange(3), 8), np.arange(24)
    images[1] = 0  # the same image twice
    views, plain = np.repeat(images, 3), np.tile([True, False, False], 24)
    folds = make_folds(np.repeat(y, 3), views, 4, seed=5, plain=plain)
    for (train, test), (train_images, test_images) in zip(folds, make_folds(y, images, 4, seed=5), strict=True):
        assert test.tolist() == (3 * test_images).tolist()
        assert train.tolist() == [3 * image + view for image in train_images for view in range(3)]


def test_a_head_is_fitted_on_all_views_and_scored_on_plain_ones(stores, model):
    rows = read_training_rows(stores[1], test_size=0.25)
    assert (len(rows.y), rows.plain.sum()) == (81, 27)
    expected = refit(make_head("softmax", 1.0, widths=(64, 256)), rows.X, rows.y)
    np.testing.assert_array_equal(model.decision_function(rows.X), expected.decision_function(rows.X))
    train, test = make_folds(rows.y, rows.groups, 3, plain=rows.plain)[0]
    fold = refit(make_head("softmax", 1.0, widths=(64, 256)), rows.X[train], rows.y[train])
    assert model.info["search"]["rows"][0]["scores"][0] == pytest.approx(fold.score(rows.X[test], rows.y[test]))
    assert model.spec == ExtractSpec(**{**vars(PLAIN), "backbone_digest": model.spec.backbone_digest})
    assert model.info["augmentation"] == {
        "views": 3, "augment": SPEC.augment, "fill": "reflect", "view_seed": 0,
    }  # fmt: skip


def test_held_out_images_have_no_training_view(stores, model):
    held = evaluate(model, stores[1])
    assert held["n"] == 9
    # The plain store has the same images, so the training images are left out there too.
    assert evaluate(model, stores[0]) == {**held, "store": str(stores[0])}
    whole = fit(stores[1], validation=FOLDS, **HEAD)
    with pytest.raises(DataError, match=r"the model was fitted on all labeled rows of .*plain\.h5"):
        evaluate(whole, stores[0])
    assert evaluate(fit(stores[0], validation=Validation(folds=3, test_size=0.25), **HEAD), stores[1])["n"] == 9


def test_nested_cross_validation_scores_plain_rows(stores):
    estimate = fit(stores[1], validation=Validation(folds=3, nested=True), **HEAD).info["nested"]
    assert all((12 * score) % 1 == pytest.approx(0, abs=1e-9) or (12 * score) % 1 > 1 - 1e-9
               for score in estimate["scores"])  # fmt: skip


def test_calibration_uses_plain_rows(stores):
    rows = read_training_rows(stores[1], blocks=(1,))
    pipeline = make_head("linear-svc", 1.0, normalize="none")
    folds = make_folds(rows.y, rows.groups, 3, plain=rows.plain)
    fitted, calibration = refit_calibrated(pipeline, rows.X, rows.y, folds)
    np.testing.assert_array_equal(
        fitted.decision_function(rows.X), refit(pipeline, rows.X, rows.y).decision_function(rows.X)
    )
    decisions = [refit(pipeline, rows.X[train], rows.y[train]).decision_function(rows.X[test]) for train, test in folds]
    tested = np.concatenate([test for _, test in folds])
    assert rows.plain[tested].all()
    expected = fit_temperature(np.concatenate(decisions), np.searchsorted(np.unique(rows.y), rows.y[tested]))
    assert calibration.temperature == pytest.approx(expected.temperature, rel=1e-6)


def test_load_features_returns_the_view_of_each_row(stores):
    data = load_features(stores[1])
    assert data.view_index.tolist() == [0, 1, 2] * 36
    assert len(set(data.groups.tolist())) == 36


def test_prediction_averages_over_views(stores, model, shared_photos):
    plain = list(predict(model, [stores[1]]))
    assert [found.path for found in plain] == load_features(stores[0]).filenames.tolist()
    averaged = list(predict(model, [stores[1]], n_views=3, top=3))
    decisions = model.decision_function(features(stores[1])).reshape(36, 3, 3).mean(axis=1)
    probabilities = softmax(decisions, axis=1)  # of the mean decisions, so that both name the same class
    for row, found in enumerate(averaged):
        codes = [model.classes.index(name) for name in found.classes]
        np.testing.assert_allclose(found.decisions, decisions[row, codes], rtol=1e-5)
        np.testing.assert_allclose(found.probabilities, probabilities[row, codes], rtol=1e-5)
    images = list(predict(model, [shared_photos], n_views=3, top=3, augment=SPEC.augment))
    assert [found.path for found in images] == [str(shared_photos / found.path) for found in averaged]
    np.testing.assert_allclose([p.decisions for p in images], [p.decisions for p in averaged], rtol=1e-3, atol=1e-4)


def test_prediction_from_a_store_uses_its_views(stores, model):
    with pytest.raises(
        SpecError, match=r"--augment of predict is for images; a store already has its copies: leave it out"
    ):
        next(predict(model, [stores[1]], n_views=2, augment="rotate=30"))


def test_two_views_are_the_image_and_its_mirror_image(model, shared_photos):
    path = shared_photos / "red" / "3.png"
    (two,), (one,) = predict(model, [path], n_views=2), predict(model, [path])
    assert two.decisions == next(predict(model, [path], n_views=2, augment="flip")).decisions
    assert two.decisions != one.decisions


def test_views_of_two_classes_and_of_bad_images(shared_photos, tmp_path):
    for name in ("red", "blue"):
        shutil.copytree(shared_photos / name, tmp_path / "two" / name)
    extract(tmp_path / "two", tmp_path / "two.h5", SPEC)
    model = fit(tmp_path / "two.h5", head="linear-svc", blocks=(1,), C=1.0, validation=Validation(folds=3))
    (tmp_path / "two" / "bad.png").write_bytes(b"")
    found = list(predict(model, [tmp_path / "two"], n_views=2))
    assert len(found) == 25
    assert sum(bool(one.reason) for one in found) == 1
    assert all(one.classes[0] in one.path for one in found if not one.reason)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"n_views": 4},
            r"--n-views of predict must be 1 to 3, the copies per image in .*views\.h5, got 4; extract with more",
        ),
        ({"n_views": 2, "augment": "flop"}, "augment of the spec must name transforms"),
        ({"augment": "flip"}, "augment, fill and view_seed of the spec are for n_views of 2 or more"),
        ({"n_views": 0}, "views of the spec must be a whole number of at least 1, got 0"),
    ],
)
def test_wrong_views_to_predict_are_refused(stores, model, options, message):
    with pytest.raises(SpecError, match=message):
        next(predict(model, [stores[1]], **options))


def test_multi_label_images_with_views(tmp_path, oxford):
    fill(tmp_path / "photos", each=8)
    lines = ["path,label"]
    for name in ("blue", "green", "red"):
        lines += [f"{name}/{n}.png,{name}{'|even' if n % 2 == 0 else ''}" for n in range(8)]
    (tmp_path / "m.csv").write_text("\n".join(lines) + "\n")
    extract(tmp_path / "m.csv", tmp_path / "m.h5", SPEC, root=tmp_path / "photos")
    assert describe(tmp_path / "m.h5")["classes"] == {"blue": 8, "even": 12, "green": 8, "red": 8}
    model = fit(
        tmp_path / "m.h5", head="ovr-logistic", blocks=(1,), C=1.0, validation=Validation(folds=2, test_size=0.25)
    )
    assert evaluate(model, tmp_path / "m.h5")["n"] == pytest.approx(6, abs=3)


@pytest.mark.parametrize(("views", "batch_size", "passes"), [(3, 4, [12, 12, 3]), (8, 4, [8] * 9), (1, 4, [4, 4, 1])])
def test_views_of_several_images_fill_batches(tmp_path, views, batch_size, passes):
    class Counts:
        spec = ExtractSpec(size=32, blocks=(1,), n_views=views, augment="flip" if views > 1 else "")
        on_gpu = False

        def __init__(self):
            self.batch_size, self.rows = batch_size, []

        def __call__(self, images):
            self.rows.append(len(images))
            return {"block1_avg": np.zeros((len(images), 64), np.float32)}

    for number in range(9):
        draw(0, number).save(tmp_path / f"{number}.png")
    engine = Counts()
    (part,) = streaming.feature_parts(engine, list_images(tmp_path), range(9), 1)
    assert engine.rows == passes
    assert part.view_index == list(range(views)) * 9


@pytest.mark.parametrize(("batch_size", "asked"), [(100, 200), (4, 68)])
def test_the_next_batch_is_loaded_while_one_is_computed(tmp_path, monkeypatch, batch_size, asked):
    """Also for the large batches of a GPU, which would otherwise wait for half of the next batch."""
    seen, rows = [], []

    class Means:
        spec, on_gpu = ExtractSpec(size=32, blocks=(1,)), False

        def __call__(self, images):
            seen.append(len(rows))
            return {"block1_avg": np.zeros((len(images), 64), np.float32)}

    Means.batch_size = batch_size
    monkeypatch.setattr(
        streaming,
        "load_images",
        lambda listing, each, *args: load_images(listing, (rows.append(row) or row for row in each), *args),
    )
    draw(0, 1).save(tmp_path / "one.png")
    listing = list_images([str(tmp_path / "one.png")] * 300)
    monkeypatch.setattr(streaming, "PART_ROWS", 300)
    list(streaming.feature_parts(Means(), listing, range(300), 2))
    assert seen[0] == asked


@pytest.mark.parametrize(("augment", "views"), [("flip", 2), ("flip,vflip", 4), ("vflip,rotate=1", 9)])
def test_identical_views_are_warned_about(shared_photos, tmp_path, augment, views, recwarn, model):
    folder, plain = shared_photos / "red", dataclasses.replace(PLAIN, blocks=(1,))
    extract(folder, tmp_path / "enough.h5", dataclasses.replace(plain, n_views=views, augment=augment))
    assert not recwarn.list
    if views == 9:
        return
    said = rf"^{views + 1} views by {augment} include identical copies, .* take {views} views, or more transforms$"
    with pytest.warns(UserWarning, match=said):
        extract(folder, tmp_path / "more.h5", dataclasses.replace(plain, n_views=views + 1, augment=augment))
    with pytest.warns(UserWarning, match=said):
        next(predict(model, [folder], n_views=views + 1, augment=augment))

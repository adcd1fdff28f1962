"""A fit that reads blocks of rows from disk, compared with scikit-learn's fit in memory."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from featx.cli.group import main
from featx.errors import DataError, ModelError, StoreError
from featx.heads.pipeline.linear_heads import make_head
from featx.inspection.html_report.writer import report
from featx.models import streamed_softmax as streamed
from featx.models.evaluation import evaluate
from featx.models.fit_options import FitOptions, Validation
from featx.models.fitting import fit
from featx.models.model_file import load_model
from featx.models.saved_model import Model
from featx.runtime.compute import Compute
from featx.spec.extract_spec import ExtractSpec
from featx.store.assembly import assemble
from featx.store.part_file import Part
from featx.store.part_folder import PartFolder
from featx.store.reader import Store
from featx.store.row_table import RowTable

SPEC = ExtractSpec(blocks=(1, 2), backbone_digest="0" * 64)
ROWS = 400


def make(target: Path, classes: int = 3, spoil: bool = False, labels: np.ndarray | None = None) -> Path:
    rng = np.random.default_rng(0)
    codes = np.sort(np.arange(ROWS) % classes) if labels is None else labels
    features = {name: rng.exponential(size=(ROWS, width)).astype("f4") for name, width in SPEC.widths.items()}
    for values in features.values():
        values[np.arange(ROWS), codes] += 1
    if spoil:
        features["block1_avg"][7, 3] = np.nan
    paths, digests = [f"{row:03}.jpg" for row in range(ROWS)], [f"{row:064x}" for row in range(ROWS)]
    golden = {name: np.zeros((3, width), np.float32) for name, width in SPEC.widths.items()}
    with PartFolder(target) as folder:
        folder.create_run(SPEC, golden)
        folder.write(Part(paths, digests, [False] * ROWS, features))
        table = RowTable(paths, digests, codes, [f"c{code}" for code in range(classes)], {}, [])
        assemble(target, table, SPEC, golden, folder.part_files())
        folder.discard()
    return target


@pytest.fixture(autouse=True)
def _small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Use blocks of 70 rows, and a sample of every third row."""
    monkeypatch.setattr(streamed, "BLOCK_BYTES", 70 * 4 * SPEC.width)
    monkeypatch.setattr(streamed, "SAMPLE_CELLS", ROWS * SPEC.width // 3 + 1)


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("normalize", ["power", "standard", "none"])
def test_the_streamed_model_equals_that_of_sklearn(tmp_path: Path, classes: int, normalize: str) -> None:
    path = make(tmp_path / "s.h5", classes)
    model = fit(path, head="softmax", C=1.0, options=FitOptions(normalize=normalize, stream=True))
    with Store(path) as store:
        X, y = store.read(SPEC.widths), np.array(store.classes)[store.labels]
    pipeline = make_head("softmax", 1.0, normalize=normalize, widths=tuple(SPEC.widths.values()))
    pipeline.set_params(head__tol=1e-5).fit(X.astype("f8"), y)
    np.testing.assert_allclose(model.estimator.predict_proba(X), pipeline.predict_proba(X.astype("f8")), atol=0.01)
    assert (model.predict(X) == pipeline.predict(X.astype("f8"))).mean() > 0.99


def test_the_gradient_matches_finite_differences() -> None:
    rng = np.random.default_rng(0)
    for classes, rows in ((2, 1), (4, 4)):
        X, codes = rng.normal(size=(50, 6)).astype("f4"), rng.integers(0, classes, 50)
        W, step = rng.normal(size=(rows, 7)), rng.normal(size=(rows, 7)) * 1e-2

        def at(W: np.ndarray, X: np.ndarray = X, codes: np.ndarray = codes) -> tuple[float, np.ndarray]:
            return streamed._loss_and_gradient(W, lambda: iter([(X[:20], codes[:20]), (X[20:], codes[20:])]), 0.1)

        difference = at(W + step)[0] - at(W - step)[0]
        assert difference == pytest.approx(2 * float(at(W)[1] @ step.ravel()), rel=1e-2)


def test_a_streamed_model_is_saved_and_its_scratch_file_deleted(tmp_path: Path) -> None:
    path = make(tmp_path / "s.h5")
    fit(
        path,
        tmp_path / "m.featx",
        head="softmax",
        C=1.0,
        blocks=(2,),
        options=FitOptions(stream=True),
        validation=Validation(test_size=0.25),
    )
    model = load_model(tmp_path / "m.featx")
    assert isinstance(model, Model)
    assert model.spec.blocks == (2,)
    assert model.info["streamed"]["passes"] > 0
    assert model.info["rows"] == 3 * ROWS // 4
    scores = evaluate(model, path)
    assert scores["n"] == ROWS - model.info["rows"]
    assert 0.4 < scores["accuracy"] < 1
    assert {entry.name for entry in tmp_path.iterdir()} == {"s.h5", "m.featx"}
    said = CliRunner().invoke(main, ["info", str(tmp_path / "m.featx")]).output
    assert "fitted on: 300 of 400 rows" in said
    with pytest.raises(
        ModelError, match=r"must be a model that featx fit selected by cross-validation, .* with --stream"
    ):
        report(tmp_path / "m.featx", tmp_path / "r.html", store=path)


def test_the_fit_command_streams(tmp_path: Path) -> None:
    store = str(make(tmp_path / "s.h5"))
    options = ["fit", store, "-o", str(tmp_path / "m.featx"), "--head", "softmax", "--C", "1", "--stream"]
    done = CliRunner().invoke(main, options)
    assert done.exit_code == 0, done.output
    assert "softmax, blocks 1,2, C = 1, 3 classes" in done.output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "--stream of fit needs a given head and --C.*got --head best without --C"),
        ({"head": "softmax"}, "got --head softmax without --C"),
        ({"head": "linear-svc", "C": 1.0}, "got --head linear-svc$"),
    ],
)
def test_streaming_needs_softmax_and_a_given_c(tmp_path: Path, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        fit(tmp_path / "none.h5", options=FitOptions(stream=True), **arguments)


@pytest.mark.parametrize(
    ("group", "option", "name"),
    [
        (Validation, {"nested": True}, "--nested"),
        (Validation, {"scoring": "accuracy"}, "--scoring"),
        (Validation, {"select": "one-se"}, "--select"),
        (Validation, {"folds": 3}, "--folds"),
        (Validation, {"repeats": 2}, "--repeats"),
        (FitOptions, {"class_weight": "balanced"}, "--class-weight"),
        (FitOptions, {"weight_column": "weight"}, "--weight-column"),
        (FitOptions, {"sample_weight": np.ones(3)}, "--sample-weight"),
        (Compute, {"workers": 2}, "--jobs"),
        (Compute, {"executor": "ray"}, "--executor"),
    ],
)
def test_options_that_streaming_refuses(tmp_path: Path, group: type, option: dict[str, Any], name: str) -> None:
    arguments: dict[str, Any] = {"options": FitOptions(stream=True)}
    if group is FitOptions:
        arguments["options"] = FitOptions(stream=True, **option)
    else:
        arguments[group.__name__.lower()] = group(**option)
    with pytest.raises(DataError, match=f"--stream of fit cannot be combined with {name}; leave one out"):
        fit(tmp_path / "none.h5", head="softmax", C=1.0, **arguments)


def test_streaming_needs_finite_features_and_two_classes(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="must be finite, but some are NaN or infinite"):
        fit(make(tmp_path / "nan.h5", spoil=True), head="softmax", C=1.0, options=FitOptions(stream=True))
    with pytest.raises(DataError, match=r"needs one label per image and at least two classes, but .* has 1 class"):
        fit(
            make(tmp_path / "one.h5", labels=np.zeros(ROWS, int)),
            head="softmax",
            C=1.0,
            options=FitOptions(stream=True),
        )


def test_a_full_disk_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = make(tmp_path / "s.h5")
    # /dev/full refuses every byte, like a full disk.
    monkeypatch.setattr("tempfile.TemporaryFile", lambda **_: io.FileIO("/dev/full", "w+"))
    with pytest.raises(StoreError, match="cannot be written: No space left on device"):
        fit(path, head="softmax", C=1.0, options=FitOptions(stream=True))

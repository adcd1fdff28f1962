"""Files of every schema stay readable, as the version that introduced the schema wrote them.

Whoever raises ``SCHEMA`` in `featx.store.schema` or `featx.models.model_file` adds a file of the new schema to
``tests/data/old/`` and a row here. Existing files are never changed, because users have such files.
"""

import shutil
from pathlib import Path

import numpy as np
import pytest

import featx.models.model_file
from featx.extraction.existing_features import read_finished_parts
from featx.models.model_file import load_model
from featx.spec.extract_spec import ExtractSpec
from featx.store import schema
from featx.store.assembly import assemble
from featx.store.part_folder import PartFolder
from featx.store.reader import Store
from featx.store.row_table import RowTable

OLD = Path(__file__).parent / "data" / "old"
SPEC = ExtractSpec(blocks=(1,), pools=("avg",), size=32, backbone_digest="ab" * 32)
REFERENCE = np.arange(3 * 64, dtype=np.float32).reshape(3, 64) / 64
FEATURES = np.arange(4 * 64, dtype=np.float32).reshape(4, 64) / 32
PATHS = ["a.png", "b/ü.png", "c.png", "d.png"]
TARGETS = [[True, True], [False, True], [False, False], [True, False]]


def test_every_schema_has_a_file():
    assert {path.stem for path in OLD.glob("store-*.h5")} == {f"store-schema{n + 1}" for n in range(schema.SCHEMA)}
    models = {path.stem for path in OLD.glob("model-*.featx")}
    assert models == {f"model-schema{n + 1}" for n in range(featx.models.model_file.SCHEMA)}


@pytest.mark.parametrize("schema", range(1, schema.SCHEMA + 1))
def test_an_old_store_is_read(schema):
    with Store(OLD / f"store-schema{schema}.h5") as store:
        assert store.spec == SPEC
        assert store.version == "0.1.0"
        assert store.paths == PATHS
        assert store.digests == [f"{number:064x}" for number in range(4)]
        assert store.labels.tolist() == [0, 1, -1, 0]
        assert store.classes == ["cat", "dög"]
        assert store.columns == {"split": ["train", "test", "train", ""]}
        assert store.view_index.tolist() == [0] * 4
        assert store.exif_rotated.tolist() == [False, True, False, False]
        assert store.failures == [("bad.png", "empty file")]
        assert (None if store.multilabel_targets is None else store.multilabel_targets.tolist()) == (
            TARGETS if schema > 1 else None
        )
        np.testing.assert_array_equal(store.read(["block1_avg"]), FEATURES)
        np.testing.assert_array_equal(store.reference_features["block1_avg"], REFERENCE)


@pytest.mark.parametrize(
    ("schema", "decisions"),
    [
        (
            1,
            [
                [-0.317330002784729, 0.21402999758720398, 0.10329999774694443],
                [-0.1975799947977066, 0.1429000049829483, 0.054680000990629196],
            ],
        ),
        (2, [[-0.52144, 0.52142, 0.14415], [-0.24068, 0.24068, 0.01069]]),
    ],
)
def test_an_old_model_computes_the_same_decisions(schema, decisions):
    model = load_model(OLD / f"model-schema{schema}.featx")
    assert model.spec == SPEC
    assert model.classes == ("a", "b", "c")
    assert model.multilabel == (schema > 1)
    np.testing.assert_array_equal(model.reference_features["block1_avg"], REFERENCE)
    rows = np.stack([np.linspace(0, 1, 64), np.linspace(-1, 1, 64) ** 2]).astype(np.float32)
    np.testing.assert_allclose(model.decision_function(rows), decisions, atol=1e-5)


def test_an_old_stopped_run_is_resumed(tmp_path):
    with PartFolder(tmp_path / "rows.h5") as folder:
        shutil.copy(OLD / "run.h5", folder.path / "run.h5")
        shutil.copy(OLD / "part-without-views.h5", folder.path / "0.part.h5")
        reference = folder.load_run(SPEC)
        np.testing.assert_array_equal(reference["block1_avg"], REFERENCE)
        done = read_finished_parts(folder)
        assert list(done.paths) == PATHS
        table = RowTable(PATHS, [f"{number:064x}" for number in range(4)], np.zeros(4, int), ("x",), {}, done.failures)
        assemble(folder.store, table, SPEC, reference, folder.part_files())
    with Store(tmp_path / "rows.h5") as store:
        np.testing.assert_array_equal(store.read(["block1_avg"]), FEATURES)
        assert store.failures == [("bad.png", "empty file")]

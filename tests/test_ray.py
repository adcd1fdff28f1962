"""Ray workers make the same store as one process, even if they are killed. The workers and the kills are real."""

import dataclasses
import os
import pickle
import signal
import subprocess
import sys
import time

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import failing_disk, fill
from joblib import Parallel, delayed
from joblib.parallel import LokyBackend, get_active_backend
from PIL import Image
from test_shard import SPEC, small_parts, source  # noqa: F401 - fixtures

from featx.errors import DataError, EngineError, ImageError, SpecError, SpecMismatch, StoreError, StoreLocked
from featx.extraction import extract
from featx.extraction.ray_cluster import Cluster
from featx.extraction.ray_executor import RayExecutor
from featx.files.limits import override_limits
from featx.models.fit_options import FitOptions, Validation
from featx.models.fitting import fit
from featx.models.searched_fit import parallel_workers
from featx.runtime import Compute
from featx.store.part_folder import PartFolder

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore:Tip. In future versions of Ray:FutureWarning")]
ray = pytest.importorskip("ray")
from ray.util.joblib.ray_backend import RayBackend  # noqa: E402


@pytest.fixture(scope="module")
def cluster():
    """A Ray cluster with two cores on this machine, shared by the tests of this module."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    yield
    ray.shutdown()


@pytest.fixture
def killed(monkeypatch):
    """Kill as many workers as ``left`` says, each after it has started and some part is finished."""
    state = {"left": 0, "pids": [], "killed": []}
    plain = RayExecutor._result

    def result(executor, reference):
        value = plain(executor, reference)
        if isinstance(value, int):
            state["pids"].append(value)
        elif not isinstance(value, dict) and state["left"] and state["pids"]:
            state["left"] -= 1
            state["killed"].append(state["pids"].pop())
            os.kill(state["killed"][-1], signal.SIGKILL)
        return value

    monkeypatch.setattr(RayExecutor, "_result", result)
    return state


ON_RAY = Compute(executor="ray", workers=2, cpus_per_worker=1)


def on_ray(images, store, **options):
    return extract(images, store, SPEC, ON_RAY, **options)


def test_killed_workers_and_one_process_make_the_same_store(source, tmp_path, cluster, killed, oxford):  # noqa: F811
    extract(source, tmp_path / "one.h5", SPEC)
    assert on_ray(source, tmp_path / "two.h5").extracted == 24
    killed["left"], killed["pids"] = 2, []
    report = on_ray(source, tmp_path / "killed.h5")
    assert len(set(killed["killed"])) == 2
    assert (report.rows, report.extracted) == (24, 24)
    whole = (tmp_path / "one.h5").read_bytes()
    assert (tmp_path / "two.h5").read_bytes() == whole
    assert (tmp_path / "killed.h5").read_bytes() == whole
    assert not (tmp_path / "killed.h5.parts").exists()


def test_a_part_that_kills_every_worker_ends_the_run(photos, tmp_path, cluster, monkeypatch, oxford):
    assign = RayExecutor._assign

    def assign_and_kill(executor, worker, part, parts):
        assign(executor, worker, part, parts)
        if part == 1:
            ray.kill(worker)

    monkeypatch.setattr(RayExecutor, "_assign", assign_and_kill)
    message = r"4 Ray workers were lost while they computed the part that begins with .*png; look for out-of-memory"
    with pytest.raises(EngineError, match=message):
        on_ray(photos, tmp_path / "a.h5")
    monkeypatch.setattr(RayExecutor, "_assign", assign)
    extract(photos, tmp_path / "one.h5", SPEC)
    assert on_ray(photos, tmp_path / "a.h5").rows == 24
    assert (tmp_path / "a.h5").read_bytes() == (tmp_path / "one.h5").read_bytes()


def test_bad_images_are_recorded_or_refused_with_strict(photos, tmp_path, cluster, oxford):
    (photos / "red" / "0.png").write_bytes(b"")
    report = on_ray(photos, tmp_path / "a.h5")
    assert (report.rows, [path for path, _ in report.failures]) == (23, ["red/0.png"])
    with pytest.raises(ImageError, match=r"red/0\.png.*without --strict it is recorded and skipped"):
        on_ray(photos, tmp_path / "b.h5", strict=True)


def test_workers_have_the_limits_of_the_driver(photos, tmp_path, cluster, oxford):
    table = {"image": [path.read_bytes() for path in sorted(photos.rglob("*.png"))], "label": ["a", "b"] * 12}
    pq.write_table(pa.table(table), tmp_path / "a.parquet")
    with (
        override_limits({"row-group": 1000}),
        pytest.raises(ImageError, match=r"more than the 1,000 bytes .*row-group=SIZE"),
    ):
        on_ray(tmp_path / "a.parquet", tmp_path / "a.h5", strict=True)
    assert on_ray(tmp_path / "a.parquet", tmp_path / "a.h5").extracted == 24


def test_a_truncated_part_is_computed_again(photos, tmp_path, cluster, monkeypatch, oxford):
    extract(photos, tmp_path / "one.h5", SPEC)
    with failing_disk(tmp_path / "a.h5"), pytest.raises(StoreError, match="Input/output error"):
        on_ray(photos, tmp_path / "a.h5")
    part = min((tmp_path / "a.h5.parts").glob("*.part.h5"))
    part.write_bytes(part.read_bytes()[:1000])
    with pytest.warns(UserWarning, match="is damaged"):
        on_ray(photos, tmp_path / "a.h5")
    assert (tmp_path / "a.h5").read_bytes() == (tmp_path / "one.h5").read_bytes()


def test_only_one_driver_may_write_a_store(photos, tmp_path, cluster):
    with PartFolder(tmp_path / "a.h5"), pytest.raises(StoreLocked, match="is being written by another featx process"):
        on_ray(photos, tmp_path / "a.h5")


def test_a_run_resumes_after_its_driver_was_killed(tmp_path, cluster, oxford):
    photos, store = fill(tmp_path / "photos", each=30), tmp_path / "a.h5"
    extract(photos, tmp_path / "one.h5", SPEC)
    code = (
        "import sys; from featx.engines import streaming; from featx.extraction import extract\n"
        "from featx.runtime import Compute; from featx.spec import ExtractSpec; streaming.PART_ROWS = 4\n"
        "extract(sys.argv[1], sys.argv[2], ExtractSpec(size=32, blocks=(1, 2)), Compute(executor='ray', workers=1))"
    )
    driver = subprocess.Popen([sys.executable, "-c", code, photos, store], stderr=subprocess.DEVNULL)
    parts = tmp_path / "a.h5.parts"
    while driver.poll() is None and not any(parts.glob("*.part.h5")):
        time.sleep(0.01)
    driver.kill()
    driver.wait()
    assert any(parts.glob("*.part.h5"))
    assert not store.exists()
    assert on_ray(photos, store).rows == 90
    assert store.read_bytes() == (tmp_path / "one.h5").read_bytes()


def test_a_worker_that_computes_other_features_is_refused(photos, tmp_path, cluster, monkeypatch, oxford):
    monkeypatch.setattr(
        "featx.extraction.extraction_run.compute_reference_features",
        lambda engine: {name: values + 1 for name, values in engine(reference_pixels(engine.spec)).items()},
    )
    from featx.engines.reference_check import reference_pixels

    with pytest.raises(SpecMismatch, match="compute other features; install the same package versions on all nodes"):
        on_ray(photos, tmp_path / "a.h5")


def test_errors_before_the_extraction_say_what_to_change(photos, tmp_path, cluster, monkeypatch, oxford):
    with pytest.raises(EngineError, match="node with 99 CPUs and 0 GPUs, but the largest of 1 nodes has 2 and 0"):
        extract(photos, tmp_path / "a.h5", SPEC, Compute(executor="ray", cpus_per_worker=99))
    with pytest.raises(SpecError, match="--precision auto is measured on one machine"):
        extract(photos, tmp_path / "a.h5", dataclasses.replace(SPEC, precision="auto"), ON_RAY)
    with pytest.raises(EngineError, match="--executor ray must have images that its workers can read"):
        on_ray([(Image.new("RGB", (40, 40)), 0)], tmp_path / "a.h5")
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(EngineError, match=r"--executor ray needs a package: pip install 'featx\[ray\]'"):
        on_ray(photos, tmp_path / "a.h5")


def test_a_fit_on_a_cluster_gives_the_same_model(shared_store, tmp_path, cluster):
    options = {"head": "ovr-logistic", "blocks": (1,), "validation": Validation(folds=3, nested=True)}
    for executor in ("local", "ray"):
        fit(shared_store, tmp_path / f"{executor}.featx", compute=Compute(executor=executor), **options)
    assert (tmp_path / "local.featx").read_bytes() == (tmp_path / "ray.featx").read_bytes()
    assert isinstance(get_active_backend()[0], LokyBackend)


def test_calibration_fits_on_workers(shared_store, cluster, monkeypatch):
    asked = []
    plain = RayBackend.configure
    monkeypatch.setattr(
        RayBackend, "configure", lambda self, n_jobs=1, *a, **k: asked.append(n_jobs) or plain(self, n_jobs, *a, **k)
    )
    model = fit(
        shared_store,
        head="linear-svc",
        C=1.0,
        blocks=(1,),
        options=FitOptions(calibrate=True),
        validation=Validation(folds=3),
        compute=Compute(executor="ray"),
    )
    assert asked == [2]
    assert model.calibration is not None


def test_a_worker_lost_during_a_fit_is_an_error(cluster):
    with (
        pytest.raises(EngineError, match="a Ray worker was lost during a fit"),
        parallel_workers(Compute(executor="ray")) as workers,
    ):
        Parallel(workers)(delayed(os._exit)(1) for _ in range(2))


def test_an_error_of_a_worker_keeps_its_message(cluster):
    def fail():
        raise DataError("the original message")

    with (
        pytest.raises(DataError, match=r"^the original message$"),
        parallel_workers(Compute(executor="ray")) as workers,
    ):
        Parallel(workers)(delayed(fail)() for _ in range(2))


def test_a_fit_on_ray_without_ray_names_the_extra(shared_store, monkeypatch):
    monkeypatch.setattr("featx.models.searched_fit.HeadSearchCV.fit", lambda *_, **__: pytest.fail("the search ran"))
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(EngineError, match=r"--executor ray needs a package: pip install 'featx\[ray\]'"):
        fit(shared_store, compute=Compute(executor="ray"))


def test_a_cluster_that_cannot_be_reached_is_an_error(monkeypatch):
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", lambda **_: (_ for _ in ()).throw(ConnectionError("refused")))
    with pytest.raises(EngineError, match=r"--ray-address must be a running .* got 10\.0\.0\.1:6379: refused"):
        Cluster("10.0.0.1:6379").connect().__enter__()


@pytest.mark.parametrize(
    ("cluster_", "nodes", "expected"),
    [
        (Cluster(), [{"CPU": 8.0}], (1, 8, 0)),
        (Cluster(workers=2), [{"CPU": 8.0}], (2, 4, 0)),
        (Cluster(), [{"CPU": 8.0}, {"CPU": 4.0}], (2, 4, 0)),
        (Cluster(), [{"CPU": 4.0}, {"CPU": 64.0}, {"CPU": 64.0}], (2, 64, 0)),  # a small head node
        (Cluster(), [{}, {"CPU": 64.0}, {"CPU": 64.0}], (2, 64, 0)),  # a head node without CPUs for workers
        (Cluster(), [{"CPU": 4.0}, {"CPU": 64.0, "GPU": 8.0}], (8, 8, 1)),
        (Cluster(), [{"CPU": 16.0, "GPU": 8.0}, {"CPU": 64.0, "GPU": 8.0}], (16, 2, 1)),
        (Cluster(), [{"CPU": 16.0, "GPU": 4.0}], (4, 4, 1)),
        (Cluster(gpus_per_worker=0.5), [{"CPU": 16.0, "GPU": 4.0}], (8, 2, 0.5)),
    ],
)
def test_workers_share_the_nodes(cluster_, nodes, expected):
    planned = cluster_.plan_workers(nodes)
    assert (planned.workers, planned.cpus, planned.gpus) == expected


def test_a_listing_can_be_sent_to_another_process(source):  # noqa: F811
    from featx.images.sources.any_source import list_images

    cloudpickle = pytest.importorskip("ray.cloudpickle")
    listing = list_images(source)
    other = pickle.loads(cloudpickle.dumps(listing))
    assert list(other.paths) == list(listing.paths)
    assert other.read(5) == listing.read(5)
    assert other.paths.find(listing.paths).tolist() == list(range(24))

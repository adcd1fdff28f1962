"""Write, kill, resume, add, drop, assemble and read in any order; compare with a model in memory (hypothesis)."""

import contextlib
import hashlib
import shutil
import tempfile
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from featx.extraction.existing_features import read_finished_parts
from featx.spec.extract_spec import ExtractSpec
from featx.store.assembly import assemble
from featx.store.part_file import Part
from featx.store.part_folder import PartFolder
from featx.store.reader import Store
from featx.store.row_table import RowTable

pytestmark = pytest.mark.slow

SPEC = ExtractSpec(blocks=(1,), pools=("avg",), size=32)
REFERENCE = {name: np.full((3, width), 0.5, np.float32) for name, width in SPEC.widths.items()}
NAMES = st.sampled_from(
    ["a.png", "b.png", "c/ü.png", "d\n.png", "e.png", b"f-\xff.png".decode("utf-8", "surrogateescape")]
)
BYTES = st.integers(0, 2)
"""Version of an image's bytes: another version is another image of the same name."""


class Killed(BaseException):
    """Stands for a process that ends while it writes; no handler of featx catches it."""


def digest_of(name, version):
    return hashlib.sha256(f"{name!r} {version}".encode()).hexdigest()


def features_of(name, version):
    seed = int(digest_of(name, version)[:8], 16)
    return np.random.default_rng(seed).random((1, SPEC.width), np.float32)


class Stores(RuleBasedStateMachine):
    """A store that is being made, and in memory: the images, those in parts, and those that the store must hold."""

    def __init__(self):
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="featx-"))
        self.target = self.folder / "rows.h5"
        self.images, self.parts, self.stored = {}, {}, None

    def teardown(self):
        shutil.rmtree(self.folder)

    @contextlib.contextmanager
    def run(self):
        """A process that takes the lock and loads or creates the run."""
        with PartFolder(self.target) as folder:
            if folder.load_run(SPEC) is None:
                folder.create_run(SPEC, REFERENCE)
            yield folder

    @initialize(name=NAMES, version=BYTES)
    def start_with_one_image(self, name, version):
        self.images[name] = version

    @rule(name=NAMES, version=BYTES)
    def add_or_change_an_image(self, name, version):
        self.images[name] = version

    @precondition(lambda self: len(self.images) > 1)
    @rule(data=st.data())
    def remove_an_image(self, data):
        del self.images[data.draw(st.sampled_from(sorted(self.images)))]

    def part(self, name):
        version = self.images[name]
        return Part([name], [digest_of(name, version)], [version == 1], {"block1_avg": features_of(name, version)})

    @rule(data=st.data())
    def write_a_part(self, data):
        name = data.draw(st.sampled_from(sorted(self.images)))
        with self.run() as folder:
            folder.write(self.part(name))
        self.parts[name] = self.images[name]

    @rule(data=st.data(), step=st.sampled_from(["os.fsync", "pathlib.Path.replace"]))
    def kill_a_process_that_writes_a_part(self, data, step):
        name = data.draw(st.sampled_from(sorted(self.images)))
        with pytest.raises(Killed), self.run() as folder, mock.patch(step, side_effect=Killed), no_removal():
            folder.write(self.part(name))

    @rule()
    def damage_a_part(self):
        with self.run() as folder:
            for path in folder.path.glob("*.part.h5"):
                data = bytearray(path.read_bytes())
                data[len(data) // 2 :] = b""
                path.write_bytes(data)
                break
            else:
                return
            with mock.patch("warnings.warn") as warned:
                done = read_finished_parts(folder)
            assert warned.called
        self.parts = {name: version for name, version in self.parts.items() if name in list(done.paths)}

    def table(self):
        known = {**(self.stored or {}), **self.parts}
        names = sorted(name for name, version in self.images.items() if known.get(name) == version)
        names.sort(key=lambda name: name.encode("utf-8", "surrogateescape"))
        digests = [digest_of(name, self.images[name]) for name in names]
        labels = np.array([len(name) % 2 for name in names], "i4")
        return names, RowTable(names, digests, labels, ("even", "odd"), {}, [("bad", "reason")])

    def assemble(self):
        with self.run() as folder:
            names, table = self.table()
            sources = [*([self.target] if self.target.exists() else []), *folder.part_files()]
            assemble(self.target, table, SPEC, REFERENCE, sources, scratch=folder.path)
            folder.discard()
        self.stored, self.parts = {name: self.images[name] for name in names}, {}

    @rule()
    def assemble_the_store(self):
        self.assemble()

    @rule(step=st.sampled_from(["os.fsync", "pathlib.Path.replace"]))
    def kill_a_process_that_assembles(self, step):
        with PartFolder(self.target) as folder:
            _, table = self.table()
            sources = [*([self.target] if self.target.exists() else []), *folder.part_files()]
            with mock.patch(step, side_effect=Killed), no_removal(), pytest.raises(Killed):
                assemble(self.target, table, SPEC, REFERENCE, sources, scratch=folder.path)

    @invariant()
    def parts_hold_what_was_written(self):
        if (self.folder / "rows.h5.parts" / "run.h5").exists():
            with PartFolder(self.target) as folder:
                done = read_finished_parts(folder)
            wanted = {name: digest_of(name, version) for name, version in self.parts.items()}
            assert dict(zip(done.paths, map(bytes.decode, done.digests.tolist()), strict=True)) == wanted
        else:
            assert not self.parts

    @invariant()
    def the_store_holds_what_was_assembled(self):
        if self.stored is None:
            assert not self.target.exists()
            return
        with Store(self.target) as store:
            assert store.paths == sorted(self.stored, key=lambda name: name.encode("utf-8", "surrogateescape"))
            assert store.digests == [digest_of(name, self.stored[name]) for name in store.paths]
            assert store.exif_rotated.tolist() == [self.stored[name] == 1 for name in store.paths]
            assert store.labels.tolist() == [len(name) % 2 for name in store.paths]
            wanted = [features_of(name, self.stored[name]) for name in store.paths]
            np.testing.assert_array_equal(
                store.read(["block1_avg"]), np.concatenate([np.zeros((0, 64), "f4"), *wanted])
            )
            half = np.arange(0, store.n_rows, 2)
            np.testing.assert_array_equal(store.read(["block1_avg"], half), store.read(["block1_avg"])[half])

    @invariant()
    def no_temporary_file_is_left(self):
        if (self.folder / "rows.h5.parts").exists():
            with PartFolder(self.target) as folder:
                assert not list(folder.path.glob(".*.tmp"))
        assert {path.name for path in self.folder.iterdir()} <= {"rows.h5", "rows.h5.parts"}


@contextlib.contextmanager
def no_removal():
    """A killed process removes nothing."""
    with mock.patch("pathlib.Path.unlink"):
        yield


TestStores = Stores.TestCase
TestStores.settings = settings(
    max_examples=15, stateful_step_count=15, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck)
)

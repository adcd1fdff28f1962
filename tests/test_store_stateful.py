"""Any order of writing, being killed, going on, adding, dropping, assembling and reading, beside a model in memory."""

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

from featx.extraction.update import read_parts
from featx.spec.extract_spec import ExtractSpec
from featx.store.assembly import RowTable, assemble
from featx.store.parts import Part, PartFolder
from featx.store.reader import Store

SPEC = ExtractSpec(blocks=(1,), pools=("avg",), size=32)
GOLDEN = {name: np.full((3, width), 0.5, np.float32) for name, width in SPEC.widths.items()}
NAMES = st.sampled_from(
    ["a.png", "b.png", "c/ü.png", "d\n.png", "e.png", b"f-\xff.png".decode("utf-8", "surrogateescape")]
)
BYTES = st.integers(0, 2)
"""Which version of its bytes an image has: another is another image with the name."""


class Killed(BaseException):
    """What stands for the end of a process in the middle of a write: no handler of featx takes it for its own."""


def digest_of(name, version):
    return hashlib.sha256(f"{name!r} {version}".encode()).hexdigest()


def features_of(name, version):
    seed = int(digest_of(name, version)[:8], 16)
    return np.random.default_rng(seed).random((1, SPEC.width), np.float32)


class Stores(RuleBasedStateMachine):
    """A store being made. In memory: the images that exist, those that parts have, and what the store must hold."""

    def __init__(self):
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="featx-"))
        self.target = self.folder / "rows.h5"
        self.images, self.parts, self.stored = {}, {}, None

    def teardown(self):
        shutil.rmtree(self.folder)

    @contextlib.contextmanager
    def run(self):
        """A process at work: it takes the lock, and looks at what is there."""
        with PartFolder(self.target) as folder:
            if folder.load_run(SPEC) is None:
                folder.create_run(SPEC, GOLDEN)
            yield folder

    @initialize(name=NAMES, version=BYTES)
    def begin_with_one(self, name, version):
        self.images[name] = version

    @rule(name=NAMES, version=BYTES)
    def an_image_is_added_or_changed(self, name, version):
        self.images[name] = version

    @precondition(lambda self: len(self.images) > 1)
    @rule(data=st.data())
    def an_image_goes(self, data):
        del self.images[data.draw(st.sampled_from(sorted(self.images)))]

    def part(self, name):
        version = self.images[name]
        return Part([name], [digest_of(name, version)], [version == 1], {"block1_avg": features_of(name, version)})

    @rule(data=st.data())
    def a_part_is_written(self, data):
        name = data.draw(st.sampled_from(sorted(self.images)))
        with self.run() as folder:
            folder.write(self.part(name))
        self.parts[name] = self.images[name]

    @rule(data=st.data(), step=st.sampled_from(["os.fsync", "pathlib.Path.replace"]))
    def a_process_is_killed_while_it_writes_a_part(self, data, step):
        name = data.draw(st.sampled_from(sorted(self.images)))
        with pytest.raises(Killed), self.run() as folder, mock.patch(step, side_effect=Killed), no_tidying():
            folder.write(self.part(name))

    @rule()
    def a_part_is_damaged(self):
        with self.run() as folder:
            for path in folder.path.glob("*.part.h5"):
                data = bytearray(path.read_bytes())
                data[len(data) // 2 :] = b""
                path.write_bytes(data)
                break
            else:
                return
            with mock.patch("warnings.warn") as warned:
                done = read_parts(folder)
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
            assemble(self.target, table, SPEC, GOLDEN, sources, scratch=folder.path)
            folder.discard()
        self.stored, self.parts = {name: self.images[name] for name in names}, {}

    @rule()
    def the_store_is_assembled(self):
        self.assemble()

    @rule(step=st.sampled_from(["os.fsync", "pathlib.Path.replace"]))
    def a_process_is_killed_while_it_assembles(self, step):
        with PartFolder(self.target) as folder:
            _, table = self.table()
            sources = [*([self.target] if self.target.exists() else []), *folder.part_files()]
            with mock.patch(step, side_effect=Killed), no_tidying(), pytest.raises(Killed):
                assemble(self.target, table, SPEC, GOLDEN, sources, scratch=folder.path)

    @invariant()
    def the_parts_are_those_that_were_written(self):
        if (self.folder / "rows.h5.parts" / "run.h5").exists():
            with PartFolder(self.target) as folder:
                done = read_parts(folder)
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
    def nothing_half_written_stays_after_a_run(self):
        if (self.folder / "rows.h5.parts").exists():
            with PartFolder(self.target) as folder:
                assert not list(folder.path.glob(".*.tmp"))
        assert {path.name for path in self.folder.iterdir()} <= {"rows.h5", "rows.h5.parts"}


@contextlib.contextmanager
def no_tidying():
    """A process that was killed removes nothing."""
    with mock.patch("pathlib.Path.unlink"):
        yield


TestStores = Stores.TestCase
TestStores.settings = settings(
    max_examples=15, stateful_step_count=15, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck)
)

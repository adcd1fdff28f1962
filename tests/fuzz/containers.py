"""Changes that respect a format, so that the changed file passes the first checks of its reader."""

import hashlib
import io
import json
import random
import zipfile
from collections.abc import Sequence
from typing import Any

import h5py
import numpy as np
import onnx

from fuzz.mutators import EDGES, edit_json, mutate

DIGEST_BYTES = 32
DTYPES = ("f4", "f8", "f2", "i1", "u1", "i4", "i8", "u8", "?", "S1", "S64", "c8", "V8", "M8[s]")
SHAPES = ((), (0,), (1,), (3,), (4,), (1, 64), (3, 64), (64, 3), (0, 64), (3, 0), (2, 2, 2), (3, 3, 1, 1))


def seal(data: bytes) -> bytes:
    """Return a model with the digest of its changed bytes, so that the digest alone does not reveal the change."""
    body = data[:-DIGEST_BYTES]
    return body + hashlib.sha256(body).digest()


def edit_safetensors(data: bytes, rng: random.Random, others: Sequence[bytes]) -> bytes:
    """Change something in the JSON header; its length is usually right."""
    length = int.from_bytes(data[:8], "little")
    header = edit_json(data[8 : 8 + length].decode(), rng).encode("utf-8", "surrogatepass")
    if rng.random() < 0.8:  # safetensors pads the header, so that tensors are aligned.
        header += b" " * (-len(header) % 8)
    told = len(header) if rng.random() < 0.95 else rng.choice(EDGES)
    return told.to_bytes(8, "little") + header + data[8 + length :]


def edit_model(data: bytes, rng: random.Random, others: Sequence[bytes]) -> bytes:
    """Change a model's JSON, its tensors or its header; its digest is usually right."""
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    if (kind := rng.random()) < 0.6:
        header["__metadata__"]["featx"] = edit_json(header["__metadata__"]["featx"], rng)
        text = json.dumps(header).encode()
        text += b" " * (-len(text) % 8)
        data = len(text).to_bytes(8, "little") + text + data[8 + length :]
    else:
        data = (edit_safetensors if kind < 0.8 else mutate)(data, rng, others)
    return seal(data) if rng.random() < 0.95 else data


def edit_zip(data: bytes, rng: random.Random, others: Sequence[bytes]) -> bytes:
    """Change the bytes of one member, or add, rename or remove a member."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = [(info.filename, archive.read(info)) for info in archive.infolist()]
    at = rng.randrange(len(members))
    name, content = members[at]
    match rng.randrange(8):
        case 0:
            del members[at]
        case 1:
            members[at] = rng.choice(("../x", "/etc/x", name + "2", "", "\0")), content
        case 2:
            members.append((name.upper(), content))
        case _:
            if h5py.is_hdf5(io.BytesIO(content)) and rng.random() < 0.7:
                members[at] = name, edit_hdf5(content, rng, others)
            else:
                members[at] = name, mutate(content, rng, [content for _, content in members])
    changed = io.BytesIO()
    with zipfile.ZipFile(changed, "w") as archive:
        for name, content in members:
            archive.writestr(zipfile.ZipInfo(name), content)
    return changed.getvalue()


def edit_onnx(data: bytes, rng: random.Random, others: Sequence[bytes]) -> bytes:
    """Change the tensors or the nodes of a graph."""
    model = onnx.load_model_from_string(data)
    graph = model.graph
    for _ in range(rng.choice((1, 1, 2))):
        tensor, node = rng.choice(graph.initializer), rng.choice(graph.node)
        match rng.randrange(10):
            case 0:
                tensor.dims[:] = [rng.choice((*EDGES[:22], 2**63 - 1)) for _ in range(rng.randrange(6))]
            case 1:
                tensor.dims.append(rng.choice((-1, 0, 1, 2**31, 2**62)))
            case 2:
                tensor.data_type = rng.choice((0, 1, 2, 3, 6, 7, 8, 9, 10, 11, 14, 16, 17, 20, 21, 22, 99, -1))
            case 3:
                tensor.data_location = 1
                entry = tensor.external_data.add()
                entry.key, entry.value = "location", rng.choice(("/etc/passwd", "../x", ""))
            case 4:
                tensor.raw_data = tensor.raw_data[: rng.randrange(len(tensor.raw_data) + 1)] + rng.randbytes(3)
            case 5:
                values = [1.0] * rng.choice((0, 1, 3, 9))
                tensor.ClearField("raw_data")
                rng.choice((tensor.float_data, tensor.double_data)).extend(values)
            case 6:
                tensor.name = rng.choice(("", "é", node.input[0] if node.input else "x"))
            case 7:
                node.input[:] = rng.choice(([], ["x"], [*node.input, "y"], list(node.input)[::-1], ["x", "x", "x"]))
            case 8:
                node.op_type = rng.choice(("", "Conv", "Relu", "MatMul"))
            case _:
                graph.node.append(node)
                del graph.initializer[rng.randrange(len(graph.initializer))]
        if not graph.initializer or not graph.node:
            break
    return bytes(model.SerializeToString())


def edit_hdf5(data: bytes, rng: random.Random, others: Sequence[bytes]) -> bytes:
    """Change objects and attributes of an HDF5 file with HDF5 itself, so that all checksums are right."""
    image = io.BytesIO(data)
    with h5py.File(image, "r+") as file:
        names: list[str] = []
        file.visit(names.append)
        for _ in range(rng.choice((1, 1, 2, 4))):
            name = rng.choice(names)
            if file.get(name) is not None:
                _edit_object(file, name, names, rng)
        if rng.random() < 0.3:
            _edit_attribute(file, rng)
    return image.getvalue()


def _edit_object(file: Any, name: str, names: list[str], rng: random.Random) -> None:
    old = file[name]
    match rng.randrange(9):
        case 0:
            del file[name]
        case 1:
            del file[name]
            file.create_group(name)
        case 2:
            del file[name]
            file[name] = rng.choice((h5py.SoftLink("/rows"), h5py.SoftLink("/" + name),
                                     h5py.ExternalLink("/etc/passwd", "/"), h5py.SoftLink("/none")))  # fmt: skip
        case 3:
            target = file.get(rng.choice(names))
            if target is not None:
                del file[name]
                file[name] = target  # perhaps one of its parents: a cycle of hard links
        case 4 | 5 if isinstance(old, h5py.Dataset) and old.size:
            values = old[()]
            raw = mutate(np.ascontiguousarray(values).tobytes(), rng, [b"\xff\xfe\x80", bytes(8)])
            raw = raw[: values.nbytes].ljust(values.nbytes, b"\xff")
            old[...] = np.frombuffer(raw, values.dtype).reshape(values.shape)
        case _:
            shape, dtype = rng.choice((*SHAPES, getattr(old, "shape", None) or ())), rng.choice(DTYPES)
            if isinstance(old, h5py.Dataset) and rng.random() < 0.4:
                dtype = old.dtype
            del file[name]
            values = np.zeros(shape, dtype) if dtype not in ("M8[s]", "V8") else np.zeros(shape, "i8").view("V8")
            options = {"compression": 1, "shuffle": True} if values.size and shape and rng.random() < 0.2 else {}
            file.create_dataset(name, data=values, **options)


def _edit_attribute(file: Any, rng: random.Random) -> None:
    name = rng.choice(("schema", "spec", "featx"))
    value = file.attrs.get(name)
    value = value.decode() if isinstance(value, bytes) else value
    if rng.random() < 0.15:
        file.attrs.pop(name, None)
    elif name == "spec" and isinstance(value, str) and rng.random() < 0.8:
        try:
            file.attrs[name] = edit_json(value, rng).replace("\0", "")[:60_000]
        except (ValueError, UnicodeError):
            del file.attrs[name]
    else:
        values = (0, -1, 3, 2**62, 1.5, float("nan"), "text", b"\xff", "", [1, 2], np.zeros((2, 2)), np.bool_(True),
                  h5py.Empty("f4"))  # fmt: skip
        file.attrs[name] = rng.choice(values)

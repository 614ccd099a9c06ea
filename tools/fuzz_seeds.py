"""Small valid inputs for every fuzzing target, made by the builders of the tests; nobody else's bytes are among them.

What the format contracts of ``tests/formats`` call a small, valid model is the seed of that format; parsers below
formats get the seeds of formats they serve, and a few of their own.
"""

from __future__ import annotations

import bz2
import gzip
import importlib.util
import io
import json
import lzma
import pickle
import struct
import sys
import tarfile
import warnings
import zipfile
import zlib
from collections import OrderedDict, defaultdict
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

from fuzz_targets import bundle

TESTS = Path(__file__).resolve().parent.parent / "tests"
LARGEST = 16 << 10
"""Bytes of the largest seed that is used."""

_SERVES = {
    "zip": ("keras", "npz", "pytorch", "torchscript", "torch-export", "skops", "xgboost"),
    "hdf5-file": ("hdf5", "keras-h5"),
    "protobuf": ("onnx", "tensorflow-savedmodel", "tensorflow-graph", "coreml"),
    "flatbuffers": ("tflite", "catboost"),
    "sstable": ("tensorflow-checkpoint",),
    "ubjson": ("xgboost",),
    "npy": ("npz",),
    "pickle-machine": ("pickle",),
    "yaml": ("mlflow",),
    "json": ("transformers", "xgboost"),
}


def seeds() -> dict[str, list[bytes]]:
    """Inputs by target."""
    sys.path[:0] = [str(TESTS / "builders"), str(TESTS / "real")]
    found: dict[str, list[bytes]] = defaultdict(list)
    for target, data in [*_contracts(), *_samples(), *_pickles(), *_containers(), *_documents(), *_packs()]:
        if len(data) <= LARGEST and data not in found[target]:
            found[target].append(data)
    for parser, formats in _SERVES.items():
        found[parser] += [data for form in formats for data in found[form] if not data.startswith(b"#@ ")]
        for form in formats:
            for several in (data for data in found[form] if data.startswith(b"#@ ")):
                found[parser] += [part.partition(b"\n")[2] for part in several[3:].split(b"\n#@ ")]
    found["audit"] = [data for target in sorted(found) if target not in _SERVES for data in found[target][:1]]
    return dict(found)


def _module(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"seeds_of_{path.stem}", path)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        spec.loader.exec_module(module)
    return module


def _contracts() -> Iterator[tuple[str, bytes]]:
    from assay.testing.formats import FormatContract

    for path in sorted((TESTS / "formats").glob("test_*.py")):
        if "FormatContract)" not in path.read_text("utf-8"):
            continue
        for kind in list(vars(_module(path)).values()):
            if isinstance(kind, type) and issubclass(kind, FormatContract) and kind is not FormatContract:
                files = kind().make_files()
                form = kind().make_format().name
                yield form, bundle(files) if len(files) > 1 or "/" in next(iter(files)) else next(iter(files.values()))


def _samples() -> Iterator[tuple[str, bytes]]:
    """Of formats whose tests have no contract."""
    formats = TESTS / "formats"
    for name, target in (("pytorch", "pytorch"), ("xgboost", "xgboost"), ("keras", "keras"), ("npz", "npz")):
        module = _module(formats / f"test_{name}.py")
        for constant in ("SAMPLES", "SEEDS", "VALID"):
            yield from ((target, data) for data in vars(module).get(constant, ()) if isinstance(data, bytes))
    yield "torch-export", _module(formats / "test_pytorch_export.py").SAMPLE
    yield "torchscript", _module(formats / "test_torchscript.py").script()
    onnx = _module(formats / "test_onnx.py")
    yield "onnx", onnx.SMALL
    yield "onnx", onnx.model(onnx.graph((5, onnx.external("w", [2, 3], location="w.bin", offset="0", length="24"))))
    openvino = _module(formats / "test_openvino.py")
    weights = openvino.const("w", "f32", "2,3", 0, 24)
    yield "openvino", openvino.network(openvino.PARAMETER, weights, openvino.RESULT, tail=openvino.RT_INFO)
    coreml = _module(formats / "test_coreml.py")
    yield "coreml", coreml.model(502, coreml.program(coreml.const("w", coreml.value(11, (2,), coreml.blob("w", 64)))))
    skops = _module(formats / "test_skops.py")
    import numpy as np

    yield "skops", skops.archive(skops.estimator(C=skops.constant(1.0)), a=np.arange(3.0))
    gguf = _module(formats / "test_gguf.py")
    yield "gguf", gguf.VALID
    catboost = _module(formats / "test_catboost.py")
    yield "catboost", catboost.EXPORT if isinstance(catboost.EXPORT, bytes) else catboost.EXPORT.encode()


def _pickles() -> Iterator[tuple[str, bytes]]:
    import joblib
    import numpy as np

    values: list[object] = [
        {"weights": [0.5, 1, -70_000, None, True], "name": "née", "nested": ({1}, b"raw", bytearray(b"more"))},
        OrderedDict(a=np.arange(6, dtype="f4").reshape(2, 3), b=np.float64(2)),
        [[], [[]], {}, (), frozenset({1, "a"}), 1 << 80, 2.5j],
    ]
    for value in values:
        for protocol in (0, 2, 5):
            yield "pickle", pickle.dumps(value, protocol)
    # Harmless as names go: nothing unpickles these but a process in which nothing can be resolved.
    for function in (b"cos\nsystem\n", b"\x8c\x02os\x8c\x06system\x93", b"c__builtin__\neval\n"):
        yield "pickle", function + b"(S'x'\ntR."
        yield "pickle", b"\x80\x04]" + function + b"0" + pickle.dumps([1])[2:]
    yield "pickle", b"(S'x'\nios\nsystem\n."
    yield "pickle", b"(cos\nsystem\nS'x'\no."
    yield "pickle", b"\x80\x02cos\nsystem\nq\x000(h\x00tb."
    yield "pickle", pickle.dumps([1]) + b"cos\nsystem\n(tR."
    yield "pickle", gzip.compress(pickle.dumps(values[0]), mtime=0)
    for compress in (0, 3):
        file = io.BytesIO()
        joblib.dump({"array": np.arange(6.0), "objects": np.array([1, "a"], dtype=object)}, file, compress=compress)
        yield "joblib", file.getvalue()
    yield "torch-package", _zip({"p/.data/version": b"6", "p/m.py": b"x = 1\n", "p/data/m.pkl": pickle.dumps([1], 2)})
    manifest = {"model": {"modelName": "m", "serializedFile": "m.pt", "handler": "h.py"}}
    archive = {"MAR-INF/MANIFEST.json": json.dumps(manifest).encode(), "h.py": b"x = 1\n", "m.pt": pickle.dumps([1], 2)}
    yield "torchserve", _zip(archive)


def _zip(files: dict[str, bytes], method: int = zipfile.ZIP_STORED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        for name, data in files.items():
            archive.writestr(zipfile.ZipInfo(name), data, method)
    return file.getvalue()


def _containers() -> Iterator[tuple[str, bytes]]:
    from hostile_archives import special, tar_of

    yield "zip", _zip({"a.txt": b"words" * 9, "d/b.bin": bytes(64)}, zipfile.ZIP_DEFLATED)
    tar = tar_of(("a.txt", b"words"), special("link", tarfile.SYMTYPE, "a.txt"), ("d/" + "n" * 120, b"x"))
    yield "tar", tar.rstrip(bytes(1)) + bytes(1024)
    payload = b"some words and some more words, " * 9
    for codec in (
        gzip.compress(payload, mtime=0),
        bz2.compress(payload),
        lzma.compress(payload),
        zlib.compress(payload),
    ):
        yield "compressed", codec
        yield "compressed", gzip.compress(codec, mtime=0)
    yield "compressed", lzma.compress(payload, lzma.FORMAT_ALONE)
    for descr in ("<f4", "|O", [("a", "<i4"), ("b", "<U3")]):
        header = f"{{'descr': {descr!r}, 'fortran_order': False, 'shape': (2, 3), }}\n".encode()
        yield "npy", b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + bytes(24)


def _documents() -> Iterator[tuple[str, bytes]]:
    yield "json", b'{"a": [1, 2.5, null, true, "\\u00e9"], "a": {"b": -1e9}}'
    yield "yaml", b"a: &x [1, 2]\nb: *x\nc: !!python/name:os.system ''\nd: {e: 'f'}\n"
    yield (
        "policy",
        (
            b'extends = "strict"\n[severity]\nmislead = "warn"\n[rules]\n"pickle-*" = "refuse"\n'
            b'[gates]\npush = "warn"\n'
            b'[[exception]]\nrule = "file-unknown"\ndigest = "sha256:' + b"0" * 64 + b'"\nauthor = "a"\nreason = "r"\n'
            b"expires = 2030-01-01\n"
        ),
    )
    found = {"rule": "a-b", "severity": "note", "message": "m", "path": "p", "offset": 1, "evidence": "e"}
    report = {"schema": 1, "ruleset": "r", "formats": ["f"], "files": 1, "size": 2, "findings": [found], "left_out": 1}
    yield "report", json.dumps(report).encode()
    yield (
        "manifest",
        json.dumps({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json"}).encode(),
    )
    envelope = {"payload": "e30=", "payloadType": "application/vnd.in-toto+json", "signatures": [{"sig": "AA=="}]}
    material = {"publicKey": {"hint": "h"}, "tlogEntries": []}
    kind = "application/vnd.dev.sigstore.bundle.v0.3+json"
    body = {"mediaType": kind, "verificationMaterial": material, "dsseEnvelope": envelope}
    yield "signature-bundle", json.dumps(body).encode()


def _packs() -> Iterator[tuple[str, bytes]]:
    import numpy as np
    from packs import Hand, by_hand

    from assay.packing.codec import WORDS, encode
    from assay.spec.json import canonical

    base, tune = np.arange(40, dtype="<f4").tobytes(), np.arange(1, 41, dtype="<f4").tobytes()
    for name, words in WORDS.items():
        raw, other = np.frombuffer(base, np.uint8), np.frombuffer(tune, np.uint8)
        for based, ordered in ((False, False), (True, False), (True, True)):
            head = (words.width.bit_length() - 1) | (4 if words.rotate else 0) | (8 if based else 0)
            stored = encode(other, words, base=raw if based else None, ordered=ordered)
            count = len(raw) // words.width - 1
            yield "pack-block", bytes([head]) + count.to_bytes(2, "little") + b"".join(bytes(part) for part in stored)
        pack = by_hand([Hand(base, words), Hand(tune, words, base=0)], blobs=[[base, tune], [b""]])
        if name in {"float32", "bfloat16", "int64"}:
            yield "pack-directory", canonical(pack.directory)

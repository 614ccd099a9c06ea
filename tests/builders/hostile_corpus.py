"""The hostile samples of the tests, and the honest twins, in one place: what ``benchmarks/scanners.py`` shows to scanners.

Inert like everything the builders make. ``harm`` says that loading the sample runs code, imports a module of the
attacker's, or touches files or the network; the rest cannot be shown safe, exhausts or misleads.
"""

from __future__ import annotations

import collections
import gzip
import pickle
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import hostile_archives as archives
import hostile_files
import hostile_folders as folders
import hostile_keras as keras
import hostile_onnx as onnx
import hostile_others as others
import hostile_pickles as pickles
import hostile_templates as templates
import hostile_tensorflow as tensorflow
import numpy as np

_HARMLESS_RULES = frozenset(
    "file-unknown file-lfs-pointer manifest-weak-digest manifest-size file-active-picture file-active-document".split()
)
_NO_HARM = frozenset(
    {
        *("memo doubling", "deep nesting", "deep key", "lying frame", "length as bytes", "huge empty array"),
        *("power of ten", "name that is not ASCII", "persistent id", "build on a global"),
        *("append to a foreign object", "codec"),
    }
)
"""Pickles that exhaust, mislead or do nothing known."""

_VALUES = {
    "settings": {"name": "model", "layers": [1, 2.5, None, True], "about": "never call os.system or eval"},
    "ordered": collections.OrderedDict(a=(1, 2), b={"c"}, d=b"raw"),
    "arrays": {"w": np.arange(6, dtype="f4").reshape(2, 3), "b": np.float64(1), "kind": np.dtype("i8")},
}


@dataclass(frozen=True)
class Sample:
    """One model.

    Args:
        name: unique.
        kind: class it is counted in.
        files: path to bytes.
        harm: whether loading it does harm, if only with another payload.
    """

    name: str
    kind: str
    files: Mapping[str, bytes]
    harm: bool = True


def samples() -> Iterator[Sample]:
    """Every hostile sample."""
    yield from _pickles()
    yield from _keras()
    yield from _tensorflow()
    yield from _onnx()
    for name, template in templates.REACHING.items():
        yield Sample(f"template, {name}", "template", _templated(template))
    for name, template in templates.GROWING.items():
        yield Sample(f"growing template, {name}", "template", _templated(template), harm=False)
    for name, template in templates.DOUBTFUL.items():
        yield Sample(f"doubtful template, {name}", "template", _templated(template), harm=False)
    yield from _folders()
    yield from _others()


def benign() -> Iterator[Sample]:
    """The honest twins."""
    for protocol in (0, 1, 2, 3, 4, 5):
        for name, value in _VALUES.items():
            yield Sample(f"{name}, {protocol}", "pickle", {"model.pkl": pickle.dumps(value, protocol)}, harm=False)
    torch = archives.zip_of(archives.state_dict())
    yield Sample("torch zip", "torch", {"model.pt": torch}, harm=False)
    yield Sample("keras", "keras", {"model.keras": keras.archive(keras.sequential(keras.dense()))}, harm=False)
    yield Sample("keras h5", "keras", {"model.h5": keras.h5(keras.sequential(keras.dense()))}, harm=False)
    graph = tensorflow.with_op("Relu", "x")
    yield Sample("savedmodel", "tensorflow", tensorflow.model(graph), harm=False)
    honest = onnx.model(onnx.graph((5, onnx.tensor("w", raw=bytes(8)))))
    yield Sample("onnx", "onnx", {"model.onnx": honest}, harm=False)
    for name, template in templates.HONEST.items():
        yield Sample(f"template, {name}", "template", _templated(template), harm=False)
    for name, (_, twin, _) in folders.HUB.items():
        yield Sample(f"repository, {name}", "repository", folders.repository(**twin), harm=False)
    for name, (_, twin, _) in folders.MLFLOW.items():
        yield Sample(f"mlflow, {name}", "mlflow", twin, harm=False)
    yield Sample("openvino", "other", {"model.xml": others.openvino(others.layer())}, harm=False)
    yield Sample("pmml", "other", {"model.pmml": others.pmml()}, harm=False)
    yield Sample("xgboost", "other", {"model.json": others.xgboost()}, harm=False)
    yield Sample("lightgbm", "other", {"model.txt": others.lightgbm()}, harm=False)
    yield Sample("spacy", "other", others.spacy(), harm=False)


def _pickles() -> Iterator[Sample]:
    for name, stream in pickles.HOSTILE.items():
        harm = name not in _NO_HARM
        yield Sample(f"pickle, {name}", "pickle", {"model.pkl": stream}, harm)
        yield Sample(f"packed, {name}", "packed pickle", {"model.pkl.gz": gzip.compress(stream, mtime=0)}, harm)
        inside = archives.zip_of(archives.state_dict(pickle=stream))
        yield Sample(f"torch, {name}", "torch", {"model.pt": inside}, harm)
    for dotted in pickles.BYPASSES:
        module, _, name = dotted.rpartition(".")
        stream = pickles.stream(pickles.called(module, name, pickles.text("x")))
        yield Sample(f"call of {dotted}", "pickle", {"model.pkl": stream})
    bare = pickles.HOSTILE["protocol 0"]
    for name in ("weights", "notes.txt", "a/b.bin", "model.ckpt"):
        yield Sample(f"pickle called {name}", "pickle by another name", {name: bare})
    for member in (b"m/constants.pkl", b"m/extra", b"other/data.pkl"):
        more = archives.state_dict(archives.Entry(member, bare))
        yield Sample(f"torch with {member.decode()}", "torch", {"model.pt": archives.zip_of(more)})


def _keras() -> Iterator[Sample]:
    code = {"class_name": "__lambda__", "config": {"code": keras.CODE, "defaults": None, "closure": None}}
    hidden = {
        "lambda": keras.obj("Lambda", config={"name": "l", "function": code}),
        "module": keras.obj("system", "os"),
        "registered": keras.obj("Evil", None, registered_name="pkg>Evil"),
        "savedmodel layer": keras.obj("TFSMLayer", config={"name": "t", "filepath": "/nonexistent"}),
        "torch layer": keras.obj("TorchModuleWrapper", config={"name": "t", "module": "gAROLg=="}),
    }
    for name, inner in hidden.items():
        for index, config in enumerate(keras.wrapped(inner)):
            yield Sample(f"keras, {name} {index}", "keras", {"model.keras": keras.archive(config)})
        yield Sample(f"keras h5, {name}", "keras", {"model.h5": keras.h5(keras.wrapped(inner)[0])})
    for name, data in {
        "external link": keras.external_link(),
        "external storage": keras.external_storage(),
        "virtual dataset": keras.virtual(),
    }.items():
        yield Sample(f"hdf5, {name}", "keras", {"model.h5": data})


def _tensorflow() -> Iterator[Sample]:
    for op in ("ReadFile", "WriteFile", "MatchingFiles", "PyFunc", "EagerPyFunc", "ImmutableConst"):
        for index, files in enumerate(tensorflow.everywhere(op)):
            yield Sample(f"tensorflow, {op} {index}", "tensorflow", files)
    for index, files in enumerate(tensorflow.everywhere("EvilOperation")):
        yield Sample(f"tensorflow, unknown {index}", "tensorflow", files, harm=False)


def _onnx() -> Iterator[Sample]:
    for place in ("../nonexistent", "/nonexistent/x", "a/../../nonexistent"):
        held = onnx.external(location=place)
        for index, data in enumerate(onnx.holders(held)):
            yield Sample(f"onnx, {place} {index}", "onnx", {"model.onnx": data})
    for operator, domain in (("PyOp", "ai.onnx.contrib"), ("PythonOp", "com.microsoft")):
        for index, data in enumerate(onnx.operators(onnx.node(operator, domain), domain)):
            yield Sample(f"onnx, {operator} {index}", "onnx", {"model.onnx": data})
    yield Sample("onnx, laughing", "onnx", {"model.onnx": onnx.laughing(12)}, harm=False)
    yield Sample("onnx, looping", "onnx", {"model.onnx": onnx.looping()}, harm=False)


def _templated(template: str) -> dict[str, bytes]:
    settings = {"tokenizer_class": "LlamaTokenizer", "chat_template": template}
    return folders.repository(**{"tokenizer_config.json": settings})


def _folders() -> Iterator[Sample]:
    for name, (hostile, _, _) in folders.HUB.items():
        yield Sample(f"repository, {name}", "repository", folders.repository(**hostile))
    for name, (changes, _) in folders.SENTENCES.items():
        honest = {"modules.json": folders.MODULES, "1_Dense/config.json": folders.DENSE}
        yield Sample(f"sentences, {name}", "repository", folders.repository(**honest | changes))
    for name, (changes, _) in folders.PIPELINES.items():
        honest = {"model_index.json": folders.INDEX, "unet/config.json": {"_class_name": "UNet2DConditionModel"}}
        yield Sample(f"pipeline, {name}", "repository", folders.files(honest | changes))
    for name, (text, _, _) in folders.YAML.items():
        yield Sample(f"yaml, {name}", "settings", {"config.yaml": text.encode()})
    for name, (hostile, _, _) in folders.MLFLOW.items():
        yield Sample(f"mlflow, {name}", "mlflow", hostile)
    for name, (hostile, _, rule) in hostile_files.HARM.items():
        yield Sample(f"file, {name}", "file", folders.files(hostile), harm=rule not in _HARMLESS_RULES)


def _others() -> Iterator[Sample]:
    yield Sample("pmml, entity", "other", {"model.pmml": others.pmml(before=others.ENTITY)})
    yield Sample("pmml, parameter entity", "other", {"model.pmml": others.pmml(before=others.PARAMETER_ENTITY)})
    yield Sample("pmml, inclusion", "other", {"model.pmml": others.pmml(inside=others.INCLUDE)})
    yield Sample("pmml, laughter", "other", {"model.pmml": others.pmml(before=others.LAUGHS)}, harm=False)
    yield Sample("pmml, depth", "other", {"model.pmml": others.pmml(depth=5000)}, harm=False)
    yield Sample(
        "openvino, extension", "other", {"model.xml": others.openvino(others.layer("Evil", "evil"))}, harm=False
    )
    yield Sample("xgboost, depth", "other", {"model.json": others.xgboost(deep=20_000)}, harm=False)
    yield Sample("crfsuite, count", "other", {"model.crfsuite": others.crfsuite(features=1 << 30)}, harm=False)
    yield Sample("coreml, linked", "other", {"model.mlmodel": others.linked("../x.mlmodel")})

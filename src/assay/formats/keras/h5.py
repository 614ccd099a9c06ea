"""Keras models in HDF5: full models (``.h5``, ``.hdf5``), weights alone, and Keras 3's ``.weights.h5``.

Not here: the HDF5 layout (``containers.hdf5``), what a configuration means (``config``), what it could do (``audit``).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from assay.containers.guard import guarded
from assay.containers.hdf5.file import File, is_hdf5
from assay.errors import BadFormat, NotFound
from assay.formats.hdf5_tensors import attribute_text, read_tensor, tensors
from assay.formats.keras.audit import audit
from assay.formats.keras.config import Model, parse, read_model, read_training
from assay.formats.keras.weights import is_keras, is_optimizer, parameter_count, weights_by_layer
from assay.spec.description import Description
from assay.spec.finding import Finding, Severity
from assay.spec.json import Json
from assay.spec.tensor import TensorSpec
from assay.trees import Tree

MAX_CONFIG = 64 << 20
"""Characters of a configuration that are parsed."""

_VERSION = re.compile(r"\d+(\.\d+)*", re.ASCII)
_BACKENDS = {"tensorflow": "tensorflow", "jax": "jax", "torch": "torch", "theano": "theano"}


class KerasH5Format:
    """The format of Keras models and weights in HDF5 files."""

    name = "keras-h5"
    covers = "file"

    def detect(self, tree: Tree) -> Sequence[tuple[str, ...]]:
        """HDF5 files with Keras' attributes or groups; other HDF5 files are left alone."""
        return [(path,) for path in tree if is_hdf5(tree.head(path)) and _is_keras(tree, path)]

    def describe(self, tree: Tree, paths: tuple[str, ...]) -> Description:
        """Say everything one Keras HDF5 file says.

        Raises:
            BadFormat: it is not a readable HDF5 file.
        """
        path = paths[0]
        with guarded("a Keras HDF5 file", path):
            file = File(tree.open(path))
            specs, groups = tensors(file)
            attributes = file.root.attributes
            weights = file.root.members.get("model_weights")
            # Weights saved alone carry the version on the root, full models on both.
            sources = (attributes, weights.attributes if weights is not None else {})
            version, backend = (_first(sources, key) for key in ("keras_version", "backend"))
            findings: list[Finding] = []
            model = model_of(
                attribute_text(attributes, "model_config"), weights_by_layer(specs, groups), path, findings
            )
            training, task = training_of(attribute_text(attributes, "training_config"), path, findings)
            findings[:0] = file.findings
            return Description(
                format=self.name,
                paths=(path,),
                format_version=f"hdf5 superblock {file.reader.superblock.version}",
                framework="keras",
                framework_version=version,
                architecture=model.kind if model else None,
                task=task,
                tensors=tuple(specs),
                parameter_count=parameter_count(specs),
                inputs=model.inputs if model else (),
                outputs=model.outputs if model else (),
                hyperparameters=training,
                components=model.components if model else (),
                requirements=requirements(version, backend),
                metadata={**_contents(specs, model), **({"backend": backend} if backend else {}), **counts(model)},
                findings=tuple(findings),
            )

    def tensor(self, tree: Tree, spec: TensorSpec) -> bytes:
        """The elements of one tensor, also when chunked and compressed.

        Raises:
            NotFound: no Keras file of the tree has it.
            BadFormat: its bytes are not there or do not decode.
        """
        paths = [spec.extent.path] if spec.extent else [group[0] for group in self.detect(tree)]
        for path in paths:
            with guarded("a Keras HDF5 file", path):
                file = File(tree.open(path))
                if file.get(spec.name) is not None:
                    return read_tensor(file, spec.name)
        raise NotFound(f"no Keras HDF5 file holds {spec.name!r}")


def model_of(
    text: str | None, weights: Mapping[str, Mapping[str, str]], path: str, findings: list[Finding]
) -> Model | None:
    """The model a configuration text says, with what is odd about it added to *findings*; None when there is none."""
    document = document_of(text, "the model configuration", path, findings)
    model = read_model(document, weights)
    if model is not None and model.truncated:
        message = "Keras configuration: more or deeper nested layers than are read"
        findings.append(Finding("keras-limit", Severity.INCOMPLETE, message, path))
    return model


def training_of(text: str | None, path: str, findings: list[Finding]) -> tuple[dict[str, Json], str | None]:
    """Training settings and task of a training configuration text, with what is odd added to *findings*."""
    return read_training(document_of(text, "the training configuration", path, findings))


def document_of(text: str | None, what: str, path: str, findings: list[Finding]) -> Json:
    """The parsed and audited configuration; unreadable ones are findings, and then, as when absent, None."""
    if text is None:
        return None
    if len(text) > MAX_CONFIG:
        findings.append(Finding("keras-limit", Severity.INCOMPLETE, f"{what} has {len(text):,} characters", path))
        return None
    try:
        document = parse(text)
    except ValueError as error:
        message = f"{what} is not readable JSON"
        findings.append(Finding("keras-config", Severity.INCOMPLETE, message, path, evidence=str(error)[:200]))
        return None
    findings.extend(audit(document, path))
    return document


def requirements(version: str | None, backend: str | None) -> tuple[str, ...]:
    """Distributions that load the model: Keras in its version, and its backend."""
    keras = f"keras=={version}" if version and _VERSION.fullmatch(version) else "keras"
    engine = _BACKENDS.get(backend or "")
    return (keras, engine) if engine else (keras,)


def counts(model: Model | None) -> dict[str, Json]:
    """Name and counts worth showing."""
    if model is None:
        return {}
    shown: dict[str, Json] = {"layers": model.layers, "layer_classes": dict(model.classes.most_common(100))}
    return {"name": model.name, **shown} if model.name else shown


def _contents(specs: Sequence[TensorSpec], model: Model | None) -> dict[str, Json]:
    optimizer = [spec for spec in specs if is_optimizer(spec.name)]
    shown: dict[str, Json] = {"contents": "model" if model else "weights"}
    if optimizer:
        shown["optimizer_tensors"] = len(optimizer)
        shown["optimizer_parameters"] = sum(spec.size for spec in optimizer)
    return shown


def _first(sources: Sequence[Mapping[str, object]], key: str) -> str | None:
    return next((value[:100] for source in sources if isinstance(value := source.get(key), str)), None)


def _is_keras(tree: Tree, path: str) -> bool:
    try:
        with guarded("a Keras HDF5 file", path):
            return is_keras(File(tree.open(path)))
    except BadFormat:
        return False

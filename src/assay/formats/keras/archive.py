"""Keras 3 archives (``.keras``): a zip of configuration, metadata, weights in HDF5 and assets.

config.json        the model, its compile and build configuration
metadata.json      keras_version, date_saved
model.weights.h5   see ``weights``; stored plainly, so that its tensors have extents in the archive
assets/…           vocabularies and the like
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from assay.containers.archive import Archive, is_archive, open_archive
from assay.containers.guard import guarded
from assay.containers.hdf5.file import File
from assay.errors import BadFormat
from assay.formats.hdf5_tensors import sought_tensor, tensors
from assay.formats.keras.config import Model, read_training
from assay.formats.keras.documents import counts, document_of, model_of, requirements
from assay.formats.keras.weights import optimizer_facts, parameter_count, weights_by_layer
from assay.spec.description import Description
from assay.spec.finding import Finding, Severity
from assay.spec.json import Json
from assay.spec.tensor import TensorSpec
from assay.trees import Tree

CONFIG, METADATA, WEIGHTS = "config.json", "metadata.json", "model.weights.h5"

MAX_TEXT_MEMBER = 64 << 20
"""Bytes of a JSON member that are read."""

MAX_EXTRA = 20
"""Members that are none of Keras' and are named one by one."""

_TAIL = 1 << 16
_SHARD = re.compile(r"model_\d{1,6}\.weights\.h5")


class KerasArchiveFormat:
    """The format of ``.keras`` files."""

    name = "keras"
    covers = "file"

    def detect(self, tree: Tree) -> Sequence[tuple[str, ...]]:
        """Zip archives with Keras' configuration and metadata."""
        return [(path,) for path in tree if is_archive(tree.head(path)) and _is_keras(tree, path)]

    def describe(self, tree: Tree, paths: tuple[str, ...]) -> Description:
        """Say everything one archive says.

        Raises:
            BadFormat: it is not a readable zip archive.
        """
        path = paths[0]
        with guarded("a Keras archive", path):
            archive = open_archive(tree, path)
            findings: list[Finding] = []
            metadata = document_of(_member(archive, METADATA, path, findings), "metadata.json", path, findings)
            config = document_of(_member(archive, CONFIG, path, findings), "config.json", path, findings)
            specs, layers = _weights(archive, path, findings)
            model = model_of(config, layers, path, findings)
            compiled = config.get("compile_config") if isinstance(config, Mapping) else None
            training, task = read_training(compiled)
            version = _text(metadata, "keras_version")
            findings[:0] = [*archive.findings, *_extra_members(archive, path)]
            return Description(
                format=self.name,
                paths=(path,),
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
                requirements=requirements(version, None),
                metadata=_metadata(archive, metadata, specs, model),
                findings=tuple(findings),
            )

    def tensor(self, tree: Tree, spec: TensorSpec) -> bytes:
        """The elements of one tensor, also when the weights are deflated or chunked.

        Raises:
            NotFound: no archive of the tree has it.
            BadFormat: its bytes are not there or do not decode.
        """

        def weights(path: str) -> File | None:
            archive = open_archive(tree, path)
            return File(archive.open(WEIGHTS)) if WEIGHTS in archive else None

        return sought_tensor(tree, spec, self.detect, weights)


def _is_keras(tree: Tree, path: str) -> bool:
    window = tree.open(path)
    # Most zip archives are something else: look for the names before reading the directory. Keras itself needs the
    # configuration alone, so an archive without metadata is one of its models too.
    seen = tree.head(path) + window.read(max(0, window.size - _TAIL))
    if CONFIG.encode() not in seen or not (METADATA.encode() in seen or WEIGHTS.encode() in seen):
        return False
    try:
        with guarded("a Keras archive", path):
            archive = Archive(window)
            findings: list[Finding] = []
            if CONFIG not in archive or WEIGHTS in archive:
                return CONFIG in archive
            metadata = document_of(_member(archive, METADATA, path, findings), METADATA, path, findings)
    except BadFormat:
        return False
    return _text(metadata, "keras_version") is not None


def _member(archive: Archive, name: str, path: str, findings: list[Finding]) -> str | None:
    if name not in archive:
        findings.append(Finding("keras-missing-member", Severity.INCOMPLETE, f"the archive has no {name}", path))
        return None
    try:
        return archive.read(name, MAX_TEXT_MEMBER).decode("utf-8", "replace")
    except BadFormat as error:
        message = f"{name} cannot be read"
        findings.append(Finding("keras-unreadable-member", Severity.INCOMPLETE, message, path, evidence=error.message))
        return None


def _extra_members(archive: Archive, path: str) -> list[Finding]:
    """Findings about members that are none of Keras': nobody has looked into them."""
    known = {CONFIG, METADATA, WEIGHTS, "model.weights.json"}
    names = [
        member.name
        for member in archive.members
        if member.name not in known
        and not member.name.startswith("assets/")
        and not _SHARD.fullmatch(member.name)
        and not (member.name.endswith("/") and not member.size)
    ]
    text = "the archive has a member that Keras does not have, which was not read"
    return [
        Finding("keras-extra-member", Severity.INCOMPLETE, text, path, evidence=name[:200])
        for name in names[:MAX_EXTRA]
    ]


def _weights(
    archive: Archive, path: str, findings: list[Finding]
) -> tuple[list[TensorSpec], dict[str, dict[str, str]]]:
    if WEIGHTS not in archive:
        findings.append(Finding("keras-missing-member", Severity.NOTE, f"the archive has no {WEIGHTS}", path))
        return [], {}
    try:
        file = File(archive.open(WEIGHTS))
        specs, groups = tensors(file, in_place=archive.member(WEIGHTS).stored)
        layers = weights_by_layer(specs, groups)
    except BadFormat as error:
        message = f"{WEIGHTS} cannot be read"
        findings.append(Finding("keras-unreadable-member", Severity.INCOMPLETE, message, path, evidence=error.message))
        return [], {}
    findings.extend(file.findings)
    return specs, layers


def _metadata(archive: Archive, document: Json, specs: Sequence[TensorSpec], model: Model | None) -> dict[str, Json]:
    shown: dict[str, Json] = counts(model)
    saved = _text(document, "date_saved")
    if saved:
        shown["date_saved"] = saved
    shown |= optimizer_facts(specs)
    others = [member.name for member in archive.members if member.name not in {CONFIG, METADATA, WEIGHTS}]
    if others:
        shown["assets"] = [name[:200] for name in others[:200]]
    return shown


def _text(document: Json, key: str) -> str | None:
    value = document.get(key) if isinstance(document, Mapping) else None
    return value[:100] if isinstance(value, str) else None

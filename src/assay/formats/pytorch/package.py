"""The ``torch-package`` and ``torchserve`` formats: archives that bring Python source along with the weights.

Both are recognised, their weights listed where they are plain ``torch.save`` archives inside, and it is said that
loading them runs the source.

Source: ``torch.package.PackageExporter`` (records ``.data/extern_modules``, ``.data/python_version``, one member per
module) and TorchServe's model archiver (``MAR-INF/MANIFEST.json``).
"""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence

from assay.containers.archive import Archive, open_archive
from assay.containers.documents import read_json
from assay.containers.guard import guarded
from assay.errors import BadFormat
from assay.formats.pytorch.archives import Kind, archive_kind, find_archives
from assay.formats.pytorch.graph import needed_distributions
from assay.formats.pytorch.index import build_index
from assay.formats.pytorch.members import unread_members
from assay.formats.pytorch.nested import nested_findings
from assay.formats.pytorch.saved import Saved
from assay.formats.pytorch.state import Found, find_tensors
from assay.formats.pytorch.zip import note, read_inner, read_zip
from assay.spec.description import Description
from assay.spec.finding import Finding, Severity
from assay.spec.json import Json
from assay.trees import Tree

_MAX_LISTED = 50
_PYTHON = (".py", ".pyw", ".pyc")
_CODE = (*_PYTHON, ".so", ".sh", ".dll", ".dylib", ".pyd", ".exe", ".bat", ".jar")
_MAX_PICKLES = 64
_STATED = {
    "name": "modelName",
    "version": "modelVersion",
    "handler": "handler",
    "serialized_file": "serializedFile",
    "model_file": "modelFile",
    "extensions": "extensions",
}


class TorchPackageFormat:
    """Archives of ``torch.package``."""

    name = "torch-package"
    covers = "file"

    def detect(self, tree: Tree) -> Sequence[tuple[str, ...]]:
        """One group per archive."""
        return [(path,) for path in find_archives(tree, Kind.PACKAGE)]

    def describe(self, tree: Tree, paths: tuple[str, ...]) -> Description:
        """Pickled objects, the modules shipped and those expected outside; see the port.

        Raises:
            BadFormat: the archive is damaged.
        """
        path = paths[0]
        with guarded("a torch.package archive", path):
            archive = open_archive(tree, path)
            prefix = _prefix(archive, Kind.PACKAGE)
            findings = [*archive.findings, *_source_findings(archive, "torch-package-source")]
            parts = _pickles(archive, prefix, findings)
            findings += _unread(archive, prefix, set(_pickle_names(archive, prefix)[:_MAX_PICKLES]))
            index = build_index(parts)
            external = _lines(archive, f"{prefix}.data/extern_modules")
            metadata: dict[str, Json] = {"kind": "torch.package", **index.facts}
            metadata["extern_modules"] = external[:_MAX_LISTED]
            metadata["pickles"] = [
                name.removeprefix(prefix)[:200] for name in _pickle_names(archive, prefix)[:_MAX_LISTED]
            ]
            python = note(archive, f"{prefix}.data/python_version")
            if python:
                metadata["python_version"] = python[:40]
            return Description(
                format=self.name,
                paths=(path,),
                format_version=note(archive, f"{prefix}.data/version"),
                framework="pytorch",
                tensors=tuple(index.specs),
                parameter_count=index.trained if index.specs else None,
                requirements=needed_distributions(
                    name for saved, _ in parts for name in saved.globals if name.module in external
                ),
                metadata=metadata,
                findings=(*findings, *index.findings),
            )


class TorchServeFormat:
    """Model archives of TorchServe (``.mar``)."""

    name = "torchserve"
    covers = "file"

    def detect(self, tree: Tree) -> Sequence[tuple[str, ...]]:
        """One group per archive."""
        return [(path,) for path in find_archives(tree, Kind.SERVE)]

    def describe(self, tree: Tree, paths: tuple[str, ...]) -> Description:
        """The manifest, and the weights where they are a ``torch.save`` archive; see the port.

        Raises:
            BadFormat: the archive is damaged.
        """
        path = paths[0]
        with guarded("a TorchServe archive", path):
            archive = open_archive(tree, path)
            prefix = _prefix(archive, Kind.SERVE)
            findings = [*archive.findings, *_source_findings(archive, "torchserve-source")]
            manifest, model = _manifest(archive, prefix, findings)
            parts = _weights(archive, prefix, model, findings)
            inside, nested = nested_findings(archive)
            findings += [*inside, *_unread(archive, prefix, nested)]
            if model.get("requirementsFile"):
                message = "it names a file of requirements, which TorchServe may install"
                effect = "fetch packages from the network and run their code"
                findings.append(Finding("torchserve-requirements", Severity.NETWORK, message, path, effect=effect))
            index = build_index(parts)
            metadata: dict[str, Json] = {"kind": "torchserve", **index.facts}
            for key, stated in _STATED.items():
                value = model.get(stated)
                if isinstance(value, str):
                    metadata[key] = value[:200]
            runtime = manifest.get("runtime")
            if isinstance(runtime, str):
                metadata["runtime"] = runtime[:60]
            version = manifest.get("archiverVersion")
            return Description(
                format=self.name,
                paths=(path,),
                format_version=version[:60] if isinstance(version, str) else None,
                framework="pytorch",
                tensors=tuple(index.specs),
                parameter_count=index.trained if index.specs else None,
                requirements=("torch", "torchserve"),
                metadata=metadata,
                findings=(*findings, *index.findings),
            )


def _prefix(archive: Archive, wanted: Kind) -> str:
    kind = archive_kind(archive)
    if kind is None or kind[0] is not wanted:
        raise BadFormat(f"{archive.window.path}: not an archive of {wanted.value}", path=archive.window.path)
    return kind[1]


def _source_findings(archive: Archive, rule: str) -> list[Finding]:
    sources = [member for member in archive.members if member.name.lower().endswith(_CODE)]
    if not sources:
        return []
    size = sum(member.size for member in sources if member.name.lower().endswith(_PYTHON))
    message = f"it ships {len(sources):,} files of program code, which loading it runs"
    names = ", ".join(member.name for member in sources[:5])
    evidence = f"{size:,} bytes of Python source: {names}"[:200]
    effect = "run Python source from the artifact" if size else "run program code from the artifact"
    return [Finding(rule, Severity.EXECUTE, message, archive.window.path, None, evidence, effect)]


def _unread(archive: Archive, prefix: str, read: Container[str]) -> list[Finding]:
    """What lies in the archive beside what was read: pickles, programs, archives."""

    def known(name: str) -> bool:
        storage = name.startswith(f"{prefix}.data/") and name.endswith(".storage")
        return storage or name in read or name.lower().endswith(_CODE)

    return unread_members(archive, prefix, known, plain=False)


def _pickle_names(archive: Archive, prefix: str) -> list[str]:
    names = [member.name for member in archive.members if member.name.endswith(".pkl")]
    return [name for name in names if not name.startswith(f"{prefix}.data/")]


def _pickles(archive: Archive, prefix: str, findings: list[Finding]) -> list[tuple[Saved, Found]]:
    """Every pickled object of a package; its storages are members ``.data/KEY.storage``."""
    parts: list[tuple[Saved, Found]] = []
    names = _pickle_names(archive, prefix)
    for name in names[:_MAX_PICKLES]:
        label = name.removeprefix(prefix)
        try:
            saved = read_zip(archive, prefix, pickle=label, storages=".data/", suffix=".storage")
        except BadFormat as error:
            findings.append(Finding("torch-package-pickle", Severity.INCOMPLETE, error.message, archive.window.path))
            continue
        findings.extend(finding for finding in saved.findings if finding not in findings)
        parts.append((saved, find_tensors({label: saved.value} if len(names) > 1 else saved.value)))
    if len(names) > _MAX_PICKLES:
        message = f"{len(names):,} pickled objects, the first {_MAX_PICKLES} were read"
        findings.append(Finding("torch-package-pickle", Severity.INCOMPLETE, message, archive.window.path))
    return parts


def _weights(
    archive: Archive, prefix: str, model: Mapping[str, Json], findings: list[Finding]
) -> list[tuple[Saved, Found]]:
    name = model.get("serializedFile")
    member = f"{prefix}{name}" if isinstance(name, str) else ""
    if member not in archive:
        return []
    try:
        saved = read_inner(archive, member, Kind.PICKLE, Kind.SCRIPT)
    except BadFormat as error:
        findings.append(Finding("torchserve-weights", Severity.INCOMPLETE, error.message[:400], archive.window.path))
        return []
    return [(saved, find_tensors(saved.value))]


def _manifest(archive: Archive, prefix: str, findings: list[Finding]) -> tuple[Mapping[str, Json], Mapping[str, Json]]:
    try:
        manifest = read_json(archive.open(f"{prefix}MAR-INF/MANIFEST.json", 1 << 20), 1 << 20).value
    except BadFormat as error:
        findings.append(Finding("torchserve-manifest", Severity.INCOMPLETE, error.message[:400], archive.window.path))
        return {}, {}
    if not isinstance(manifest, Mapping):
        return {}, {}
    model = manifest.get("model")
    return manifest, model if isinstance(model, Mapping) else {}


def _lines(archive: Archive, name: str) -> list[str]:
    if name not in archive:
        return []
    try:
        text = archive.read(name, 1 << 20).decode("utf-8", "replace")
    except BadFormat:
        return []
    return [line.strip()[:200] for line in text.splitlines() if line.strip()]

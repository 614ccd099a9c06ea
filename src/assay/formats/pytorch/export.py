"""The ``torch-export`` format: ``.pt2`` archives of ``torch.export.save`` and of AOTInductor.

Drawn as a tree (since torch 2.8; ``P`` is any folder)::

    P/archive_format                        "pt2"
    P/models/NAME.json                      the program: graph, signature, symbolic sizes, versions
    P/data/weights/NAME_weights_config.json parameter -> file, dtype, shape, strides
    P/data/weights/weight_0 …               storages, stored
    P/data/constants/NAME_constants_config.json, tensor_0 …, custom_obj_0 …
    P/data/sample_inputs/NAME.pt            torch.save of example inputs
    P/data/aotinductor/NAME/*.so            machine code (AOTInductor)
    P/extra/*

and before::

    serialized_exported_program.json  serialized_state_dict.pt  serialized_constants.pt  version

Source: ``torch._export.serde.schema`` (8.20) and ``torch.export.pt2_archive``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from assay.containers.archive import Archive, open_archive
from assay.containers.documents import read_json
from assay.containers.guard import guarded
from assay.errors import BadFormat
from assay.formats.pytorch.archives import EXPORT_PROGRAM, Kind, archive_kind, find_archives
from assay.formats.pytorch.export_program import Program, read_program, tensor_meta
from assay.formats.pytorch.members import unread_members
from assay.formats.pytorch.nested import nested_findings
from assay.formats.pytorch.saved import Saved, sought_elements
from assay.formats.pytorch.state import find_tensors
from assay.formats.pytorch.values import Malformed, StorageValue, TensorValue
from assay.formats.pytorch.zip import MAX_INFLATED, ArchiveRecords, note, read_inner
from assay.spec.description import Description
from assay.spec.finding import Finding, Severity
from assay.spec.json import Json
from assay.spec.tensor import TensorSpec
from assay.trees import Tree

MAX_TENSORS = 200_000

_NATIVE = (".so", ".dll", ".dylib", ".pyd", ".o", ".cubin", ".hsaco")
_PICKLED = ("custom_obj_", "opaque_obj_")


class TorchExportFormat:
    """Archives of ``torch.export.save``, with or without compiled code."""

    name = "torch-export"
    covers = "file"

    def detect(self, tree: Tree) -> Sequence[tuple[str, ...]]:
        """One group per archive."""
        return [(path,) for path in find_archives(tree, Kind.EXPORT)]

    def describe(self, tree: Tree, paths: tuple[str, ...]) -> Description:
        """Program, signature and weights; see the port.

        Raises:
            BadFormat: the archive is damaged.
        """
        path = paths[0]
        with guarded("a torch.export archive", path):
            reading = _read(open_archive(tree, path))
            return _assemble(path, reading)

    def tensor(self, tree: Tree, spec: TensorSpec) -> bytes:
        """The elements of one tensor in C order, little-endian; deflated members are inflated.

        Raises:
            BadFormat: the bytes are not there or do not decode.
            NotFound: no archive of the tree holds such a tensor.
        """

        def tensors(path: str) -> Iterator[tuple[str, Saved, TensorValue]]:
            found = _read(open_archive(tree, path)).tensors
            return ((name, saved, tensor) for name, (saved, tensor) in found.items())

        return sought_elements(spec, find_archives(tree, Kind.EXPORT), "a torch.export archive", tensors)


@dataclass(slots=True)
class _Reading:
    """What one archive holds.

    Args:
        archive, prefix: the zip and the folder its members lie in.
        programs: by model name.
        tensors: name to the file it lies in and the tensor.
        trained: elements of parameters.
        read: members that were read, or that tensors lie in.
        findings: what was odd.
    """

    archive: Archive
    prefix: str
    programs: dict[str, Program] = field(default_factory=dict)
    tensors: dict[str, tuple[Saved, TensorValue]] = field(default_factory=dict)
    trained: int = 0
    read: set[str] = field(default_factory=set)
    findings: list[Finding] = field(default_factory=list)

    def say(self, rule: str, severity: Severity, message: str, evidence: str = "") -> None:
        """Report something about the archive."""
        path = self.archive.window.path
        self.findings.append(Finding(rule, severity, message[:400], path, None, evidence[:200]))


def _read(archive: Archive) -> _Reading:
    kind = archive_kind(archive)
    if kind is None or kind[0] is not Kind.EXPORT:
        raise BadFormat(f"{archive.window.path}: not an archive of torch.export", path=archive.window.path)
    reading = _Reading(archive, kind[1], findings=list(archive.findings))
    prefix = reading.prefix
    if f"{prefix}{EXPORT_PROGRAM}" in archive:
        _read_program(reading, "model", f"{prefix}{EXPORT_PROGRAM}")
        for name in ("serialized_state_dict.pt", "serialized_constants.pt"):
            _read_saved(reading, f"{prefix}{name}", trained="state_dict" in name)
    else:
        models = f"{prefix}models/"
        for member in archive.members:
            if member.name.startswith(models) and member.name.endswith(".json"):
                _read_program(reading, member.name[len(models) : -len(".json")], member.name)
        for member in archive.members:
            for folder, suffix in (("weights", "_weights_config.json"), ("constants", "_constants_config.json")):
                if member.name.startswith(f"{prefix}data/{folder}/") and member.name.endswith(suffix):
                    _read_config(reading, member.name, f"{prefix}data/{folder}/")
        for name in reading.programs:
            for folder in ("weights", "constants"):
                _read_saved(reading, f"{prefix}data/{folder}/{name}.pt", trained=folder == "weights")
    _look_for_code(reading)
    _read_beside(reading)
    return reading


def _read_beside(reading: _Reading) -> None:
    """Say what the files of ``torch.save`` inside hold (sample inputs too), and what else lies in the archive."""
    findings, nested = nested_findings(reading.archive)
    reading.findings += findings
    reading.read |= nested

    def known(name: str) -> bool:
        base = name.rpartition("/")[2]
        return name in reading.read or name.lower().endswith((".json", *_NATIVE)) or base.startswith(_PICKLED)

    reading.findings += unread_members(reading.archive, reading.prefix, known, plain=False)


def _read_program(reading: _Reading, name: str, member: str) -> None:
    try:
        reading.programs[name[:200]] = read_program(read_json(reading.archive.open(member, MAX_INFLATED)).value)
    except (BadFormat, Malformed) as error:
        reading.say("torch-export-program", Severity.INCOMPLETE, f"{member[-100:]}: {error}")


def _read_config(reading: _Reading, member: str, folder: str) -> None:
    """Read one payload config: name to file and tensor layout."""
    archive = reading.archive
    try:
        document = read_json(archive.open(member, MAX_INFLATED)).value
    except BadFormat as error:
        reading.say("torch-export-config", Severity.INCOMPLETE, error.message)
        return
    config = document.get("config") if isinstance(document, Mapping) else None
    if not isinstance(config, Mapping):
        reading.say("torch-export-config", Severity.INCOMPLETE, f"{member[-100:]} has no table of tensors")
        return
    records = ArchiveRecords(archive, folder)
    big = note(archive, f"{reading.prefix}byteorder") == "big"
    saved = Saved(path=archive.window.path, version="", value=None, globals=(), records=records, big_endian=big)
    for name, entry in config.items():
        if len(reading.tensors) >= MAX_TENSORS:
            reading.say("torch-export-config", Severity.INCOMPLETE, f"more than {MAX_TENSORS:,} tensors")
            return
        if isinstance(entry, Mapping):
            _read_payload(reading, saved, name[:1000], entry, folder)


def _read_payload(reading: _Reading, saved: Saved, name: str, entry: Mapping[str, Json], folder: str) -> None:
    key = entry.get("path_name")
    if not isinstance(key, str) or key.startswith(_PICKLED):
        return
    if entry.get("use_pickle") is True:
        _read_saved(reading, folder + key, trained=entry.get("is_param") is True, only=name)
        return
    try:
        dtype, shape, strides, offset = tensor_meta(entry.get("tensor_meta"))
    except Malformed as error:
        reading.say("torch-export-config", Severity.INCOMPLETE, f"{name}: {error}")
        return
    reading.read.add(folder + key)
    record = saved.records.find(key)
    storage = StorageValue(key, "uint8", record.size if record else 0, "")
    tensor = TensorValue(storage, dtype, shape, strides, offset)
    _check_storage(reading, saved, name, tensor)
    _keep(reading, name, saved, tensor, trained=entry.get("is_param") is True)


def _check_storage(reading: _Reading, saved: Saved, name: str, tensor: TensorValue) -> None:
    problem = saved.problem(tensor)
    if problem:
        missing, message = problem
        rule = "torch-export-missing-storage" if missing else "torch-export-view-outside"
        reading.say(rule, Severity.INCOMPLETE if missing else Severity.MISLEAD, message, name)


def _read_saved(reading: _Reading, member: str, *, trained: bool, only: str | None = None) -> None:
    """Read a ``torch.save`` archive inside the archive: a state dict, or one tensor called *only*."""
    if member not in reading.archive:
        return
    try:
        saved = read_inner(reading.archive, member, Kind.PICKLE)
    except BadFormat as error:
        reading.say("torch-export-weights", Severity.INCOMPLETE, f"{member[-100:]}: {error.message}")
        return
    found = find_tensors(saved.value)
    for name, reason in found.malformed:
        reading.say("torch-export-weights", Severity.INCOMPLETE, f"{name or member}: {reason}")
    parameters = {name for program in reading.programs.values() for name in program.parameters}
    for located in found.tensors:
        name = only or located.name
        _check_storage(reading, saved, name, located.tensor)
        is_parameter = trained and (only is not None or name in parameters or not parameters)
        _keep(reading, name, saved, located.tensor, trained=is_parameter)


def _keep(reading: _Reading, name: str, saved: Saved, tensor: TensorValue, *, trained: bool) -> None:
    if name in reading.tensors:
        return
    reading.tensors[name] = (saved, tensor)
    if trained:
        reading.trained += tensor.size


def _look_for_code(reading: _Reading) -> None:
    names = [member.name for member in reading.archive.members]
    native = [name for name in names if name.lower().endswith(_NATIVE) or "/data/aotinductor/" in f"/{name}"]
    if native:
        message = f"{len(native):,} files of compiled code (AOTInductor), which loading the archive runs"
        reading.say("torch-export-native-code", Severity.EXECUTE, message, ", ".join(native[:5]))
    objects = [name for name in names if name.rpartition("/")[2].startswith(_PICKLED)]
    if objects:
        message = f"{len(objects):,} pickled custom objects, which loading the archive unpickles"
        reading.say("torch-export-custom-object", Severity.EXECUTE, message, ", ".join(objects[:5]))
    if not reading.programs and not native:
        reading.say("torch-export-program", Severity.INCOMPLETE, "the archive holds no readable program")


def _assemble(path: str, reading: _Reading) -> Description:
    archive, prefix = reading.archive, reading.prefix
    lead = reading.programs.get("model") or next(iter(reading.programs.values()), Program())
    metadata: dict[str, Json] = {"kind": "torch.export"}
    for key in ("archive_format", "archive_version", "byteorder"):
        text = note(archive, prefix + key)
        if text:
            metadata[key] = text[:60]
    if len(reading.programs) > 1:
        metadata["models"] = list(reading.programs)[:100]
    metadata.update(lead.metadata)
    metadata["ops"] = dict(Counter(lead.operators).most_common(200))
    metadata["buffers"] = len(lead.buffers)
    compiled = [member.name for member in archive.members if member.name.endswith(".so")]
    if compiled:
        metadata["compiled"] = [name[:200] for name in compiled[:20]]
    version = note(archive, f"{prefix}archive_version") or note(archive, f"{prefix}version")
    return Description(
        format=TorchExportFormat.name,
        paths=(path,),
        format_version=lead.schema_version or version,
        framework="pytorch",
        framework_version=lead.torch_version,
        architecture=lead.architecture,
        tensors=tuple(saved.spec(name, tensor) for name, (saved, tensor) in reading.tensors.items()),
        parameter_count=reading.trained if reading.tensors else None,
        inputs=lead.inputs,
        outputs=lead.outputs,
        components=lead.components,
        requirements=("torch",),
        metadata=metadata,
        findings=tuple(reading.findings),
    )

"""The ``torchscript`` format: a program and its weights, as ``torch.jit.save`` writes them.

Drawn as a tree (``P`` is any folder)::

    P/data.pkl              the module tree: objects of classes in __torch__
    P/data/0 …              its storages, stored
    P/code/__torch__/*.py   the program, often deflated; *.debug_pkl says where it came from
    P/constants.pkl         tensors the program refers to as CONSTANTS.c0 …
    P/constants/0 …         their storages
    P/version               of the operators' semantics
    P/extra/*               files a person added
    P/bytecode.pkl          only in archives for the lite interpreter

Source: ``torch/csrc/jit/serialization/{export_module,import,python_print}.cpp``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from assay.containers.archive import Archive, open_archive
from assay.containers.guard import guarded
from assay.containers.pickle import parse as pickles
from assay.containers.pickle.values import Call
from assay.errors import BadFormat, LimitExceeded
from assay.formats.pytorch.archives import Kind, archive_kind, find_archives
from assay.formats.pytorch.graph import as_json, attributes_of, key_text, reachable
from assay.formats.pytorch.index import build_index
from assay.formats.pytorch.members import storage_keys, unread_members
from assay.formats.pytorch.rebuild import tensor_of
from assay.formats.pytorch.saved import Saved, sought_elements
from assay.formats.pytorch.script_code import Script, ScriptClass, add_source, note_operator, note_reaching, plain_class
from assay.formats.pytorch.state import MAX_COMPONENTS, MAX_NESTING, Found, find_tensors
from assay.formats.pytorch.values import Malformed, TensorValue, class_of
from assay.formats.pytorch.zip import note, read_zip
from assay.spec.description import Component, Description, Port
from assay.spec.finding import Finding, Severity
from assay.spec.json import Json
from assay.spec.tensor import TensorSpec
from assay.trees import Tree

MAX_CODE = 64 << 20
"""Bytes of source text that are read."""

_MAX_OPERATORS = 200
_MAX_OPERATOR = 400
_EFFECTS = {
    Severity.READ: "read a file that its code names",
    Severity.WRITE: "write a file that its code names",
    Severity.NETWORK: "reach other machines",
    Severity.EXECUTE: "call Python from its code",
}


class TorchScriptFormat:
    """Archives of ``torch.jit.save``, for the full and the lite interpreter."""

    name = "torchscript"
    covers = "file"

    def detect(self, tree: Tree) -> Sequence[tuple[str, ...]]:
        """One group per archive."""
        return [(path,) for path in find_archives(tree, Kind.SCRIPT)]

    def describe(self, tree: Tree, paths: tuple[str, ...]) -> Description:
        """Modules, tensors, constants and the signature of ``forward``; see the port.

        Raises:
            BadFormat: neither the modules nor the code are readable.
        """
        path = paths[0]
        with guarded("a TorchScript archive", path):
            archive = open_archive(tree, path)
            prefix = _prefix(archive)
            findings: list[Finding] = []
            script = _read_code(archive, prefix, findings)
            if f"{prefix}data.pkl" not in archive:
                return _older(archive, prefix, script, findings)
            saved, parts = _read_parts(archive, prefix, script, findings)
            findings += [*_unread(archive, prefix, parts), *_custom(script, parts, path)]
            return _assemble(archive, prefix, saved, parts, script, findings)

    def tensor(self, tree: Tree, spec: TensorSpec) -> bytes:
        """The elements of one tensor in C order, little-endian; deflated storages are inflated.

        Raises:
            BadFormat: the bytes are not there or do not decode.
            NotFound: no archive of the tree holds such a tensor.
        """

        def tensors(path: str) -> Iterator[tuple[str, Saved, TensorValue]]:
            archive = open_archive(tree, path)
            prefix = _prefix(archive)
            _, parts = _read_parts(archive, prefix, _read_code(archive, prefix, []), [])
            return ((located.name, saved, located.tensor) for saved, found in parts for located in found.tensors)

        return sought_elements(spec, find_archives(tree, Kind.SCRIPT), "a TorchScript archive", tensors)


def _unread(archive: Archive, prefix: str, parts: list[tuple[Saved, Found]]) -> list[Finding]:
    """What lies in the archive beside modules, constants, their storages and the code."""
    read = {f"{prefix}data.pkl"}
    for folder, (saved, _) in zip(("data", "constants"), parts, strict=False):
        read |= {f"{prefix}{folder}.pkl", *(f"{prefix}{folder}/{key}" for key in storage_keys(saved.value))}
    code = f"{prefix}code/"

    def known(name: str) -> bool:
        return name in read or (name.startswith(code) and name.endswith(".py"))

    return unread_members(archive, prefix, known, plain=False)


def _prefix(archive: Archive) -> str:
    kind = archive_kind(archive)
    if kind is None or kind[0] is not Kind.SCRIPT:
        raise BadFormat(f"{archive.window.path}: not a TorchScript archive", path=archive.window.path)
    return kind[1]


def _read_code(archive: Archive, prefix: str, findings: list[Finding]) -> Script:
    script = Script()
    folder, left = f"{prefix}code/", MAX_CODE
    for member in archive.members:
        if not member.name.endswith(".py"):
            continue
        try:
            text = archive.read(member.name, left).decode("utf-8", "replace")
        except (BadFormat, LimitExceeded) as error:
            findings.append(Finding("torchscript-code", Severity.INCOMPLETE, error.message, archive.window.path))
            continue
        left -= member.size
        if not member.name.startswith(folder):
            # torch has its own idea of what the leading folder is.
            note_reaching(script, text)
            continue
        add_source(script, member.name[len(folder) : -len(".py")].replace("/", "."), text)
    _read_bytecode(archive, prefix, script, findings)
    for word, severity in sorted(script.reaching.items()):
        message = f"the TorchScript code names {word}, an operator that reaches beyond tensors"
        effect = _EFFECTS[severity]
        findings.append(Finding("torchscript-reaching-op", severity, message, archive.window.path, None, word, effect))
    return script


def _read_bytecode(archive: Archive, prefix: str, script: Script, findings: list[Finding]) -> None:
    """Note the operators and classes that the bytecode of the lite interpreter names."""
    name = f"{prefix}bytecode.pkl"
    if name not in archive:
        return
    try:
        parsed = pickles.parse(archive.open(name))
    except BadFormat as error:
        findings.append(Finding("torchscript-code", Severity.INCOMPLETE, error.message, archive.window.path))
        return
    findings.extend(parsed.findings)
    for part in reachable(parsed.value):
        for item in part if isinstance(part, (tuple, list)) else ():
            if isinstance(item, str) and len(item) < _MAX_OPERATOR and ("::" in item or "torch.classes" in item):
                note_operator(script, item)


def _custom(script: Script, parts: list[tuple[Saved, Found]], path: str) -> list[Finding]:
    """Report operators and classes of libraries that are not known here: loading needs their compiled code."""
    for saved, _ in parts:
        for name in saved.globals:
            note_reaching(script, str(name))
    if not script.libraries:
        return []
    names = ", ".join(sorted(script.libraries)[:20])
    message = "it needs operators or classes of libraries that are not known here"
    return [Finding("torchscript-custom-library", Severity.INCOMPLETE, message, path, None, names[:200])]


def _read_parts(
    archive: Archive, prefix: str, script: Script, findings: list[Finding]
) -> tuple[Saved, list[tuple[Saved, Found]]]:
    saved = read_zip(archive, prefix, script=True)
    findings.extend(saved.findings)
    declared = {name: found.parameters for name, found in script.classes.items()}
    parts = [(saved, find_tensors(saved.value, declared=declared))]
    if f"{prefix}constants.pkl" in archive:
        try:
            constants = read_zip(archive, prefix, pickle="constants.pkl", storages="constants/", script=True)
        except BadFormat as error:
            findings.append(Finding("torchscript-constants", Severity.INCOMPLETE, error.message, archive.window.path))
        else:
            findings.extend(item for item in constants.findings if item not in findings)
            found = find_tensors({"CONSTANTS": constants.value}, declared={})
            found.tensors = [replace(located, buffer=True) for located in found.tensors]
            parts.append((constants, found))
    return saved, parts


def _assemble(
    archive: Archive,
    prefix: str,
    saved: Saved,
    parts: list[tuple[Saved, Found]],
    script: Script,
    findings: list[Finding],
) -> Description:
    path = archive.window.path
    index = build_index(parts)
    root = saved.value if isinstance(saved.value, Call) else None
    kind = class_of(root) if root is not None else None
    top = script.classes.get(kind or "", ScriptClass())
    component = _component("", root, script, [MAX_COMPONENTS], MAX_NESTING) if root is not None else None
    lite = f"{prefix}bytecode.pkl" in archive
    if lite:
        message = "made for the lite interpreter: it also holds bytecode, of which only the operators were looked at"
        findings.append(Finding("torchscript-lite", Severity.NOTE, message, path))
    if not script.classes:
        message = "the archive holds no readable source: modules and signature are known from the weights only"
        findings.append(Finding("torchscript-no-code", Severity.INCOMPLETE, message, path))
    floating = sum(spec.size for spec in index.specs if spec.dtype.startswith(("float", "bfloat", "complex")))
    settings = dict(component.hyperparameters) if component is not None else {}
    return Description(
        format=TorchScriptFormat.name,
        paths=(path,),
        format_version=saved.version.removeprefix("zip ") or None,
        framework="pytorch",
        architecture=plain_class(kind).rpartition(".")[2] if kind else None,
        tensors=tuple(index.specs),
        # A frozen module has constants in place of parameters.
        parameter_count=index.trained or floating,
        inputs=tuple(Port(name, _type(text)) for name, text in top.arguments),
        outputs=(Port("output", _type(top.returns)),) if top.returns else (),
        hyperparameters=settings,
        components=component.children if component is not None else (),
        requirements=("torch",),
        metadata={**saved.facts, **index.facts, **_facts(archive, prefix, script, top, kind), "lite": lite},
        findings=(*findings, *index.findings),
    )


def _facts(archive: Archive, prefix: str, script: Script, top: ScriptClass, kind: str | None) -> dict[str, Json]:
    facts: dict[str, Json] = {"kind": "torchscript", "code_size": script.size, "classes": len(script.classes)}
    if kind:
        facts["class"] = plain_class(kind)
    if top.methods:
        facts["methods"] = [name[:200] for name in top.methods[:100]]
    facts["ops"] = dict(script.operators.most_common(_MAX_OPERATORS))
    facts["traced"] = any(member.name.startswith(f"{prefix}traced_inputs") for member in archive.members)
    extra = [member.name.removeprefix(prefix)[:200] for member in archive.members if f"{prefix}extra/" in member.name]
    if extra:
        facts["extra_files"] = sorted(extra)[:100]
    return facts


def _component(name: str, module: Call, script: Script, budget: list[int], depth: int) -> Component:
    budget[0] -= 1
    kind = class_of(module)
    settings: dict[str, Json] = dict(script.classes.get(kind, ScriptClass()).constants)
    fitted: dict[str, str] = {}
    children: list[Component] = []
    for key, value in attributes_of(module).items():
        label = key_text(key)
        try:
            tensor = tensor_of(value)
        except Malformed:
            continue
        if tensor is not None:
            if len(fitted) < 256:
                fitted[label] = tensor.text
        elif isinstance(value, Call) and class_of(value).startswith("__torch__."):
            if depth > 0 and budget[0] > 0:
                children.append(_component(label, value, script, budget, depth - 1))
        elif label not in ("training", "_is_full_backward_hook") and len(settings) < 64 and value is not None:
            settings[label] = as_json(value, 64)
    return Component(name, plain_class(kind), settings, fitted, tuple(children))


def _type(text: str) -> str:
    return plain_class(text) if text != "Tensor" else "tensor"


def _older(archive: Archive, prefix: str, script: Script, findings: list[Finding]) -> Description:
    """Archives of torch 1.0 to 1.2 keep the modules in ``model.json``; their tensors are not listed."""
    path = archive.window.path
    tensors = [member for member in archive.members if member.name.startswith(f"{prefix}tensors/")]
    message = "the layout of torch before 1.3 (model.json) is recognised, its modules and tensors are not read"
    findings.append(Finding("torchscript-old-layout", Severity.INCOMPLETE, message, path))
    return Description(
        format=TorchScriptFormat.name,
        paths=(path,),
        format_version=note(archive, f"{prefix}version"),
        framework="pytorch",
        requirements=("torch",),
        metadata={
            "kind": "torchscript",
            "code_size": script.size,
            "tensor_members": len(tensors),
            "tensor_bytes": sum(member.size for member in tensors),
        },
        findings=(*archive.findings, *findings),
    )

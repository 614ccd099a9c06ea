"""The source text inside a TorchScript archive: classes, their parameters and constants, the signature of ``forward``.

The text is read line by line, never parsed as Python: the printer of TorchScript (``torch/csrc/jit/serialization/
python_print.cpp``) indents by two blanks and writes one declaration per line; a line that looks otherwise is
passed over.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice

from assay.spec.finding import Severity
from assay.spec.json import Json

MAX_LINE = 20_000
"""Characters of one line that are looked at."""

_MAX_SIGNATURE = 100
# Lines a signature may take.

_CLASS = re.compile(r"class (\w{1,200})\((\w{1,100})\):")
_NAMES = re.compile(r'"([^"\\]{1,200})"')
_CONSTANT = re.compile(r"  (\w{1,200}) : Final\[(?:bool|int|float|str)\] = ([^\n]{1,200})")
_OPERATOR = re.compile(r"\b(torch\.\w{1,80}|ops\.\w{1,80}\.\w{1,80})\(")
_FILL = r"(?:[\s\\]|#[^\n]*\n)*"
# What may stand between the parts of a name: blanks, continued lines, comments.
_REACHING = {
    Severity.READ: re.compile(r"\b(?:load_tensor|read_file|read_video_from_file|load_audio)\b", re.ASCII),
    Severity.WRITE: re.compile(rf"\b(?:from_file|write_file|(?:save)(?={_FILL}\())", re.ASCII),
    Severity.NETWORK: re.compile(r"\b(?:rpc_async|rpc_sync|rpc_remote|c10d|_c10d_functional|symm_mem)\b", re.ASCII),
    Severity.EXECUTE: re.compile(r"\b(?:PythonOp|IgnoredPythonOp)\b", re.ASCII),
}
# Operators of torch that reach beyond tensors (``aten::from_file`` makes the file it maps). Looked for as words
# wherever they stand: blanks, comments and line ends may come between the parts of a call.
_LIBRARY = re.compile(rf"(?<![\w.])ops{_FILL}\.{_FILL}(\w+)", re.ASCII)
_CLASSES = re.compile(rf"\btorch{_FILL}\.{_FILL}classes{_FILL}\.{_FILL}(\w+)", re.ASCII)
_KNOWN_LIBRARIES = frozenset(
    "aten prim prims onnx quantized _quantized quantization quantized_decomposed mkldnn mkldnn_prepacked onednn mkl "
    "sparse static_runtime profiler inductor rnn xnnpack prepacked metal metal_prepack vulkan vulkan_prepack rngprims "
    "torchvision image torchaudio torchtext".split()
)
# Those of torch itself and of its three domain libraries; what reaches beyond tensors in them is looked for by name.
_KNOWN_CLASSES = frozenset("quantized sparse rnn xnnpack mkldnn onednn metal vulkan profiler".split())
_ARGUMENT = re.compile(r"\s*(\w{1,200}): (.{1,400}?)(?:=.{0,400})?")
_MANGLED = re.compile(r"\.___torch_mangle_\d{1,9}")


@dataclass(slots=True)
class ScriptClass:
    """One class of the archive.

    Args:
        parameters, buffers: attributes its code declares as such.
        constants: settings fixed when it was scripted (``in_features``).
        arguments: of ``forward``: name and type, without ``self``.
        returns: type ``forward`` gives.
        methods: names of all methods.
    """

    parameters: frozenset[str] = frozenset()
    buffers: frozenset[str] = frozenset()
    constants: dict[str, Json] = field(default_factory=dict)
    arguments: list[tuple[str, str]] = field(default_factory=list)
    returns: str | None = None
    methods: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Script:
    """All code of an archive.

    Args:
        classes: by qualified name (``__torch__.torch.nn.modules.linear.Linear``).
        operators: how often each operator is called in the text.
        size: characters of source.
        reaching: words in it that name operators which reach beyond tensors, with what they can do.
        libraries: namespaces of operators and classes that belong to no library known here.
    """

    classes: dict[str, ScriptClass] = field(default_factory=dict)
    operators: Counter[str] = field(default_factory=Counter)
    size: int = 0
    reaching: dict[str, Severity] = field(default_factory=dict)
    libraries: set[str] = field(default_factory=set)


def add_source(script: Script, module: str, text: str) -> None:
    """Read one file of source.

    Args:
        script: what it is added to.
        module: dotted name of the file (``__torch__.torch.nn.modules.linear``).
        text: the source.
    """
    script.size += len(text)
    note_reaching(script, text)
    script.operators.update(_OPERATOR.findall(text))
    current: ScriptClass | None = None
    lines = iter(text.splitlines())
    for raw in lines:
        line = raw[:MAX_LINE]
        started = _CLASS.match(line)
        if started:
            current = script.classes.setdefault(f"{module}.{started[1]}", ScriptClass())
        elif current is not None and line.startswith("  "):
            _declaration(current, line, lines)
        elif line and not line.startswith(" "):
            current = None


def note_reaching(script: Script, text: str) -> None:
    """Note operators that reach beyond tensors, whatever kind of source *text* is."""
    for severity, words in _REACHING.items():
        script.reaching.update(dict.fromkeys(words.findall(text), severity))
    script.libraries.update(name for name in _LIBRARY.findall(text) if name not in _KNOWN_LIBRARIES)
    script.libraries.update(f"classes.{name}" for name in _CLASSES.findall(text) if name not in _KNOWN_CLASSES)


def note_operator(script: Script, text: str) -> None:
    """Note an operator (``aten::add``) or a class that bytecode names, as ``note_reaching`` does for source."""
    library, colons, name = text.partition("::")
    note_reaching(script, f"ops.{library}.{name}()" if colons else text)


def plain_class(name: str) -> str:
    """A class name without the numbers TorchScript puts in to tell equal names apart, and without its root."""
    return _MANGLED.sub("", name).removeprefix("__torch__.")


def _declaration(current: ScriptClass, line: str, rest: Iterator[str]) -> None:
    if line.startswith("  __parameters__ = "):
        current.parameters = frozenset(_NAMES.findall(line))
    elif line.startswith("  __buffers__ = "):
        current.buffers = frozenset(_NAMES.findall(line))
    elif line.startswith("  def "):
        name = line[6:206].partition("(")[0]
        current.methods.append(name)
        if name == "forward":
            _signature(current, line, rest)
    else:
        constant = _CONSTANT.fullmatch(line)
        if constant and len(current.constants) < 64:
            current.constants[constant[1]] = _literal(constant[2])


def _signature(current: ScriptClass, line: str, rest: Iterator[str]) -> None:
    text, more = line, islice(rest, _MAX_SIGNATURE)
    while not (") -> " in text and text.endswith(":")):
        following = next(more, None)
        if following is None:
            return
        text += following[:MAX_LINE]
    inside, arrow, returns = text.partition("(")[2].rpartition(") -> ")
    if not arrow:
        return
    current.returns = returns.rstrip(":")[:400]
    for part in _split(inside)[1:200]:
        argument = _ARGUMENT.fullmatch(part)
        if argument:
            current.arguments.append((argument[1], argument[2]))


def _split(text: str) -> list[str]:
    """Cut at commas that stand in no bracket."""
    parts, depth, start = [], 0, 0
    for index, character in enumerate(text):
        if character in "[(":
            depth += 1
        elif character in "])":
            depth -= 1
        elif character == "," and depth == 0:
            parts.append(text[start:index])
            start = index + 1
    return [*parts, text[start:]]


def _literal(text: str) -> Json:
    if text in ("True", "False"):
        return text == "True"
    if re.fullmatch(r"-?\d{1,18}", text):
        return int(text)
    if re.fullmatch(r"-?\d{1,30}\.\d{0,30}(?:[eE][-+]?\d{1,3})?", text):
        number = float(text)
        return number if abs(number) < 1e300 else text
    return text.strip('"')

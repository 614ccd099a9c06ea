"""Where the file names come from that operations of a graph open: the caller, the model's own assets, or elsewhere.

Every SavedModel saves and restores its variables (``SaveV2``, ``RestoreV2``, ``MergeV2Checkpoints``) and many fill
tables from an asset, all honest as long as the name is an argument or an asset. A name that the graph brings along is
a file of whoever loads the model: initialisers run while it is loaded.

Rule for editors: follow names backwards through operations that are known to build them; anything else is reported.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from assay.spec.finding import Finding, Severity

MAX_NODES = 3_000_000
"""Nodes of one graph, functions included, that are kept."""

_NAMED: dict[str, tuple[Severity, tuple[int, ...]]] = {
    "Save": (Severity.WRITE, (0,)),
    "SaveSlices": (Severity.WRITE, (0,)),
    "SaveV2": (Severity.WRITE, (0,)),
    "MergeV2Checkpoints": (Severity.WRITE, (0, 1)),
    "RestoreV2": (Severity.READ, (0,)),
    "Restore": (Severity.READ, (0,)),
    "RestoreSlice": (Severity.READ, (0,)),
    "InitializeTableFromTextFile": (Severity.READ, (1,)),
    "InitializeTableFromTextFileV2": (Severity.READ, (1,)),
}
# Operation: what it does to a file, and which of its inputs name it.
_EFFECTS = {
    Severity.WRITE: "write a file that the artifact names",
    Severity.READ: "read a file that the artifact names",
}
_GIVEN = frozenset({"Placeholder", "PlaceholderWithDefault", "Arg", "_Arg"})
_BUILDING = frozenset(
    {"Identity", "StringJoin", "ShardedFilename", "Select", "SelectV2", "StaticRegexFullMatch", "Pack", "NoOp"}
)
_DEFAULT = "model"
"""The file name of TensorFlow 1's savers until they are given another one."""
_CONSTANTS = frozenset({"Const", "HostConst"})


@dataclass(slots=True)
class Node:
    """A node.

    Args:
        op: its operation.
        inputs: names of the nodes it takes data from.
        texts: what a constant of text holds; None when that cannot be said.
        calls: functions it names.
    """

    op: str
    inputs: list[str] = field(default_factory=list)
    texts: list[str] | None = field(default_factory=list)
    calls: list[str] = field(default_factory=list)


class FileNames:
    """Nodes by function (``""``: the main graph), and what their file names say."""

    def __init__(self) -> None:
        self._scopes: dict[str, dict[str, Node]] = {}
        self._left = MAX_NODES

    def add(self, scope: str, name: str, node: Node) -> None:
        """Keep a node; beyond ``MAX_NODES`` it is only counted."""
        self._left -= 1
        if self._left >= 0:
            self._scopes.setdefault(scope, {})[name] = node

    def judge(self, assets: Iterable[str], path: str) -> list[Finding]:
        """Findings about file names that the graph brings along.

        Args:
            assets: tensors that the loader fills with the names of assets, or of the checkpoint.
            path: the entry the graph stands in.
        """
        known = {name.partition(":")[0] for name in assets}
        reaching = self._reaching()
        found: dict[tuple[str, str, str], Finding] = {}
        if self._left < 0:
            text = f"the graph has more than {MAX_NODES:,} nodes: where its file names come from is not known"
            found["", "", ""] = Finding("tensorflow-limit", Severity.INCOMPLETE, text, path)
        for scope, nodes in self._scopes.items():
            skip = known if not scope else set()
            for node in nodes.values():
                if node.op in _NAMED:
                    severity, places = _NAMED[node.op]
                    names = [node.inputs[place] for place in places if place < len(node.inputs)]
                    reasons = [reason for name in names for reason in _odd(nodes, [name], skip, strict=True)]
                elif reaching.intersection(node.calls):
                    severity, reasons = Severity.WRITE, list(_odd(nodes, node.inputs, skip, strict=False))
                else:
                    continue
                for reason in reasons:
                    text = f"operation {node.op} uses a file name that comes with the model: {reason}"
                    key = (node.op, severity.value, reason)
                    effect = _EFFECTS[severity]
                    found.setdefault(key, Finding("tensorflow-file-name", severity, text, path, effect=effect))
        return list(found.values())[:100]

    def _reaching(self) -> set[str]:
        """Functions that open files by name, or call one that does."""
        callers: dict[str, set[str]] = {}
        level = []
        for scope, nodes in self._scopes.items():
            for node in nodes.values():
                if node.op in _NAMED:
                    level.append(scope)
                for called in node.calls:
                    callers.setdefault(called, set()).add(scope)
        reaching: set[str] = set()
        while level:
            scope = level.pop()
            if scope not in reaching:
                reaching.add(scope)
                level += callers.get(scope, ())
        return reaching - {""}


def leads_away(text: str) -> bool:
    """Whether a file name may lead out of the folder it is joined to."""
    return text.startswith(("/", "\\", "~")) or "://" in text or ".." in text.replace("\\", "/").split("/")


def _odd(nodes: dict[str, Node], names: list[str], assets: set[str], *, strict: bool) -> Iterator[str]:
    """What is odd about the sources of a name; *strict*: also when it is computed, or needs nothing from the caller."""
    seen: set[str] = set()
    level, given = list(names), False
    while level:
        name = level.pop()
        if name in seen:
            continue
        seen.add(name)
        node = nodes.get(name)
        if node is None or node.op in _GIVEN or name in assets:
            given = True
        elif node.op in _CONSTANTS:
            if node.texts == [_DEFAULT]:
                given = True
            elif node.texts is None:
                yield "text that was not read"
            else:
                yield from (f"{text!r:.120}" for text in node.texts if leads_away(text))
            continue
        elif strict and node.op not in _BUILDING:
            yield f"computed by {node.op:.60}"
            return
        if node is not None and name not in assets and node.op in _BUILDING | _GIVEN:
            level += node.inputs
    if strict and not given:
        yield "the caller has no say in it"

"""What loading a skops archive could do: every class and function its schema names, against the shared table.

Concept: a loader imports ``__module__`` and calls ``__class__`` of every node, also of those that look like plain
containers. So every dictionary with ``__loader__`` counts, wherever it stands.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from assay.audit.globals import Role, danger, entry
from assay.spec.finding import Finding, Severity

MAX_NODES = 1_000_000
MAX_FINDINGS = 200
"""Findings about one archive; more of them say nothing new."""

_LOADERS = frozenset(
    """
    BytearrayNode BytesNode CachedNode ConstructorFromReduceNode DTypeNode DatetimeNode DatetimeTimezoneNode
    DefaultDictNode
    DictNode FunctionNode JsonNode ListNode LossNode MaskedArrayNode MethodNode NdArrayNode ObjectNode OperatorFuncNode
    OrderedDictNode PartialNode QuantileForestNode RandomGeneratorNode RandomStateNode ReduceNode SGDNode SetNode
    SliceNode SparseMatrixNode TreeNode TupleNode TypeNode _DictWithDeprecatedKeysNode _KDTreeNode
    """.split()
)
_CONTAINERS = frozenset({"DictNode", "ListNode", "TupleNode", "SetNode", "DefaultDictNode", "OrderedDictNode"})
"""Kinds of nodes that call their class with what is in them."""

_CALLABLE = frozenset({Role.CALL, Role.CONSTRUCT})
_PLAIN = frozenset(
    [("builtins", name) for name in "bool bytearray bytes complex dict float frozenset int list object".split()]
    + [("builtins", name) for name in "range set slice str tuple type NoneType".split()]
    + [("collections", "OrderedDict"), ("collections", "defaultdict"), ("functools", "partial")]
    + [("numpy", name) for name in "dtype ndarray matrix".split()]
    + [("numpy.ma", "MaskedArray"), ("numpy.random.mtrand", "RandomState"), ("numpy.random", "Generator")]
    + [("numpy.random._generator", "Generator"), ("sklearn.tree._tree", "Tree")]
)
"""Classes that skops itself makes, without calling anything of the file's choice."""

_SCALAR = re.compile(
    r"(u?int|float|complex|bool|str|bytes|datetime|timedelta|longlong|longdouble|clongdouble)[0-9_]{0,4}"
)
_METHOD = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,100}", re.ASCII)


def audit(document: Any, path: str) -> list[Finding]:
    """Findings about everything that the schema *document* would build.

    Args:
        document: the parsed schema.
        path: the entry it came from.
    """
    findings: list[Finding] = []
    seen: set[tuple[str, str, str, str]] = set()
    for node in _nodes(document):
        if node is None or len(findings) >= MAX_FINDINGS:
            text = "the schema has more nodes, or more findings about them, than are looked at"
            return [*findings, Finding("skops-limit", Severity.INCOMPLETE, text, path)]
        content = node.get("content")
        method = content.get("func") if isinstance(content, Mapping) and node["__loader__"] == "MethodNode" else ""
        key = (_text(node["__loader__"]), _text(node.get("__module__")), _text(node.get("__class__")), _text(method))
        if key not in seen:
            seen.add(key)
            findings += _judge(key, path)
    return findings


def _nodes(document: Any) -> Iterator[Mapping[str, Any] | None]:
    stack, left = [document], MAX_NODES
    while stack:
        value = stack.pop()
        left -= 1 + (len(value) if isinstance(value, (dict, list)) else 0)
        if left < 0:
            yield None
            return
        if isinstance(value, dict):
            if "__loader__" in value:
                yield value
            stack.extend(value.values())
        elif isinstance(value, list):
            stack.extend(value)


def _judge(key: tuple[str, str, str, str], path: str) -> Iterator[Finding]:
    loader, module, name, method = key
    shown = f"{module}.{name}"[:200]
    if loader not in _LOADERS:
        text = "a node of a kind that is not known here"
        yield Finding("skops-unknown-node", Severity.INCOMPLETE, text, path, evidence=loader[:200])
    if loader == "OperatorFuncNode":
        if name not in {"itemgetter", "attrgetter"}:
            text, does = "a function of the module operator is called", "call a method that the artifact names"
            yield Finding("skops-operator", Severity.EXECUTE, text, path, evidence=shown, effect=does)
        return
    if loader == "MethodNode" and (not _METHOD.fullmatch(method) or "__" in method):
        text, does = "an inner attribute of an object is taken", "reach Python's own attributes, and run code there"
        seen = f"{shown}.{method}"[:200]
        yield Finding("skops-method", Severity.EXECUTE, text, path, evidence=seen, effect=does)
    if (module, name) in _PLAIN or (module == "numpy" and loader == "NdArrayNode" and _SCALAR.fullmatch(name)):
        return
    known, bad = entry(module, name), danger(module, name)
    if bad is not None and known is None:
        text = "a function or class is named that is known to do harm"
        yield Finding("skops-dangerous-type", bad.severity, text, path, evidence=shown, effect=bad.effect)
    elif known is None or known.role is Role.NESTED or (loader in _CONTAINERS and known.role not in _CALLABLE):
        text, does = "a class or function is named that is not known to be harmless", "call what the artifact names"
        yield Finding("skops-unknown-type", Severity.EXECUTE, text, path, evidence=shown, effect=does)


def _text(value: object) -> str:
    return value[:400] if isinstance(value, str) else ""

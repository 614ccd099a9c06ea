"""Which names of a Jinja template hold text that the template puts together, wherever it hands that text on.

A name of an attribute that is put together in one place may be used in another: through a variable, a namespace, a
block that is set, a loop or the argument of a macro. Scopes are ignored: a name that holds such text anywhere does so
everywhere.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from jinja2 import nodes

from assay.audit.jinja_values import Constants, Unknown, fold

_MAX_ROUNDS = 40
_MAX_DEPTH = 24
_NUMBERS = frozenset("length count int abs round float".split())
_SAME = frozenset(
    "list selectattr rejectattr select reject sort unique items dictsort groupby batch slice map tojson sum min max "
    "random first last default d reverse".split()
)
"""Filters that give back what they are given, or parts of it, or no text at all."""


def built_names(every: Sequence[nodes.Node], known: Constants, builds: Callable[[nodes.Node], bool]) -> set[str]:
    """Names, and attributes of namespaces (``ns.a``), that may hold text put together from parts.

    Args:
        every: all nodes of the template.
        known: variables that are only ever given one constant.
        builds: whether an expression by itself makes a new text.
    """
    found = _Built(known, builds)
    bindings = list(_bindings(every))
    found.texts = {name for name, value in bindings if value is not None and _is_text(value, known)}
    for _ in range(_MAX_ROUNDS):
        new = {name for name, value in bindings if name not in found.names and (value is None or found.is_built(value))}
        if not new:
            return found.names
        found.names |= new
    return {name for name, _ in bindings}


class _Built:
    """What is known so far about the names of a template."""

    def __init__(self, known: Constants, builds: Callable[[nodes.Node], bool]) -> None:
        self._known = known
        self._builds = builds
        self.names: set[str] = set()
        self.texts: set[str] = set()

    def is_built(self, node: nodes.Node, depth: int = 0) -> bool:
        """Whether an expression may come to text that is put together."""
        if depth > _MAX_DEPTH:
            return True
        deeper = depth + 1
        if isinstance(node, (nodes.Name, nodes.Getattr)):
            return name_of(node) in self.names
        if not isinstance(fold(node, self._known), Unknown) and not isinstance(node, (nodes.List, nodes.Tuple)):
            return False  # a constant, which is judged for itself
        if isinstance(node, (nodes.List, nodes.Tuple)):
            return any(self.is_built(item, deeper) for item in node.items)
        if isinstance(node, nodes.Add):
            return any(
                self.is_built(part, deeper) or _is_text(part, self._known) or name_of(part) in self.texts
                for part in (node.left, node.right)
            )
        if isinstance(node, nodes.Getitem):
            return self.is_built(node.node, deeper)
        if isinstance(node, nodes.CondExpr):
            return any(self.is_built(part, deeper) for part in (node.expr1, node.expr2) if part is not None)
        if isinstance(node, (nodes.And, nodes.Or)):
            return self.is_built(node.left, deeper) or self.is_built(node.right, deeper)
        if isinstance(node, nodes.Filter) and node.node is not None and node.name in _NUMBERS | _SAME:
            return node.name not in _NUMBERS and self.is_built(node.node, deeper)
        if isinstance(node, nodes.Call):
            return self._builds(node) or self._call(node, deeper)
        return self._builds(node)

    def _call(self, node: nodes.Call, depth: int) -> bool:
        if isinstance(node.node, nodes.Getattr):
            return self.is_built(node.node.node, depth)
        return name_of(node.node) in self.names


def name_of(node: nodes.Node) -> str:
    """The name of a variable or of an attribute of one; empty for everything else."""
    if isinstance(node, nodes.Name):
        return node.name
    if isinstance(node, nodes.NSRef):
        return f"{node.name}.{node.attr}"
    if isinstance(node, nodes.Getattr) and isinstance(node.node, nodes.Name):
        return f"{node.node.name}.{node.attr}"
    return ""


def _is_text(node: nodes.Node, known: Constants) -> bool:
    value = fold(node, known)
    return isinstance(value, str) or (isinstance(value, list) and any(isinstance(item, str) for item in value))


def _bindings(every: Sequence[nodes.Node]) -> Iterator[tuple[str, nodes.Node | None]]:
    """Every name with each expression it may hold; None for text that a block or a macro makes."""
    macros = {node.name: node for node in every if isinstance(node, nodes.Macro)}
    if macros:
        yield "caller", None
    for name, macro in macros.items():
        yield name, None
        for parameter, default in zip(reversed(macro.args), reversed(macro.defaults), strict=False):
            yield parameter.name, default
    for node in every:
        if isinstance(node, nodes.AssignBlock):
            yield name_of(node.target), None
        elif isinstance(node, nodes.Assign):
            yield from ((name, node.node) for name in _targets(node.target))
            if isinstance(node.node, nodes.Call) and name_of(node.node.node) == "namespace":
                yield from ((f"{name_of(node.target)}.{pair.key}", pair.value) for pair in node.node.kwargs)
        elif isinstance(node, nodes.For):
            yield from ((name, node.iter) for name in _targets(node.target))
        elif isinstance(node, nodes.With):
            yield from ((name_of(target), value) for target, value in zip(node.targets, node.values, strict=False))
        elif isinstance(node, nodes.Call) and macros:
            yield from _arguments(node, macros)


def _arguments(node: nodes.Call, macros: dict[str, nodes.Macro]) -> Iterator[tuple[str, nodes.Node]]:
    called = macros.get(name_of(node.node))
    for macro in [called] if called is not None else []:
        yield from ((parameter.name, value) for parameter, value in zip(macro.args, node.args, strict=False))
        yield from (("varargs", value) for value in node.args[len(macro.args) :])
        yield from ((name, pair.value) for pair in node.kwargs for name in (pair.key, "kwargs"))


def _targets(node: nodes.Node) -> list[str]:
    if isinstance(node, (nodes.Tuple, nodes.List)):
        return [name for item in node.items for name in _targets(item)]
    return [name_of(node)]

"""How much a template can make of little: loops over ranges, texts that double, macros that call themselves."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from jinja2 import nodes

from assay.audit.jinja_values import Constants, Unknown, fold, largest
from assay.spec.finding import Finding, Severity

MAX_TURNS = 1_000_000
"""Turns that loops over stated ranges may take together."""
MAX_RANGE = 100_000
"""Numbers of one range; the sandbox of Jinja has the same limit."""
MAX_MADE = 10_000_000
"""Characters or items that constants may be multiplied to."""
_WIDTH = re.compile(r"%[^a-zA-Z%]{0,10}\d{6,}|\{[^{}]{0,40}:[^{}]{0,10}\d{6,}")
_MAX_DEPTH = 200
_MAX_PRODUCTS = 500
_MAX_MACROS = 150

Complaint = tuple[nodes.Node, Finding]
"""A place, and a finding that still lacks it."""


def judge_size(tree: nodes.Template, every: Sequence[nodes.Node], constants: Constants) -> Iterator[Complaint]:
    """Everything in a template that can take more memory or time than a machine has.

    Args:
        tree: the template.
        every: its nodes in the order of the text.
        constants: variables that are only ever given one constant.
    """
    yield from _single(every, constants)
    yield from _loops(tree, constants, 1, 0)
    yield from _growth(tree, {}, looping=False, depth=0)
    yield from _macros(every, constants)


def _grows(rule: str, message: str, node: nodes.Node) -> Complaint:
    return node, Finding(rule, Severity.EXHAUST, message, effect="use up memory or time")


def _single(every: Sequence[nodes.Node], constants: Constants) -> Iterator[Complaint]:
    products = 0
    for node in every:
        products += isinstance(node, nodes.Mul)
        if isinstance(node, nodes.Pow):
            value = fold(node, constants)
            if not isinstance(value, int) or abs(value) >= 1 << 61:
                yield _grows("template-huge", "a power can be a number of any length", node)
        elif isinstance(node, nodes.Mul) and (products > _MAX_PRODUCTS or largest(node, {}) > MAX_MADE):
            yield _grows("template-huge", f"a product makes more than {MAX_MADE:,} characters", node)
        elif isinstance(node, nodes.Const) and isinstance(node.value, str) and _WIDTH.search(node.value):
            yield _grows("template-huge", "a format asks for a field of a million characters", node)
        elif isinstance(node, nodes.Call) and isinstance(node.node, nodes.Name) and node.node.name == "range":
            if _turns(node, constants) > MAX_RANGE:
                yield _grows("template-huge", f"a range has more than {MAX_RANGE:,} numbers", node)
        elif isinstance(node, (nodes.Call, nodes.Filter)):
            for argument in (*node.args, *(pair.value for pair in node.kwargs)):
                value = fold(argument, constants)
                if isinstance(value, int) and abs(value) >= MAX_TURNS and not isinstance(value, bool):
                    yield _grows("template-huge", f"{_name(node)} is given a number beyond {MAX_TURNS:,}", node)


def _name(node: nodes.Call | nodes.Filter) -> str:
    if isinstance(node, nodes.Filter):
        return f"the filter {node.name:.40}"
    return f"{getattr(node.node, 'name', getattr(node.node, 'attr', 'a function')):.40}"


def _turns(node: nodes.Node, constants: Constants) -> int:
    """How often a loop over *node* turns, as far as it says; one when it depends on what the model is told."""
    while isinstance(node, nodes.Filter) and node.node is not None and node.name in ("list", "reverse", "sort"):
        node = node.node
    if isinstance(node, nodes.Call) and isinstance(node.node, nodes.Name) and node.node.name == "range":
        ends = [fold(argument, constants) for argument in node.args]
        whole = [end for end in ends if isinstance(end, int)]
        if len(whole) != len(ends) or not 1 <= len(whole) <= 3:
            # A range up to what is known of the input; a constant among its ends may still be the larger one.
            return 1
        if len(whole) == 3 and whole[2] == 0:
            return 1
        limits = whole if len(whole) > 1 else [0, whole[0]]
        return len(range(*limits))
    value = fold(node, constants)
    return max(1, len(value)) if isinstance(value, (list, str)) else 1


def _loops(node: nodes.Node, constants: Constants, turns: int, depth: int) -> Iterator[Complaint]:
    if depth > _MAX_DEPTH:
        yield _grows("template-nesting", "blocks are nested too deep to be counted", node)
        return
    inner = turns
    if isinstance(node, nodes.For):
        inner = turns * _turns(node.iter, constants)
        if turns <= MAX_TURNS < inner:
            yield _grows("template-loops", f"loops turn more than {MAX_TURNS:,} times whatever the model is told", node)
            return
    for child in node.iter_child_nodes():
        if not isinstance(child, nodes.Expr):
            yield from _loops(child, constants, inner, depth + 1)


def _growth(node: nodes.Node, sizes: dict[str, int], *, looping: bool, depth: int) -> Iterator[Complaint]:
    """Variables that double: in a loop each turn, or one after the other."""
    if depth > _MAX_DEPTH:
        return
    if isinstance(node, nodes.Assign) and (target := _target(node.target)):
        size = largest(node.node, sizes)
        sizes[target] = size
        if size > MAX_MADE:
            yield _grows("template-growth", f"a variable grows beyond {MAX_MADE:,} characters", node)
        elif looping and _mentions(node.node, target) > 1:
            yield _grows("template-growth", "a variable doubles each time the loop turns", node)
    inside = looping or isinstance(node, nodes.For)
    for child in node.iter_child_nodes():
        if not isinstance(child, nodes.Expr):
            yield from _growth(child, sizes, looping=inside, depth=depth + 1)


def _target(node: nodes.Node) -> str:
    if isinstance(node, nodes.NSRef):
        return f"{node.name}.{node.attr}"
    return node.name if isinstance(node, nodes.Name) else ""


def _mentions(node: nodes.Node, target: str, depth: int = 0) -> int:
    """How many copies of *target* an expression puts together."""
    if depth > _MAX_DEPTH:
        return 2
    if isinstance(node, nodes.Name):
        return int(node.name == target)
    if isinstance(node, nodes.Getattr) and isinstance(node.node, nodes.Name):
        return int(f"{node.node.name}.{node.attr}" == target)
    if isinstance(node, nodes.Mul):
        inner = [_mentions(part, target, depth + 1) for part in (node.left, node.right)]
        others = [part for part in (node.left, node.right) if not _mentions(part, target, depth + 1)]
        factor = fold(others[0], {}) if others else UNDECIDED
        grows = not isinstance(factor, (int, float)) or abs(factor) > 1
        # A number times a number is a number: only texts and lists grow, and those are multiplied by whole numbers.
        return 2 if sum(inner) and grows and not isinstance(factor, Unknown) else sum(inner)
    if isinstance(node, (nodes.Add, nodes.Concat, nodes.List, nodes.Tuple)):
        parts = list(node.iter_child_nodes())
        return sum(_mentions(part, target, depth + 1) for part in parts)
    if isinstance(node, nodes.CondExpr):
        return max((_mentions(part, target, depth + 1) for part in (node.expr1, node.expr2) if part), default=0)
    if isinstance(node, nodes.Filter) and node.node is not None:
        extra = sum(_mentions(part, target, depth + 1) for part in node.args) if node.name in _JOINING else 0
        return _mentions(node.node, target, depth + 1) + extra
    if isinstance(node, nodes.Call) and isinstance(node.node, nodes.Getattr) and node.node.attr in _JOINING:
        given = sum(_mentions(part, target, depth + 1) for part in node.args)
        return _mentions(node.node.node, target, depth + 1) + given
    return 0


UNDECIDED = 2
_JOINING = frozenset({"join", "replace", "format"})


def _macros(every: Sequence[nodes.Node], constants: Constants) -> Iterator[Complaint]:
    """Macros that call themselves with what they were given, and macros that multiply each other."""
    macros = {node.name: node for node in every if isinstance(node, nodes.Macro)}
    if len(macros) > _MAX_MACROS:
        yield _grows("template-recursion", f"more than {_MAX_MACROS} macros", next(iter(macros.values())))
        return
    calls = {
        name: [call for call in _calls(macro, constants, 1, 0) if call.to in macros] for name, macro in macros.items()
    }
    reached = {name: _reaches(name, calls) for name in macros}
    for name, macro in macros.items():
        given = {argument.name for argument in macro.args}
        for call in calls[name]:
            if (name == call.to or name in reached[call.to]) and not _descends(call.node, given):
                yield _grows("template-recursion", "a macro calls itself with no less than it was given", call.node)
                break
    costs: dict[str, int] = {}
    for name, macro in macros.items():
        if _cost(name, calls, costs, 0) > MAX_TURNS:
            yield _grows("template-recursion", f"macros call each other more than {MAX_TURNS:,} times", macro)
            return


@dataclass(frozen=True, slots=True)
class _Call:
    """One call of a macro in another, and how often loops around it turn."""

    to: str
    times: int
    node: nodes.Call


def _calls(node: nodes.Node, constants: Constants, times: int, depth: int) -> Iterator[_Call]:
    if depth > _MAX_DEPTH:
        return
    if isinstance(node, nodes.Call) and isinstance(node.node, nodes.Name):
        yield _Call(node.node.name, times, node)
    inner = times * _turns(node.iter, constants) if isinstance(node, nodes.For) else times
    for child in node.iter_child_nodes():
        yield from _calls(child, constants, min(inner, 1 << 40), depth + 1)


def _reaches(name: str, calls: Mapping[str, Sequence[_Call]]) -> set[str]:
    seen: set[str] = set()
    waiting = [name]
    while waiting:
        for call in calls.get(waiting.pop(), ()):
            if call.to not in seen:
                seen.add(call.to)
                waiting.append(call.to)
    return seen


def _cost(name: str, calls: Mapping[str, Sequence[_Call]], costs: dict[str, int], depth: int) -> int:
    """How many calls one call of a macro comes to, one that leads back to itself counted once."""
    if name not in costs:
        costs[name] = 1
        if depth <= _MAX_MACROS:
            total = 1 + sum(call.times * _cost(call.to, calls, costs, depth + 1) for call in calls[name])
            costs[name] = min(total, 1 << 40)
    return costs[name]


def _descends(call: nodes.Call, given: set[str]) -> bool:
    """Whether a call hands on a part of what the macro was given, so that it must come to an end."""
    for argument in (*call.args, *(pair.value for pair in call.kwargs)):
        inner = argument
        while isinstance(inner, nodes.Filter) and inner.node is not None:
            inner = inner.node
        if isinstance(inner, (nodes.Getattr, nodes.Getitem)):
            return True
        if isinstance(inner, nodes.Name) and inner.name not in given:
            return True  # a variable of a loop, or one that was set from a part
    return False

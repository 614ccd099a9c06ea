"""Every rule of findings that the code can report, read from its syntax: id, severities, module and message.

A rule is reported by a call: of ``Finding`` itself, or of a function or method that hands its first words on to
``Finding`` (a *reporter*: ``self.report("bad-tensor", …)`` becomes ``safetensors-bad-tensor``). A new way to report
must be one of these two, or its rules stay out of ``docs/reference/findings.md``.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

_RULE = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
_SEVERITY = re.compile(r"Severity\.([A-Z]+)")
_MESSAGE = re.compile(r".*[a-z]+ .*", re.DOTALL)


@dataclass
class Rule:
    """One rule.

    Attributes:
        severities: what it can weigh, in order of appearance.
        modules: where it is reported.
        messages: what it says; ``…`` stands for what the file says.
    """

    severities: list[str] = field(default_factory=list)
    modules: list[str] = field(default_factory=list)
    messages: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class _Reporter:
    """A function that hands a rule on to ``Finding``: what it puts before the rule, and how it weighs by itself."""

    prefix: str
    severities: tuple[str, ...]


@dataclass(frozen=True)
class _Call:
    """A call that reports, the function it stands in, the module, and the reporter it calls."""

    node: ast.Call
    scope: ast.FunctionDef
    module: str
    reporter: _Reporter


def rules(source: Path) -> dict[str, Rule]:
    """All rules reported below the folder *source*, by id."""
    modules = {
        ".".join(file.relative_to(source.parent).with_suffix("").parts): ast.parse(file.read_text("utf-8"))
        for file in sorted(source.rglob("*.py"))
    }
    reporters = {module: dict(_reporters(tree)) for module, tree in modules.items()}
    found: dict[str, Rule] = {}
    for module, tree in modules.items():
        for call in _calls(module, tree, reporters):
            for rule_id in _texts(call.node.args[:2], call, _RULE, every=True):
                _add(found.setdefault(call.reporter.prefix + rule_id, Rule()), call)
    return dict(sorted(found.items()))


def _reporters(tree: ast.Module) -> Iterator[tuple[str, _Reporter]]:
    for scope in _functions(tree):
        given = {argument.arg for argument in scope.args.args}
        for node in ast.walk(scope):
            if not (isinstance(node, ast.Call) and ast.unparse(node.func) == "Finding" and node.args):
                continue
            first = node.args[0]
            severities = tuple(name.lower() for name in _SEVERITY.findall(ast.unparse(scope)))
            if isinstance(first, ast.Name) and first.id in given:
                yield scope.name, _Reporter("", severities)
            elif isinstance(first, ast.JoinedStr) and isinstance(first.values[0], ast.Constant):
                yield scope.name, _Reporter(str(first.values[0].value), severities)


def _calls(module: str, tree: ast.Module, reporters: dict[str, dict[str, _Reporter]]) -> Iterator[_Call]:
    # A method's name says little about whose it is: one without a prefix may come from anywhere, one with a prefix
    # from its own package; what the module defines itself counts most.
    package = module.rpartition(".")[0]
    known = {name: said for found in reporters.values() for name, said in found.items() if not said.prefix}
    for other in (*(name for name in reporters if name.startswith(f"{package}.")), module):
        known |= reporters[other]
    known["Finding"] = _Reporter("", ())
    for scope in _functions(tree):
        for node in ast.walk(scope):
            if isinstance(node, ast.Call) and node.args:
                name = node.func.attr if isinstance(node.func, ast.Attribute) else ast.unparse(node.func)
                if name in known and scope.name != name:
                    yield _Call(node, scope, module, known[name])


def _add(rule: Rule, call: _Call) -> None:
    weights = [ast.unparse(value) for given in call.node.args for value in _values(given, call, every=True)]
    severities = [name.lower() for words in weights for name in _SEVERITY.findall(words)] or call.reporter.severities
    messages = list(_texts(call.node.args[1:5], call, _MESSAGE))[:1]
    for known, new in ((rule.severities, severities), (rule.modules, [call.module]), (rule.messages, messages)):
        known += [item for item in dict.fromkeys(new) if item not in known]


def _texts(arguments: list[ast.expr], call: _Call, pattern: re.Pattern[str], *, every: bool = False) -> Iterator[str]:
    """The texts among *arguments* that match; ``…`` stands for what is filled in."""
    for argument in arguments:
        for value in _values(argument, call, every=every):
            text = _text(value)
            if text and pattern.fullmatch(text):
                yield text


def _values(argument: ast.expr, call: _Call, *, every: bool) -> Iterator[ast.expr]:
    """What an argument can be; of a local name what it was given last before the call, or everything it is given."""
    values = [argument]
    if isinstance(argument, ast.Name):
        given = [
            (node.lineno, value)
            for node in ast.walk(call.scope)
            if isinstance(node, ast.Assign)
            for value in _assigned(node.targets[0], node.value, argument.id)
        ]
        before = sorted((pair for pair in given if pair[0] <= call.node.lineno), key=lambda pair: pair[0])
        values = [value for _, value in (before if every else before[-1:])]
    for value in values:
        yield from (value.body, value.orelse) if isinstance(value, ast.IfExp) else (value,)


def _assigned(target: ast.expr, value: ast.expr, name: str) -> Iterator[ast.expr]:
    """What an assignment gives to a name, alone or in a row of names."""
    if isinstance(target, ast.Name) and target.id == name:
        yield value
    elif isinstance(target, ast.Tuple):
        for row in (value.body, value.orelse) if isinstance(value, ast.IfExp) else (value,):
            if isinstance(row, ast.Tuple):
                for inner, item in zip(target.elts, row.elts, strict=True):
                    yield from _assigned(inner, item, name)


def _text(node: ast.expr) -> str | None:
    if isinstance(node, ast.JoinedStr):
        return "".join(str(part.value) if isinstance(part, ast.Constant) else "…" for part in node.values)
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else None


def _functions(tree: ast.Module) -> Iterator[ast.FunctionDef]:
    return (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef))

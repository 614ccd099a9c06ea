"""Chat templates: Jinja programs that come with a model and run when it talks.

A template is parsed, never rendered, and held against what templates do: read messages, build text. What reaches for
Python's own attributes, for other templates, or for more text than memory holds is a finding, whichever sandbox the
reader puts around it: sandboxes have had holes (CVE-2024-34359 had none at all).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from jinja2 import Environment, TemplateError, nodes
from jinja2.ext import Extension
from jinja2.parser import Parser

from assay.audit.jinja_loops import judge_size
from assay.audit.jinja_names import built_names, name_of
from assay.audit.jinja_values import Unknown, Value, fold
from assay.spec.finding import Finding, Severity

MAX_SOURCE = 128 << 10
"""Characters of a template that are looked at; the longest known have 30 thousand."""
_MAX_FINDINGS = 20
_MAX_NODES = 20_000
"""Nodes of a template that are looked at; the longest known templates have some thousand."""

_INTROSPECTION = re.compile(
    r"__(?:class|mro|bases?|subclasses|globals|builtins?|import|init|new|dict|getattribute|getattr|getitem|code|self|func|"
    r"closure|reduce|reduce_ex|call|module|name|qualname|wrapped|loader|spec|doc|kwdefaults|defaults|"
    r"subclasshook|init_subclass|set_name|get|set|del|enter|exit|format|str|repr|dir|annotations|weakref|slots|file|path)__"
)
_FRAGMENT = re.compile(r"__[A-Za-z]{3,20}_?|_?[A-Za-z]{3,20}__")
_INTERNAL = frozenset(
    "func_globals func_code func_closure func_defaults im_func im_self im_class gi_frame gi_code gi_yieldfrom cr_frame "
    "cr_code cr_await ag_frame ag_code f_globals f_locals f_builtins f_back f_code tb_frame tb_next mro "
    "environment eval_ctx exported_vars blocks parent".split()
)
_HELPERS = {"cycler", "joiner", "lipsum", "self"}
_FUNCTIONS = frozenset("range dict namespace raise_exception strftime_now caller loop super tojson".split())
_METHODS = frozenset(
    "append capitalize casefold clear copy count endswith extend find get index insert isalnum isalpha isascii "
    "isdecimal isdigit isidentifier islower isnumeric isspace istitle isupper items join keys lower lstrip "
    "partition pop removeprefix removesuffix replace reverse rfind rindex rpartition rsplit rstrip setdefault sort "
    "split splitlines startswith strftime strip swapcase title update upper values zfill center ljust rjust "
    "expandtabs format encode cycle changed isoformat".split()
)
_BY_ATTRIBUTE = frozenset("attr map selectattr rejectattr groupby sort sum unique min max join".split())
_FORMAT_FIELD = re.compile(r"\{[^{}]*[.\[]")


class _Generation(Extension):
    """``{% generation %} … {% endgeneration %}`` marks what the assistant said; to us it is a block."""

    tags = {"generation"}  # noqa: RUF012 - the interface of jinja2

    def parse(self, parser: Parser) -> nodes.Node | list[nodes.Node]:
        line = next(parser.stream).lineno
        return nodes.Scope(parser.parse_statements(("name:endgeneration",), drop_needle=True), lineno=line)


_ENVIRONMENT = Environment(  # noqa: S701 - nothing is rendered
    trim_blocks=True,
    lstrip_blocks=True,
    extensions=["jinja2.ext.loopcontrols", "jinja2.ext.do", _Generation],
    cache_size=0,
)


def judge_templates(templates: Iterable[tuple[str, str]], path: str) -> list[Finding]:
    """What the templates of one entry can do: pairs of how messages call it and the source, the same once."""
    found: list[Finding] = []
    left = 2 * MAX_SOURCE
    for source, where in {source: where for where, source in reversed(list(templates))}.items():
        left -= len(source)
        if left < 0:
            message = f"the templates have more than {2 * MAX_SOURCE:,} characters together: not all are looked at"
            return [*found, Finding("template-too-long", Severity.INCOMPLETE, message, path)]
        found += judge_template(source, path, where)
    return found


def judge_template(source: str, path: str, where: str) -> list[Finding]:
    """What a chat template can do besides building text.

    Args:
        source: the template.
        path: the entry it lies in.
        where: how messages call it (``chat template``, ``chat template 'tool_use'``).
    """
    if len(source) > MAX_SOURCE:
        message = f"the {where:.80} has more than {MAX_SOURCE:,} characters and is not looked at"
        return [Finding("template-too-long", Severity.INCOMPLETE, message, path)]
    if "{" not in source:
        return []
    try:
        tree = _ENVIRONMENT.parse(source)
        return _Judge(tree, path, where).findings()
    except (TemplateError, ValueError, RecursionError, OverflowError, SyntaxError) as error:
        reason = " ".join(str(error).split())[:120] or type(error).__name__
        message = f"the {where:.80} cannot be read as Jinja: {reason}"
        return [Finding("template-unreadable", Severity.INCOMPLETE, message, path)]


@dataclass
class _Judge:
    """One template being judged."""

    tree: nodes.Template
    path: str
    where: str
    found: dict[tuple[str, int, str], Finding] = field(default_factory=dict)
    constants: dict[str, Value] = field(default_factory=dict)
    own: set[str] = field(default_factory=set)
    spaces: set[str] = field(default_factory=set)
    built: set[str] = field(default_factory=set)

    def findings(self) -> list[Finding]:
        """Everything found, in the order of the lines, a bounded number."""
        every = list(_walk(self.tree))
        if len(every) >= _MAX_NODES:
            self.report("template-too-long", Severity.INCOMPLETE, "it is too large to be looked at", self.tree, "")
            return list(self.found.values())
        self._names(every)
        for node in every:
            self._judge(node)
        for node, item in judge_size(self.tree, every, self.constants):
            self.report(item.rule, item.severity, item.message, node, "", item.effect)
        return list(self.found.values())[:_MAX_FINDINGS]

    def report(
        self, rule: str, severity: Severity, message: str, node: nodes.Node, evidence: str, effect: str = ""
    ) -> None:
        """Add a finding about a line of the template."""
        line = getattr(node, "lineno", 0) or 0
        said = f"the {self.where:.80}, line {line}: {message}"
        self.found.setdefault(
            (rule, line, evidence), Finding(rule, severity, said, self.path, None, evidence[:200], effect)
        )

    def _names(self, every: list[nodes.Node]) -> None:
        """Which names the template gives itself, and which of them are one constant for ever."""
        counts: Counter[str] = Counter()
        values: list[tuple[str, nodes.Node]] = []
        for node in every:
            if isinstance(node, nodes.Macro) or (isinstance(node, nodes.Name) and node.ctx != "load"):
                counts[node.name] += 1
            elif isinstance(node, nodes.Assign) and isinstance(node.target, nodes.Name):
                values.append((node.target.name, node.node))
        self.own = set(counts)
        for name, value in values:
            if counts[name] == 1:
                self.constants[name] = fold(value, self.constants)
            if isinstance(value, nodes.Call) and getattr(value.node, "name", "") == "namespace":
                self.spaces.add(name)
        self.built = built_names(every, self.constants, _builds_text)

    def _is_built(self, node: nodes.Node) -> bool:
        """Whether an expression is text put together here, or a name or macro that holds such text."""
        named = node.node if isinstance(node, nodes.Call) else node
        return _builds_text(node) or name_of(named) in self.built

    def _judge(self, node: nodes.Node) -> None:
        if isinstance(node, (nodes.Include, nodes.Import, nodes.FromImport, nodes.Extends)):
            evidence = type(node).__name__.lower()
            self.report("template-import", Severity.READ, "it asks for another template", node, evidence, "read a file")
        elif isinstance(node, nodes.Getattr):
            self._attribute(node.attr, node)
        elif isinstance(node, nodes.Getitem) and not isinstance(node.arg, nodes.Slice):
            self._named(node.arg, node)
        elif isinstance(node, (nodes.Const, nodes.Keyword)):
            self._text(str(node.key if isinstance(node, nodes.Keyword) else node.value), node)
        elif isinstance(node, nodes.Name):
            self._name(node)
        elif isinstance(node, nodes.Filter):
            self._filter(node)
        elif isinstance(node, nodes.Test) and node.name not in _ENVIRONMENT.tests:
            self._unknown("test", node.name, node)
        elif isinstance(node, nodes.Call):
            self._call(node)
        if isinstance(node, (nodes.Concat, nodes.BinExpr, nodes.Filter, nodes.Call)):
            value = fold(node, self.constants)
            for text in value if isinstance(value, list) else [value]:
                if isinstance(text, str):
                    self._text(text, node)

    def _name(self, node: nodes.Name) -> None:
        if node.ctx == "load" and node.name in _HELPERS and node.name not in self.own:
            message = "it names a helper of Jinja from which Python's modules can be reached"
            self.report("template-helper", Severity.INCOMPLETE, message, node, node.name)
        elif _INTROSPECTION.fullmatch(node.name):
            self._attribute(node.name, node)

    def _attribute(self, name: str, node: nodes.Node) -> None:
        """An attribute or item is asked for by *name*."""
        if name.startswith("__") or _INTROSPECTION.search(name):
            message = "it reaches for Python's own attributes"
        elif name in _INTERNAL:
            message = "it reaches for the insides of Python's functions"
        else:
            return
        self.report("template-attribute", Severity.EXECUTE, message, node, name, "run code that a chat template holds")

    def _named(self, argument: nodes.Node, node: nodes.Node) -> None:
        """An item or attribute whose name is an expression."""
        value = fold(argument, self.constants)
        if isinstance(value, str):
            self._attribute(value, node)
        elif isinstance(value, Unknown) and self._is_built(argument):
            message = "the name of an attribute is put together from parts that are not known"
            self.report("template-computed-name", Severity.INCOMPLETE, message, node, type(argument).__name__)

    def _text(self, text: str, node: nodes.Node) -> None:
        """A text constant: names of Python's own attributes have no place in what a model is told."""
        if found := _INTROSPECTION.search(text):
            self._attribute(found[0], node)
        elif _FRAGMENT.fullmatch(text):
            message = "a text is a part of the name of one of Python's own attributes"
            self.report("template-name-part", Severity.INCOMPLETE, message, node, text)

    def _filter(self, node: nodes.Filter) -> None:
        if node.name not in _ENVIRONMENT.filters:
            self._unknown("filter", node.name, node)
        given = [*node.args, *(pair.value for pair in node.kwargs)]
        if node.dyn_args or node.dyn_kwargs:
            self._unknown("list of arguments", node.name, node)
        if node.name in _BY_ATTRIBUTE:
            for argument in given:
                value = fold(argument, self.constants)
                if isinstance(value, str):
                    for part in value.split("."):
                        self._attribute(part, node)
                elif isinstance(value, Unknown) and (node.name == "attr" or self._is_built(argument)):
                    message = "the name of an attribute is put together from parts that are not known"
                    self.report("template-computed-name", Severity.INCOMPLETE, message, node, node.name)
        if node.name == "map" and node.args and fold(node.args[0], self.constants) == "format":
            self.report("template-format", Severity.INCOMPLETE, "a text is formatted that is not known", node, "map")

    def _call(self, node: nodes.Call) -> None:
        if isinstance(node.node, nodes.Getattr):
            name = node.node.attr
            if name in ("format", "format_map"):
                self._format(node, node.node)
            elif name not in _METHODS and not name.startswith("__") and not self._is_own(node.node.node):
                self._unknown("method", name, node)
        elif isinstance(node.node, nodes.Name):
            if node.node.name not in _FUNCTIONS | _HELPERS | self.own:
                self._unknown("function", node.node.name, node)
        else:
            self._unknown("function", type(node.node).__name__, node)

    def _is_own(self, node: nodes.Node) -> bool:
        """Whether a method belongs to a namespace of the template, into which it may have put a macro."""
        return isinstance(node, nodes.Name) and node.name in self.spaces

    def _format(self, node: nodes.Call, method: nodes.Getattr) -> None:
        value = fold(method.node, self.constants)
        if not isinstance(value, str) or method.attr == "format_map":
            self.report(
                "template-format", Severity.INCOMPLETE, "a text is formatted that is not known", node, method.attr
            )
        elif _FORMAT_FIELD.search(value):
            message = "a format reaches for attributes of what it formats"
            self.report(
                "template-format", Severity.EXECUTE, message, node, value, "run code that a chat template holds"
            )

    def _unknown(self, what: str, name: str, node: nodes.Node) -> None:
        message = f"it uses a {what} that templates do not have by themselves"
        self.report("template-unknown-name", Severity.INCOMPLETE, message, node, name)


def _builds_text(node: nodes.Node) -> bool:
    """Whether an expression makes a new text, rather than naming one that is there."""
    if isinstance(node, (nodes.Concat, nodes.Mod)):
        return True
    if isinstance(node, nodes.Add):
        return not any(isinstance(fold(part, {}), int) for part in (node.left, node.right))
    if isinstance(node, nodes.Filter):
        return node.name not in ("length", "count", "int", "abs", "round", "first", "last", "default", "d")
    if isinstance(node, nodes.Call) and isinstance(node.node, nodes.Getattr):
        return node.node.attr in ("join", "format", "replace", "lower", "upper", "strip", "lstrip", "rstrip", "title")
    if isinstance(node, nodes.CondExpr):
        return any(_builds_text(part) for part in (node.expr1, node.expr2) if part is not None)
    return False


def _walk(tree: nodes.Node) -> Iterator[nodes.Node]:
    """Every node in the order of the text, without recursion, a bounded number."""
    waiting = [tree]
    count = 0
    while waiting and count < _MAX_NODES:
        node = waiting.pop()
        count += 1
        yield node
        waiting.extend(reversed(list(node.iter_child_nodes())))

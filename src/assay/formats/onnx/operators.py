"""Which ONNX operators only compute, and what the others need or do.

Concept: an operator is its domain and its name. Those of ``ops.txt`` (ONNX 1.23 with its history, ONNX Runtime 1.32)
compute on tensors. Everything else is Python, an engine of another vendor, a service, or a library nobody knows.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from functools import cache
from importlib.resources import files

from assay.formats.onnx.schema import EXTENSION_DOMAINS, KNOWN_DOMAINS, PYTHON_OPERATORS
from assay.spec.finding import Severity

MAX_EXPANDED = 20_000_000
"""Operators that a model may have once the calls of its functions are written out."""

Operator = tuple[str, str]
"""Domain (empty: ONNX's own) and name."""

Report = Callable[[str, Severity, str, int | None, str], None]
"""Takes rule, severity, message, offset and evidence of a finding."""

_ENGINES = frozenset({"EPContext", "Snpe", "OpenVINO", "TRTKernel", "QnnContext", "TensorRT", "TensorrtEngine"})
_SERVICES = ("Azure", "OpenAI")


def judge_operators(operators: Mapping[Operator, int], own: Collection[Operator], report: Report) -> None:
    """Report the operators that do more than compute.

    Args:
        operators: how often each is used.
        own: functions that the model defines.
        report: takes findings.
    """
    foreign: Counter[str] = Counter()
    for (domain, name), count in sorted(operators.items()):
        shown = f"{domain}.{name}" if domain else name
        if name in PYTHON_OPERATORS:
            continue  # reported where it stands
        if name in _ENGINES:
            text = f"operator {shown!r} hands a program to another vendor's engine, or names a file with one"
            report("onnx-engine", Severity.EXECUTE, text, None, shown)
        elif name.startswith(_SERVICES):
            text = f"operator {shown!r} asks a service in the network"
            report("onnx-service", Severity.NETWORK, text, None, shown)
        elif (domain, name) in own or domain in EXTENSION_DOMAINS:
            continue
        elif domain not in KNOWN_DOMAINS:
            foreign[domain] += count
        elif domain in _table() and name not in _table()[domain]:
            text = f"operator {shown!r} is not one that ONNX or ONNX Runtime has"
            report("onnx-unknown-operator", Severity.INCOMPLETE, text, None, shown)
    for domain, count in sorted(foreign.items()):
        text = f"{count:,} operators of domain {domain!r} need a library that ONNX Runtime does not have"
        report("onnx-unknown-domain", Severity.INCOMPLETE, text, None, domain)


def judge_functions(calls: Mapping[Operator | None, Mapping[Operator, int]], report: Report) -> None:
    """Report functions that call themselves, or grow beyond all bounds once they are written out.

    Args:
        calls: what each function's body uses; under None what the main graph uses.
        report: takes findings.
    """
    sizes: dict[Operator | None, int] = {}
    open_: set[Operator | None] = set()
    stack: list[tuple[Operator | None, Iterator[Operator]]] = [(None, iter(calls.get(None, {})))]
    while stack:
        name, rest = stack[-1]
        open_.add(name)
        inner = next((used for used in rest if used in calls and used not in sizes), None)
        if inner is None:
            body = calls.get(name, {})
            sizes[name] = min(sum(count * sizes.get(used, 1) for used, count in body.items()), MAX_EXPANDED + 1)
            open_.discard(name)
            stack.pop()
        elif inner in open_:
            report("onnx-function-loop", Severity.EXHAUST, "a function calls itself", None, ".".join(inner))
            return
        else:
            stack.append((inner, iter(calls[inner])))
    if sizes.get(None, 0) > MAX_EXPANDED:
        text = f"functions that call each other make more than {MAX_EXPANDED:,} operators"
        report("onnx-function-growth", Severity.EXHAUST, text, None, "")


@cache
def _table() -> dict[str, frozenset[str]]:
    found: dict[str, set[str]] = {}
    for line in files("assay.formats.onnx").joinpath("ops.txt").read_text("utf-8").splitlines():
        domain, _, names = line.partition(": ")
        found.setdefault("" if domain == "ai.onnx" else domain, set()).update(names.split())
    return {domain: frozenset(names) for domain, names in found.items()}

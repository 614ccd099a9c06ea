"""Distributions of scipy: unpickling one evaluates source text that it keeps, which must be what scipy writes.

Source: ``scipy/stats/_distn_infrastructure.py``, ``rv_generic.__setstate__`` and ``parse_arg_template``: three
functions that put shapes, location and scale in order. The text is parsed here and compared in kind, never evaluated.
"""

from __future__ import annotations

import ast
import re

from assay.containers.pickle.values import Call, Global

MAX_TEMPLATE = 8_192
"""Bytes of source that are parsed; scipy's own have under 1,000."""

_TEMPLATE = "_parse_arg_template"
_ATTRIBUTES = frozenset(
    "__doc__ _ctor_param _parse_arg_template _random_state _stats_has_moments a b badvalue extradoc inc longname "
    "moment_tol moment_type name numargs shapes vecentropy xtol".split()
)
# Setting the state calls methods of the instance: no other name may be set, or the pickle's own would be called.
_FUNCTIONS = ("_parse_args", "_parse_args_rvs", "_parse_args_stats")
_SHAPES = re.compile(r"[A-Za-z_]\w*(?:[, ]+[A-Za-z_]\w*)*,?\s*", re.ASCII)


def distribution_objection(call: Call) -> str | None:
    """What is wrong with the state of a distribution, or None."""
    state = call.state
    if not isinstance(state, dict):
        return "the pickle gives a distribution a state that is not one"
    shapes = state.get("shapes")
    if shapes is not None and not (isinstance(shapes, str) and (not shapes or _SHAPES.fullmatch(shapes))):
        return "the pickle gives a distribution shapes that are no names"
    if any(name not in _ATTRIBUTES for name in state) or any(type(value) is Global for value in state.values()):
        return "the pickle sets attributes that are no data of a distribution"
    template = state.get(_TEMPLATE)
    if template is None or (isinstance(template, str) and harmless_template(template)):
        return None
    return "the pickle gives a distribution source text of its own to evaluate"


def harmless_template(text: str) -> bool:
    """Whether *text* defines scipy's three functions, which return their arguments in another order."""
    if len(text) > MAX_TEMPLATE:
        return False
    try:
        module = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    names = tuple(node.name for node in module.body if isinstance(node, ast.FunctionDef))
    return len(module.body) == len(names) and names == _FUNCTIONS and all(map(_orders, module.body))


def _orders(node: ast.stmt) -> bool:
    """Whether a function does nothing but return its arguments, or hand them to ``self._argcheck_rvs``."""
    assert isinstance(node, ast.FunctionDef)
    arguments = node.args
    plain = not (node.decorator_list or node.returns or arguments.vararg or arguments.kwarg)
    named = (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)
    defaults = [default for default in (*arguments.defaults, *arguments.kw_defaults) if default is not None]
    if not plain or any(argument.annotation for argument in named):
        return False
    if not all(isinstance(default, ast.Constant) for default in defaults) or len(node.body) != 1:
        return False
    (only,) = node.body
    if not isinstance(only, ast.Return) or only.value is None:
        return False
    if isinstance(only.value, ast.Call):
        called = only.value
        function = called.func
        checks = (
            isinstance(function, ast.Attribute)
            and function.attr == "_argcheck_rvs"
            and isinstance(function.value, ast.Name)
            and function.value.id == "self"
        )
        values = [*called.args, *(keyword.value for keyword in called.keywords)]
        return checks and all(map(_name, values))
    return _name(only.value)


def _name(node: ast.expr) -> bool:
    if isinstance(node, ast.Tuple):
        return all(map(_name, node.elts))
    return isinstance(node, (ast.Name, ast.Constant))

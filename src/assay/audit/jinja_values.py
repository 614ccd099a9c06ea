"""What expressions of a Jinja template come to, as far as constants alone say; and how large they can become.

Nothing is rendered: the few operations and filters that build text out of constants are done here, on bounded values.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, cast

from jinja2 import nodes

MAX_TEXT = 4096
"""Characters of a text that is put together; a longer one is unknown."""
MAX_NUMBER = 1 << 62
_MAX_DEPTH = 24


class Unknown:
    """The value of an expression that constants do not decide."""


UNKNOWN: Final = Unknown()
Value = str | int | float | bool | list["Value"] | None | Unknown
"""What a constant expression can be here; tuples and keys of mappings are lists."""
Constants = Mapping[str, Value]


def fold(node: nodes.Node, known: Constants, depth: int = 0) -> Value:
    """The value of *node* where constants and the *known* variables decide it.

    Args:
        node: an expression.
        known: variables that are only ever given one constant.
        depth: nesting so far.
    """
    if depth > _MAX_DEPTH:
        return UNKNOWN
    deeper = depth + 1
    if isinstance(node, nodes.Const):
        return cast("Value", node.value)
    if isinstance(node, nodes.TemplateData):
        return node.data
    if isinstance(node, nodes.Name):
        return known.get(node.name, UNKNOWN)
    if isinstance(node, (nodes.List, nodes.Tuple)):
        return [fold(item, known, deeper) for item in node.items[:256]]
    if isinstance(node, nodes.Dict):
        return [fold(pair.key, known, deeper) for pair in node.items[:256]]
    if isinstance(node, nodes.Concat):
        return _text("".join(_part(fold(item, known, deeper)) or "\0" for item in node.nodes))
    if isinstance(node, nodes.Neg):
        value = fold(node.node, known, deeper)
        return -value if isinstance(value, (int, float)) else UNKNOWN
    if isinstance(node, nodes.BinExpr):
        return _binary(node, fold(node.left, known, deeper), fold(node.right, known, deeper))
    if isinstance(node, nodes.Filter) and node.node is not None:
        given = [fold(argument, known, deeper) for argument in node.args]
        return _filter(node.name, fold(node.node, known, deeper), given)
    if isinstance(node, nodes.Call):
        return _call(node, known, deeper)
    if isinstance(node, nodes.Getitem):
        return _item(fold(node.node, known, deeper), node.arg, known, deeper)
    return UNKNOWN


def largest(node: nodes.Node, sizes: Mapping[str, int], depth: int = 0) -> int:
    """An estimate of the characters, or items, that *node* comes to; what is unknown counts one.

    Args:
        node: an expression.
        sizes: estimates of the variables that were set before.
        depth: nesting so far.
    """
    if depth > _MAX_DEPTH:
        return 1
    deeper = depth + 1
    if isinstance(node, nodes.Const):
        return len(node.value) if isinstance(node.value, str) else 1
    if isinstance(node, nodes.Name):
        return sizes.get(node.name, 1)
    if isinstance(node, nodes.Getattr) and isinstance(node.node, nodes.Name):
        return sizes.get(f"{node.node.name}.{node.attr}", 1)
    if isinstance(node, (nodes.Concat, nodes.List, nodes.Tuple)):
        parts = node.nodes if isinstance(node, nodes.Concat) else node.items
        return min(sum(largest(part, sizes, deeper) for part in parts), MAX_NUMBER)
    if isinstance(node, nodes.Mul):
        return min(_times(node.left, sizes, deeper) * _times(node.right, sizes, deeper), MAX_NUMBER)
    if isinstance(node, nodes.BinExpr):
        return min(largest(node.left, sizes, deeper) + largest(node.right, sizes, deeper), MAX_NUMBER)
    inner = list(node.iter_child_nodes())
    return min(max([1, *(largest(child, sizes, deeper) for child in inner)]), MAX_NUMBER)


def _times(node: nodes.Node, sizes: Mapping[str, int], depth: int) -> int:
    """What an operand of a multiplication multiplies by: a number its value, everything else its size."""
    value = fold(node, {})
    if isinstance(value, (int, float)):
        return int(min(abs(value), MAX_NUMBER)) if value == value else 1  # noqa: PLR0124 - NaN is unlike itself
    return largest(node, sizes, depth)


def _part(value: Value) -> str:
    return "" if isinstance(value, (Unknown, list)) or value is None else str(value)


def _text(text: str) -> Value:
    return UNKNOWN if "\0" in text or len(text) > MAX_TEXT else text


def _binary(node: nodes.BinExpr, left: Value, right: Value) -> Value:
    if isinstance(left, str) and isinstance(right, str) and isinstance(node, nodes.Add):
        return _text(left + right)
    if isinstance(left, list) and isinstance(right, list) and isinstance(node, nodes.Add):
        return [*left, *right][:256]
    if isinstance(left, str) and isinstance(node, nodes.Mod):
        return _percent(left, right if isinstance(right, list) else [right])
    if isinstance(left, str) and isinstance(right, int) and isinstance(node, nodes.Mul):
        return _text(left * right) if 0 <= right <= MAX_TEXT else UNKNOWN
    if isinstance(left, int) and isinstance(right, int):
        return _number(node, left, right)
    return UNKNOWN


def _number(node: nodes.BinExpr, left: int, right: int) -> Value:
    if isinstance(node, nodes.Pow):
        small = abs(left) < 1 << 31 and 0 <= right < 1 << 10
        if abs(left) < 2:
            return left ** (right & 1 or 2) if right >= 0 else UNKNOWN
        found = left**right if small and abs(left).bit_length() * right < 4096 else MAX_NUMBER
    elif isinstance(node, nodes.Mul):
        found = left * right
    elif isinstance(node, nodes.Add):
        found = left + right
    elif isinstance(node, nodes.Sub):
        found = left - right
    else:
        return UNKNOWN
    return max(-MAX_NUMBER, min(found, MAX_NUMBER))


def _percent(template: str, arguments: Sequence[Value]) -> Value:
    """``%``-formatting of plain ``%s`` fields."""
    pieces = template.split("%s")
    if len(pieces) != len(arguments) + 1 or any("%" in piece.replace("%%", "") for piece in pieces):
        return UNKNOWN
    if any(isinstance(argument, (Unknown, list)) for argument in arguments):
        return UNKNOWN
    out = pieces[0]
    for argument, piece in zip(arguments, pieces[1:], strict=True):
        out += _part(argument) + piece
    return _text(out.replace("%%", "%"))


def _filter(name: str, value: Value, given: Sequence[Value]) -> Value:
    if isinstance(value, list):
        if name == "join" and not any(isinstance(item, (Unknown, list)) for item in value):
            between = given[0] if given else ""
            return _text(between.join(map(_part, value))) if isinstance(between, str) else UNKNOWN
        if name in ("reverse", "list", "sort", "unique") and name != "sort":
            return value[::-1] if name == "reverse" else value
        if name in ("first", "last") and value:
            return value[0 if name == "first" else -1]
        return UNKNOWN
    if not isinstance(value, str):
        return _part(value) if name == "string" and not isinstance(value, Unknown) else UNKNOWN
    if name == "format":
        return _percent(value, given)
    return _method(name, value, given)


def _method(name: str, value: str, given: Sequence[Value]) -> Value:
    """Filters and methods that make one text of another."""
    texts = [item for item in given if isinstance(item, str)]
    if name == "replace" and len(texts) >= 2:
        return UNKNOWN if not texts[0] else _text(value.replace(texts[0], texts[1]))
    if name == "join" and given and isinstance(given[0], list):
        return _filter("join", given[0], [value])
    if name == "list":
        return list(value[:256])
    if name in ("first", "last") and value:
        return value[0 if name == "first" else -1]
    plain = {
        "lower": value.lower(),
        "upper": value.upper(),
        "reverse": value[::-1],
        "trim": value.strip(*texts[:1]),
        "strip": value.strip(*texts[:1]),
        "lstrip": value.lstrip(*texts[:1]),
        "rstrip": value.rstrip(*texts[:1]),
        "capitalize": value.capitalize(),
        "title": value.title(),
        "swapcase": value.swapcase(),
        "string": value,
        "safe": value,
        "escape": value,
        "e": value,
        "striptags": value,
    }
    return plain.get(name, UNKNOWN)


def _call(node: nodes.Call, known: Constants, depth: int) -> Value:
    if isinstance(node.node, nodes.Name) and node.node.name == "dict":
        return [pair.key for pair in node.kwargs]
    if isinstance(node.node, nodes.Getattr):
        value = fold(node.node.node, known, depth)
        if isinstance(value, str):
            return _method(node.node.attr, value, [fold(argument, known, depth) for argument in node.args])
    return UNKNOWN


def _item(value: Value, index: nodes.Node, known: Constants, depth: int) -> Value:
    if not isinstance(value, (str, list)):
        return UNKNOWN
    if isinstance(index, nodes.Slice):
        ends = [None if end is None else fold(end, known, depth) for end in (index.start, index.stop, index.step)]
        whole = [end for end in ends if end is None or (isinstance(end, int) and abs(end) <= MAX_TEXT)]
        if len(whole) < 3 or whole[2] == 0:
            return UNKNOWN
        return value[whole[0] : whole[1] : whole[2]]
    at = fold(index, known, depth)
    if isinstance(at, int) and -len(value) <= at < len(value):
        return value[at]
    return UNKNOWN

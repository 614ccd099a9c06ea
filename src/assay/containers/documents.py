"""JSON and YAML documents of foreign origin as plain bounded values.

What is guarded here, once: size, number of values, nesting, lone surrogates (which no UTF-8 text can hold), NaN,
repeated keys (two readers would see two documents), YAML aliases (which multiply) and YAML tags (which construct
objects). YAML scalars are read by a small rule of our own: plain ``true``, ``null`` and numbers mean what they look
like, everything else is text, so that the language code ``no`` stays a language.
"""

from __future__ import annotations

import codecs
import json
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from assay.containers.guard import guarded
from assay.errors import BadFormat, LimitExceeded
from assay.spec.json import Json
from assay.trees import Window

MAX_JSON = 64 << 20
"""Bytes of a JSON document that are read unless the caller says otherwise."""
MAX_YAML = 2 << 20
MAX_YAML_EVENTS = 500_000
MAX_VALUES = 8_000_000
"""Values one document may hold; counted from its punctuation before anything is allocated."""
MAX_DEPTH = 64
MAX_TEXT = 1_000
"""Characters kept of a text that is shown."""
MAX_ITEMS = 256
"""Items kept of a list or mapping that is shown."""

_ESCAPE = re.compile(
    r"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|(?P<lone>u[dD][89a-fA-F][0-9a-fA-F]{2})|.)",
    re.DOTALL,
)
_NUMBER = re.compile(r"[-+]?(?:\d{1,18}|(?:\d{1,30}\.\d{0,30}|\.\d{1,30}|\d{1,18})(?:[eE][-+]?\d{1,3})?)", re.ASCII)
_CONSTANTS: dict[str, bool | None] = {
    "": None,
    "~": None,
    **dict.fromkeys(("null", "Null", "NULL"), None),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass(frozen=True, slots=True)
class Document:
    """One document.

    Args:
        value: what it says.
        repeated: keys that occur more than once in one object; the last one won.
    """

    value: Json
    repeated: tuple[str, ...] = ()


Condense = Callable[[dict[str, Any]], Any]
"""What an object becomes as soon as it is read, innermost first; keeps large parts from existing side by side."""


def read_json(
    window: Window, limit: int = MAX_JSON, *, condense: Condense | None = None, max_values: int = MAX_VALUES
) -> Document:
    """The JSON document that fills *window*.

    Raises:
        BadFormat: it is not JSON in UTF-8.
        LimitExceeded: longer than *limit* bytes, or more than *max_values* values.
    """
    if window.size > limit:
        raise LimitExceeded(
            f"{window.path}: JSON of {window.size:,} bytes, at most {limit:,} are read", path=window.path
        )
    return parse_json(window.read(), window.path, condense=condense, max_values=max_values)


def parse_json(data: bytes, path: str, *, condense: Condense | None = None, max_values: int = MAX_VALUES) -> Document:
    """The JSON document *data*; NaN and infinities become text.

    Raises:
        BadFormat: it is not JSON in UTF-8, or nested too deeply for Python's parser.
        LimitExceeded: more than *max_values* values.
    """
    if data.count(b",") + data.count(b"[") + data.count(b"{") > max_values:
        raise LimitExceeded(f"{path}: JSON of more than {max_values:,} values", path=path)
    repeated: dict[str, None] = {}

    def pairs(items: list[tuple[str, Any]]) -> Any:
        made = dict(items)
        if len(made) != len(items) and len(repeated) < MAX_ITEMS:
            seen: set[str] = set()
            for key, _ in items:
                if key in seen:
                    repeated[key] = None
                seen.add(key)
        return made if condense is None else condense(made)

    with guarded("JSON", path):
        text = data.removeprefix(codecs.BOM_UTF8).decode()  # "utf-8-sig" is imported when it is first used
        if "\\ud" in text or "\\uD" in text:
            text = _ESCAPE.sub(lambda found: "\\ufffd" if found["lone"] else found[0], text)
        value = json.loads(text, object_pairs_hook=pairs, parse_constant=str)
    return Document(value, tuple(repeated))


def parse_yaml(text: str, path: str) -> Json:
    """The one YAML document *text*, built without aliases, tags or any constructor.

    Raises:
        BadFormat: it is not YAML, or holds an alias.
        LimitExceeded: longer than ``MAX_YAML`` characters, deeper than ``MAX_DEPTH``, or more than ``MAX_YAML_EVENTS``.
    """
    if len(text) > MAX_YAML:
        raise LimitExceeded(f"{path}: YAML of {len(text):,} characters, at most {MAX_YAML:,} are read", path=path)
    with guarded("YAML", path):
        events = yaml.parse(text, Loader=_Loader)
        for event in events:
            if isinstance(event, yaml.NodeEvent):
                return _yaml_node(event, events, path)
    return None


def _yaml_node(first: yaml.NodeEvent, events: Iterator[yaml.Event], path: str) -> Json:
    """Build the value that begins with *first*; iterative, so that nesting costs no stack."""
    stack: list[tuple[bool, list[Json]]] = []
    event: yaml.Event = first
    for _ in range(MAX_YAML_EVENTS):
        done = False
        value: Json = None
        if isinstance(event, yaml.AliasEvent):
            raise BadFormat(f"{path}: YAML aliases are not read", path=path)
        if isinstance(event, yaml.ScalarEvent):
            done, value = True, _yaml_scalar(event)
        elif isinstance(event, (yaml.MappingStartEvent, yaml.SequenceStartEvent)):
            if len(stack) >= MAX_DEPTH:
                raise LimitExceeded(f"{path}: YAML nested deeper than {MAX_DEPTH}", path=path)
            stack.append((isinstance(event, yaml.MappingStartEvent), []))
        elif isinstance(event, (yaml.MappingEndEvent, yaml.SequenceEndEvent)):
            is_mapping, items = stack.pop()
            done = True
            value = {_key(items[at]): items[at + 1] for at in range(0, len(items), 2)} if is_mapping else items
        if done:
            if not stack:
                return value
            stack[-1][1].append(value)
        event = next(events)
    raise LimitExceeded(f"{path}: YAML of more than {MAX_YAML_EVENTS:,} events", path=path)


def _key(value: Json) -> str:
    return value if isinstance(value, str) else json.dumps(value)[:MAX_TEXT]


def _yaml_scalar(event: yaml.ScalarEvent) -> Json:
    text = event.value
    if event.style:  # quoted or block: text, whatever it looks like
        return text
    if text in _CONSTANTS:
        return _CONSTANTS[text]
    if _NUMBER.fullmatch(text):
        number = float(text)
        if math.isfinite(number):
            return int(text) if text.lstrip("+-").isdigit() else number
    return text


def plain(value: object, *, text: int = MAX_TEXT, items: int = MAX_ITEMS, depth: int = 8) -> Json:
    """*value* as a JSON value fit to be shown: long texts and lists shortened, depth bounded, NaN as text.

    >>> plain({"a": float("inf"), "b": "x" * 5}, text=3)
    {'a': 'inf', 'b': 'xxx…'}
    """
    if value is None or isinstance(value, (bool, int)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, str):
        return value if len(value) <= text else f"{value[:text]}…"
    if not isinstance(value, (Mapping, Sequence)):
        return plain(str(value), text=text)
    if depth <= 0:
        return "…"
    left_out = len(value) - items
    if isinstance(value, Mapping):
        shown: dict[str, Json] = {}
        for key, item in value.items():
            if len(shown) >= items:
                shown["…"] = f"{left_out} more"
                break
            shown[str(key)[:text]] = plain(item, text=text, items=items, depth=depth - 1)
        return shown
    listed = [plain(item, text=text, items=items, depth=depth - 1) for item in value[:items]]
    return [*listed, f"… {left_out} more"] if left_out > 0 else listed

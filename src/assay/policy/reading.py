"""Read ``policy.toml``. Written format: ``docs/spec/policy.md``.

Everything is checked: an unknown key, action, severity or gate is an error, because a mistyped line of a policy must
never mean that something is let pass.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import date, datetime
from enum import StrEnum
from typing import Any, NoReturn, TypeVar

from assay.errors import InvalidInput
from assay.policy.policy import PRESETS, Action, Gate, Handling, Pardon, Policy
from assay.policy.trust import parse_trust
from assay.spec.finding import Severity

_KEYS = frozenset({"extends", "severity", "rules", "gates", "globals", "exception", "trust"})
_PARDON = frozenset({"rule", "digest", "author", "reason", "expires", "path", "evidence"})
_RULE = re.compile(r"[a-z0-9]+(?:-[a-z0-9]+)*(?:-?\*)?")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_GLOBAL = re.compile(r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)+")
_GATE_WORDS: Mapping[Gate, frozenset[Handling]] = {
    Gate.PUSH: frozenset({Handling.RECORD, Handling.WARN, Handling.QUARANTINE}),
    Gate.PULL: frozenset({Handling.RECORD, Handling.WARN, Handling.REFUSE}),
    Gate.LOAD: frozenset({Handling.WARN, Handling.REFUSE}),
    Gate.PROMOTE: frozenset({Handling.RECORD, Handling.WARN, Handling.REFUSE}),
}
_Word = TypeVar("_Word", bound=StrEnum)


def read_policy(text: str, *, name: str) -> Policy:
    """The policy a TOML document describes.

    Args:
        text: the document.
        name: how messages call it: the file.

    Raises:
        InvalidInput: it is not TOML, or says something that no policy can say (code ``bad-policy``).
    """
    try:
        body: Mapping[str, Any] = tomllib.loads(text)
    except ValueError as error:
        raise _bad(name, f"is not TOML: {error}") from error
    unknown = sorted(set(body) - _KEYS)
    if unknown:
        _refuse(name, f"unknown key {unknown[0]!r}, expected one of {', '.join(sorted(_KEYS))}")
    base = _base(name, body.get("extends", "default"))
    severities = {**base.severities, **_table(name, body, "severity", _word(Severity), _word(Action))}
    if severities[Severity.EXECUTE] is not Action.REFUSE:
        _refuse(
            name,
            "severity execute must be refuse: code is let pass by rule, by class or by artifact, never all at once",
        )
    return replace(
        base,
        name=name,
        severities=severities,
        rules={**base.rules, **_table(name, body, "rules", _rule, _word(Action))},
        gates={**base.gates, **_gates(name, body)},
        globals=base.globals | _globals(name, body.get("globals", {})),
        pardons=tuple(_pardon(name, item) for item in _items(name, body.get("exception", []))),
        trust=parse_trust(_mapping(name, "trust", body.get("trust", {}))),
    )


def _base(name: str, value: object) -> Policy:
    if not isinstance(value, str) or value not in PRESETS:
        _refuse(name, f"extends {value!r:.60}, expected one of {', '.join(PRESETS)}")
    return PRESETS[value]


def _table(
    name: str,
    body: Mapping[str, Any],
    key: str,
    left: Callable[[object], Any],
    right: Callable[[object], Any],
) -> dict[Any, Any]:
    found = {}
    for word, value in _mapping(name, key, body.get(key, {})).items():
        try:
            found[left(word)] = right(value)
        except ValueError as error:
            _refuse(name, f"[{key}] {word} = {value!r:.60}: {error}")
    return found


def _gates(name: str, body: Mapping[str, Any]) -> dict[Gate, Handling]:
    found: dict[Gate, Handling] = _table(name, body, "gates", _word(Gate), _word(Handling))
    for gate, handling in found.items():
        if handling not in _GATE_WORDS[gate]:
            words = ", ".join(sorted(_GATE_WORDS[gate]))
            _refuse(name, f"[gates] {gate.value} = {handling.value!r}: expected one of {words}")
    return found


def _globals(name: str, value: object) -> frozenset[str]:
    table = _mapping(name, "globals", value)
    names = table.get("construct", [])
    if set(table) - {"construct"} or not isinstance(names, list):
        _refuse(name, "[globals] holds one list: construct = ['package.module.Class']")
    for item in names:
        if not isinstance(item, str) or not _GLOBAL.fullmatch(item):
            _refuse(name, f"[globals] {item!r:.80} is not the full name of one class")
    return frozenset(names)


def _pardon(name: str, item: Mapping[str, Any]) -> Pardon:
    missing = [key for key in ("rule", "digest", "author", "reason", "expires") if not item.get(key)]
    unknown = sorted(set(item) - _PARDON)
    if missing or unknown:
        what = f"needs {missing[0]}" if missing else f"has the unknown key {unknown[0]!r}"
        _refuse(name, f"an [[exception]] {what}: it is bound to a rule and a digest, with author, reason and expires")
    expires = item["expires"]
    if not isinstance(expires, date) or isinstance(expires, datetime):
        _refuse(name, f"[[exception]] expires = {expires!r:.40}, expected a day such as 2027-06-30")
    texts = {key: item.get(key, "") for key in _PARDON - {"expires"}}
    if not all(isinstance(value, str) for value in texts.values()):
        _refuse(name, "[[exception]] every value but expires is text")
    if not _RULE.fullmatch(texts["rule"]) or texts["rule"].endswith("*"):
        _refuse(name, f"[[exception]] rule = {texts['rule']!r:.60} is not the id of one rule")
    if not _DIGEST.fullmatch(texts["digest"]):
        _refuse(name, f"[[exception]] digest = {texts['digest']!r:.80}, expected sha256: and 64 hex digits")
    return Pardon(expires=expires, **texts)


def _word(kind: type[_Word]) -> Callable[[object], _Word]:
    def parse(value: object) -> _Word:
        if value not in [member.value for member in kind]:
            raise ValueError(f"expected one of {', '.join(member.value for member in kind)}")
        return kind(value)

    return parse


def _rule(value: object) -> str:
    if not isinstance(value, str) or not _RULE.fullmatch(value):
        raise ValueError("not the id of a rule, or the beginning of ids followed by *")
    return value


def _mapping(name: str, key: str, value: object) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        _refuse(name, f"{key} is not a table")
    return value


def _items(name: str, value: object) -> list[Mapping[str, Any]]:
    if not isinstance(value, list) or not all(isinstance(item, Mapping) for item in value):
        _refuse(name, "exceptions are written as [[exception]] tables")
    return value


def _refuse(name: str, message: str) -> NoReturn:
    raise _bad(name, message)


def _bad(name: str, message: str) -> InvalidInput:
    return InvalidInput(
        f"policy {name}: {message}",
        code="bad-policy",
        hint="docs/spec/policy.md shows every line a policy can have; nothing was let pass",
    )

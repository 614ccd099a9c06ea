"""Read ``[[promotion]]`` tables. Written format: ``docs/spec/promotion.md``.

Everything is checked: a mistyped key, pattern or unit is an error, because a line that is not understood must never
mean that a gate stands open.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from decimal import Decimal
from typing import Any, NoReturn

from assay.errors import InvalidInput
from assay.policy.promotion import MetricRule, Rule
from assay.policy.trust import NO_TRUST, Requirement, Trust, parse_trust
from assay.spec.evaluation import finite
from assay.spec.json import canonical

_TABLES = frozenset({"promotion", "trust"})
_METRIC = frozenset({"name", "dataset", "min", "max", "not_worse_by", "better"})
_MODELS = re.compile(r"[a-z0-9*?._/-]+", re.ASCII)
_ALIASES = re.compile(r"[A-Za-z0-9*?._-]+", re.ASCII)
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([kMGT]i?)?B", re.ASCII)
_MOST_BYTES = 2**63 - 1
_MOST_DAYS = 36_500
"""A hundred years: more is a mistyped number, and no age that time can be counted in."""
_MOST_COUNT = 1000
_UNITS = {
    "": 1,
    "k": 10**3,
    "M": 10**6,
    "G": 10**9,
    "T": 10**12,
    "ki": 1 << 10,
    "Mi": 1 << 20,
    "Gi": 1 << 30,
    "Ti": 1 << 40,
}


def read_rules(body: Mapping[str, object], *, source: str, trusted: Trust = NO_TRUST) -> tuple[Rule, ...]:
    """The rules that a file's tables describe.

    Args:
        body: its ``promotion`` and ``trust`` tables.
        source: how messages call the file.
        trusted: signers that rules may name beside those of the file itself.

    Raises:
        InvalidInput: something in them is not what it must be (code ``bad-promotion``).
    """
    unknown = sorted(set(body) - _TABLES)
    if unknown:
        _refuse(source, f"unknown key {unknown[0]!r:.60}, expected [[promotion]] and [[trust.signer]] tables")
    own = body.get("trust", {})
    if not isinstance(own, Mapping) or "require" in own:
        _refuse(source, "[trust] holds [[trust.signer]] and [[trust.revoked]]; what must be signed, signed_by says")
    try:
        known = parse_trust(own)
    except InvalidInput as error:
        raise _bad(source, error.message.removeprefix("policy: ")) from error
    known = Trust((*known.keys, *trusted.keys), (), (*known.revocations, *trusted.revocations))
    items = body.get("promotion", [])
    if not isinstance(items, list) or not all(isinstance(item, Mapping) for item in items):
        _refuse(source, "rules are written as [[promotion]] tables")
    found = [_Table(source, item).rule(known) for item in items]
    digest = "sha256:" + hashlib.sha256(canonical(_plain(body))).hexdigest()
    return tuple(replace(rule, digest=digest) for rule in found)


class _Table:
    """One ``[[promotion]]`` table; every key is read once, and what is left was mistyped."""

    def __init__(self, source: str, item: Mapping[str, Any]) -> None:
        self._source = source
        self._item = item
        self._read: set[str] = set()

    def rule(self, known: Trust) -> Rule:
        aliases, models = self._patterns("alias", _ALIASES), self._patterns("models", _MODELS)
        if not aliases:
            self._refuse("needs alias, such as alias = 'champion'")
        override = self._get("override", _either(_flag, _names), default=True)
        made = Rule(
            source=self._source,
            aliases=aliases,
            models=models or ("*",),
            protected=self._get("protected", _flag, default=False),
            movers=self._get("movers", _names),
            overriders=None if override is True else () if override is False else override,
            recorded_by=self._get("recorded_by", _names),
            safe=self._get("audit", _safe, default=False),
            trust=self._signed_by(known),
            drop_in=self._get("drop_in", _flag, default=False),
            rehearsed=self._get("rehearsed", _flag, default=False),
            rehearsal_days=self._get("rehearsal_days", _days),
            max_size=self._get("max_size", _bytes),
            max_load_seconds=self._get("max_load_seconds", _positive),
            max_memory=self._get("max_memory", _bytes),
            licences=self._get("licences", _names),
            approvals=self._get("approvals", _count, default=0),
            self_approval=self._get("self_approval", _flag, default=False),
            metrics=self._metrics(),
        )
        unknown = sorted(set(self._item) - self._read)
        if unknown:
            self._refuse(f"has the unknown key {unknown[0]!r:.60}, expected one of {', '.join(sorted(self._read))}")
        if replace(made, aliases=(), models=()) == Rule(source=self._source, aliases=(), models=()):
            self._refuse("asks nothing: it has no gate")
        if made.self_approval and not made.approvals:
            self._refuse("self_approval says who counts among approvals, and no approvals are asked")
        return made

    def _signed_by(self, known: Trust) -> Trust:
        """The trust of one rule: only keys of those it names count."""
        signers, at_least = self._get("signed_by", _names), self._get("signatures", _count, default=1)
        if signers is None:
            if "signatures" in self._item:
                self._refuse("signatures says how many of signed_by, and signed_by is not there")
            return NO_TRUST
        names = {key.name for key in known.keys}
        for signer in signers:
            if signer not in names:
                self._refuse(
                    f"signed_by names {signer!r:.60}, and there is no [[trust.signer]] of that name here or in the "
                    "registry's policy.toml"
                )
        if not 1 <= at_least <= len(set(signers)):
            self._refuse(f"signatures = {at_least}, expected 1 to {len(set(signers))}")
        keys = tuple(key for key in known.keys if key.name in signers)
        return Trust(keys, (Requirement("*", tuple(dict.fromkeys(signers)), at_least),), known.revocations)

    def _metrics(self) -> tuple[MetricRule, ...]:
        self._read.add("metrics")
        items = self._item.get("metrics", [])
        if not isinstance(items, list) or not all(isinstance(item, Mapping) for item in items):
            self._refuse("metrics are written as [[promotion.metrics]] tables")
        return tuple(self._metric(item) for item in items)

    def _metric(self, item: Mapping[str, Any]) -> MetricRule:
        unknown = sorted(set(item) - _METRIC)
        if unknown:
            self._refuse(f"metrics: unknown key {unknown[0]!r:.60}, expected one of {', '.join(sorted(_METRIC))}")
        inner = _Table(self._source, item)
        name, better = inner._get("name", _text), inner._get("better", _better)
        made = MetricRule(
            name=name or "",
            dataset=inner._get("dataset", _text),
            minimum=inner._get("min", _number),
            maximum=inner._get("max", _number),
            not_worse_by=inner._get("not_worse_by", _margin),
            lower=better == "lower",
        )
        if not made.name:
            self._refuse("metrics: needs name")
        if made.minimum is None and made.maximum is None and made.not_worse_by is None:
            self._refuse(f"metrics: {made.name} needs min, max or not_worse_by")
        if made.minimum is not None and made.maximum is not None and made.minimum > made.maximum:
            self._refuse(f"metrics: {made.name} has min {made.minimum:g} above max {made.maximum:g}")
        if made.not_worse_by is not None and better is None:
            self._refuse(f"metrics: {made.name} has not_worse_by: say better = 'higher' or 'lower'")
        return made

    def _patterns(self, key: str, form: re.Pattern[str]) -> tuple[str, ...]:
        found = self._get(key, _either(_text, _names))
        patterns = () if found is None else (found,) if isinstance(found, str) else found
        for pattern in patterns:
            if not form.fullmatch(pattern):
                self._refuse(f"{key} = {pattern!r:.80} can match nothing")
        return patterns

    def _get(self, key: str, parse: Callable[[object], Any], *, default: object = None) -> Any:
        self._read.add(key)
        if key not in self._item:
            return default
        try:
            return parse(self._item[key])
        except ValueError as error:
            self._refuse(f"{key} = {self._item[key]!r:.60}: {error}")

    def _refuse(self, message: str) -> NoReturn:
        _refuse(self._source, f"a [[promotion]] {message}")


def _either(*kinds: Callable[[object], Any]) -> Callable[[object], Any]:
    def parse(value: object) -> Any:
        said = []
        for kind in kinds:
            try:
                return kind(value)
            except ValueError as error:
                said.append(str(error))
        raise ValueError(" or ".join(said))

    return parse


def _flag(value: object) -> bool:
    if not isinstance(value, bool):
        raise ValueError("expected true or false")  # noqa: TRY004 - what a person wrote, not a bug
    return value


def _text(value: object) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ValueError("expected text")
    return value


def _names(value: object) -> tuple[str, ...]:
    if not isinstance(value, list) or not value or not all(isinstance(one, str) and one.strip() for one in value):
        raise ValueError("expected a list of names, with at least one in it")
    return tuple(value)


def _number(value: object) -> float:
    number = finite(value) if isinstance(value, (int, float)) else None
    if number is None:
        raise ValueError("expected a number")
    return number


def _positive(value: object) -> float:
    if _number(value) <= 0:
        raise ValueError("expected a number above 0")
    return _number(value)


def _days(value: object) -> float:
    if not 0 < _number(value) <= _MOST_DAYS:
        raise ValueError(f"expected a number of days above 0, at most {_MOST_DAYS:,}")
    return _number(value)


def _margin(value: object) -> float:
    if _number(value) < 0:
        raise ValueError("expected 0 or more")
    return _number(value)


def _count(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= _MOST_COUNT:
        raise ValueError(f"expected a whole number from 1 to {_MOST_COUNT:,}")
    return value


def _bytes(value: object) -> int:
    found = _SIZE.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        raise ValueError("expected bytes with a unit, such as '500 MB' or '4GiB'")
    count = int(Decimal(found[1]) * _UNITS[found[2] or ""])
    if not 1 <= count <= _MOST_BYTES:
        raise ValueError("expected more than 0 bytes, and fewer than 2**63")
    return count


def _safe(value: object) -> bool:
    if value != "safe":
        raise ValueError("expected 'safe'")
    return True


def _better(value: object) -> str:
    if value not in ("higher", "lower"):
        raise ValueError("expected 'higher' or 'lower'")
    return str(value)


def _plain(value: Any) -> Any:
    """A TOML value as JSON: days become text."""
    if isinstance(value, Mapping):
        return {key: _plain(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_plain(one) for one in value]
    return value if isinstance(value, (str, int, float, bool)) else str(value)


def _refuse(source: str, message: str) -> NoReturn:
    raise _bad(source, message)


def _bad(source: str, message: str) -> InvalidInput:
    return InvalidInput(
        f"promotion rules in {source}: {message}",
        code="bad-promotion",
        hint="docs/spec/promotion.md shows every line a rule can have; nothing was moved",
    )

"""Retention: which versions rules keep, and which are given up. Written format: ``docs/spec/retention.md``.

A version that any rule keeps is kept; one that an alias points at or that is pinned is always kept; a model that no
rule is about is left alone, so that without rules nothing is ever given up. In doubt a version is kept.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from fnmatch import fnmatchcase
from typing import Any, NoReturn

from assay.errors import InvalidInput
from assay.spec.digest import Digest
from assay.spec.evaluation import lower_is_better
from assay.spec.records import Version

_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_DURATION = re.compile(r"(\d{1,6})([smhdw])", re.ASCII)
_KEYS = frozenset({"models", "keep_last", "keep_younger", "keep_aliased", "keep_best", "keep_bases"})


@dataclass(frozen=True, slots=True)
class Best:
    """A metric by which the best version is kept.

    Args:
        metric: its name.
        lower: whether less is better; as the metric's name tells when None.
    """

    metric: str
    lower: bool | None = None

    @classmethod
    def parse(cls, text: str) -> Best:
        """Read ``METRIC``, ``METRIC:lower`` or ``METRIC:higher``.

        Raises:
            InvalidInput: there is no metric (code ``bad-retention``).
        """
        metric, colon, way = text.rpartition(":")
        if colon and way in {"lower", "higher"}:
            lower: bool | None = way == "lower"
        else:
            metric, lower = text, None
        if not metric.strip():
            raise InvalidInput(
                f"{text!r} names no metric", code="bad-retention", hint="METRIC or METRIC:lower, such as loss:lower"
            )
        return cls(metric.strip(), lower)

    @property
    def less(self) -> bool:
        """Whether less is better."""
        return lower_is_better(self.metric) if self.lower is None else self.lower

    def __str__(self) -> str:
        return f"{'lowest' if self.less else 'highest'} {self.metric}"


@dataclass(frozen=True, slots=True)
class Rule:
    """What is kept of some models.

    Args:
        models: patterns of names; ``*`` stands for anything, slashes too.
        last: how many of the newest versions that are fit for use; 0 for none on that ground.
        younger: versions numbered within this time; None for none on that ground.
        aliased: versions that an alias points at. They are always kept; alone, this says: nothing else.
        best: versions that are best by a metric, on each dataset it was measured on.
        bases: versions that kept ones were made from.
        where: how messages call the rule.
    """

    models: tuple[str, ...] = ("*",)
    last: int = 0
    younger: timedelta | None = None
    aliased: bool = False
    best: tuple[Best, ...] = ()
    bases: bool = True
    where: str = "options"

    def about(self, name: str) -> bool:
        """Whether a model is among those it is about."""
        return any(fnmatchcase(name, pattern) for pattern in self.models)

    @property
    def keeps(self) -> list[str]:
        """What it keeps, in words."""
        found = [f"the last {self.last}"] if self.last else []
        found += [f"younger than {written(self.younger)}"] if self.younger is not None else []
        found += ["aliased"] if self.aliased else []
        return found + [str(best) for best in self.best]


@dataclass(frozen=True, slots=True)
class Facts:
    """What rules go by of one version.

    Args:
        version: which; neither removed nor purged.
        aliases: aliases that point at it.
        measured: its numbers by metric and dataset; the dataset is None where nobody named it.
        bases: artifacts that it was made from.
        unreadable: why some of that could not be read; None when all could.
    """

    version: Version
    aliases: Sequence[str] = ()
    measured: Mapping[tuple[str, str | None], float] = field(default_factory=dict)
    bases: frozenset[Digest] = frozenset()
    unreadable: str | None = None


@dataclass(frozen=True, slots=True)
class Ruling:
    """What the rules say about one version.

    Args:
        version: which.
        keep: whether it is kept.
        because: the grounds, in words; of one that goes, what its rules would have kept.
    """

    version: Version
    keep: bool
    because: tuple[str, ...]


def decide(facts: Iterable[Facts], rules: Sequence[Rule], *, now: datetime) -> list[Ruling]:
    """What rules say about the versions of a registry; those of models that no rule is about are left out.

    Args:
        facts: every version that is not gone.
        rules: all of them; what any keeps is kept.
        now: the time.
    """
    models: dict[str, list[Facts]] = {}
    for one in facts:
        models.setdefault(one.version.name, []).append(one)
    grounds: dict[str, list[str]] = {}
    ruled: list[tuple[Facts, list[Rule]]] = []
    for name, line in models.items():
        about = [rule for rule in rules if rule.about(name)]
        for one in line:
            grounds[one.version.reference] = _always(one) if about else ["no rule is about it"]
            ruled += [(one, about)] if about else []
        for rule in about:
            for reference, ground in _kept_by(rule, line, now):
                grounds[reference].append(ground)
    _keep_bases([one for line in models.values() for one in line], ruled, grounds)
    return [_ruling(one.version, grounds[one.version.reference], about) for one, about in ruled]


def _always(one: Facts) -> list[str]:
    found = [f"alias {alias}" for alias in one.aliases]
    if one.version.pinned is not None:
        found.append(f"pinned: {one.version.pinned}" if one.version.pinned else "pinned")
    if one.unreadable is not None:
        found.append(f"what is said of it cannot be read: {one.unreadable}")
    return found


def _kept_by(rule: Rule, line: Sequence[Facts], now: datetime) -> Iterable[tuple[str, str]]:
    """Versions of one model that a rule keeps, each with the ground."""
    newest = sorted((one.version for one in line), key=lambda version: version.number, reverse=True)
    for version in [found for found in newest if found.yanked is None][: rule.last]:
        yield version.reference, f"among the last {rule.last}"
    if rule.younger is not None:
        for version in newest:
            if version.created >= now - rule.younger:
                yield version.reference, f"younger than {written(rule.younger)}"
    for best in rule.best:
        yield from _best(best, line)


def _best(best: Best, line: Sequence[Facts]) -> Iterable[tuple[str, str]]:
    datasets = dict.fromkeys(key[1] for one in line for key in one.measured if key[0] == best.metric)
    if not datasets:
        for one in line:
            yield one.version.reference, f"no version has the metric {best.metric!r}: all are kept"
    fit = [one for one in line if one.version.yanked is None]
    for dataset in datasets:
        values = {
            one.version.reference: one.measured[best.metric, dataset]
            for one in fit
            if (best.metric, dataset) in one.measured
        }
        if values:
            value = min(values.values()) if best.less else max(values.values())
            on = f" on {dataset}" if dataset is not None else ""
            for reference, found in values.items():
                if found == value:
                    yield reference, f"{best}{on} ({value:g})"


def _keep_bases(
    every: Sequence[Facts], ruled: Sequence[tuple[Facts, list[Rule]]], grounds: dict[str, list[str]]
) -> None:
    """Keep what kept versions were made from, as far back as it goes."""
    kept_for: dict[Digest, list[str]] = {
        one.version.manifest: [] for one, about in ruled if any(rule.bases for rule in about)
    }
    for one, _ in ruled:
        if one.version.manifest in kept_for:
            kept_for[one.version.manifest].append(one.version.reference)
    waiting = [one for one in every if grounds[one.version.reference]]
    by_reference = {one.version.reference: one for one in every}
    while waiting:
        child = waiting.pop()
        for base in child.bases:
            for reference in kept_for.get(base, ()):
                if reference != child.version.reference:
                    if not grounds[reference]:
                        waiting.append(by_reference[reference])
                    grounds[reference].append(f"base of {child.version.reference}")


def _ruling(version: Version, grounds: Sequence[str], about: Sequence[Rule]) -> Ruling:
    if grounds:
        return Ruling(version, keep=True, because=tuple(dict.fromkeys(grounds)))
    kept = dict.fromkeys(what for rule in about for what in rule.keeps)
    return Ruling(version, keep=False, because=(f"kept are: {', '.join(kept)}",))


def duration(text: str) -> timedelta:
    """A time span as people write it.

    >>> duration("90d").days, duration("0").days
    (90, 0)

    Raises:
        InvalidInput: it is none (code ``bad-duration``).
    """
    found = _DURATION.fullmatch(text)
    if found is None and text != "0":
        raise InvalidInput(
            f"not a time span: {text!r:.60}", code="bad-duration", hint="a number and a unit: 30m, 24h, 90d or 2w"
        )
    return timedelta(**{_UNITS[found[2]]: int(found[1])}) if found else timedelta()


def written(span: timedelta) -> str:
    """A time span in words.

    >>> written(timedelta(days=90)), written(timedelta(hours=1)), written(timedelta(minutes=90))
    ('90 days', '1 hour', '90 minutes')
    """
    seconds = int(span.total_seconds())
    for unit, length in (("day", 86400), ("hour", 3600), ("minute", 60)):
        if seconds and seconds % length == 0:
            return f"{seconds // length} {unit}{'s' if seconds != length else ''}"
    return f"{seconds} second{'s' if seconds != 1 else ''}"


def read_rules(text: str, *, name: str) -> tuple[Rule, ...]:
    """The rules that a TOML document states.

    Args:
        text: the document.
        name: how messages call it: the file.

    Raises:
        InvalidInput: it is not TOML, or a rule is not one (code ``bad-retention``): a mistyped rule must not mean that
            something goes.
    """
    try:
        body: Mapping[str, Any] = tomllib.loads(text)
    except ValueError as error:
        raise _bad(name, f"is not TOML: {error}") from error
    rules = body.get("rule", [])
    unknown = sorted(set(body) - {"rule"})
    if unknown:
        _refuse(name, f"unknown key {unknown[0]!r}, expected [[rule]] tables")
    if not isinstance(rules, list) or not all(isinstance(rule, Mapping) for rule in rules):
        _refuse(name, "rules are written as [[rule]] tables")
    return tuple(_rule(f"{name}, rule {number}", rule) for number, rule in enumerate(rules, 1))


def _rule(where: str, body: Mapping[str, Any]) -> Rule:
    unknown = sorted(set(body) - _KEYS)
    if unknown:
        _refuse(where, f"unknown key {unknown[0]!r}, expected one of {', '.join(sorted(_KEYS))}")
    last, younger = body.get("keep_last", 0), body.get("keep_younger")
    if not isinstance(last, int) or isinstance(last, bool) or last < 0:
        _refuse(where, f"keep_last = {last!r:.40}, expected a number of versions")
    if younger is not None and not isinstance(younger, str):
        _refuse(where, f"keep_younger = {younger!r:.40}, expected a time span such as '90d'")
    flags = {key: body.get(key, key == "keep_bases") for key in ("keep_aliased", "keep_bases")}
    for key, value in flags.items():
        if not isinstance(value, bool):
            _refuse(where, f"{key} = {value!r:.40}, expected true or false")
    rule = Rule(
        models=_texts(where, "models", body.get("models", ["*"])),
        last=last,
        younger=None if younger is None else duration(younger),
        aliased=flags["keep_aliased"],
        best=tuple(Best.parse(text) for text in _texts(where, "keep_best", body.get("keep_best", []))),
        bases=flags["keep_bases"],
        where=where,
    )
    if not rule.keeps:
        _refuse(where, "keeps nothing: state keep_last, keep_younger, keep_best or keep_aliased")
    return rule


def _texts(where: str, key: str, value: object) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(text, str) and text for text in value):
        _refuse(where, f"{key} = {value!r:.60}, expected a list of texts")
    return tuple(value)


def _refuse(where: str, message: str) -> NoReturn:
    raise _bad(where, message)


def _bad(where: str, message: str) -> InvalidInput:
    return InvalidInput(
        f"retention rules {where}: {message}",
        code="bad-retention",
        hint="docs/spec/retention.md shows every line a rule can have; nothing was removed",
    )

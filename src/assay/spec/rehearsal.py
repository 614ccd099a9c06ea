"""Rehearsals as values: what was asked, what was seen in the clean environment, and what was made of it.

Written format: ``docs/spec/statements.md``, section "rehearsal".
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from assay.errors import InvalidInput
from assay.spec.example import Output
from assay.spec.json import Json

SCHEMA = 1
GIVEN = "given"
"""Source of an environment that nobody built for the rehearsal."""
_BYTES = {"b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "kib": 1 << 10, "mib": 1 << 20, "gib": 1 << 30}
_SECONDS = {"ms": 0.001, "s": 1.0, "min": 60.0}
MEASURES: Mapping[str, Mapping[str, float]] = {
    "load": _SECONDS,
    "import": _SECONDS,
    "rss": _BYTES,
    "size": _BYTES,
}
"""What a budget may bound, and the units it may be written in."""
_TERM = re.compile(
    r"(?P<name>[a-z]+)\s*(?P<sign><=?)\s*(?P<number>\d+(?:\.\d*)?|\.\d+)\s*(?P<unit>[A-Za-z]+)", re.ASCII
)


@dataclass(frozen=True, slots=True)
class Bound:
    """One line of a budget.

    Args:
        name: one of ``MEASURES``.
        most: seconds or bytes.
        inclusive: whether exactly that much is within.
        text: as it was written.
    """

    name: str
    most: float
    inclusive: bool
    text: str

    def holds(self, found: float) -> bool:
        """Whether *found* is within."""
        return found <= self.most if self.inclusive else found < self.most


def parse_budget(text: str) -> tuple[Bound, ...]:
    """A budget such as ``load<20s,rss<4GB,size<=500MB``.

    Raises:
        InvalidInput: it is not one (code ``bad-budget``).
    """
    bounds = []
    for term in text.split(","):
        found = _TERM.fullmatch(term.strip())
        units = MEASURES.get(found["name"]) if found else None
        factor = units.get(found["unit"].lower()) if units and found else None
        if found is None or factor is None:
            raise InvalidInput(
                f"not a budget: {term.strip()!r:.60}; expected a measure, < or <=, a number and its unit",
                code="bad-budget",
                hint='--budget "load<20s,import<5s,rss<4GB,size<500MB"',
            )
        bounds.append(Bound(found["name"], float(found["number"]) * factor, found["sign"] == "<=", term.strip()))
    return tuple(bounds)


@dataclass(frozen=True, slots=True)
class Place:
    """The environment that a rehearsal ran in.

    Args:
        python: version of the interpreter.
        source: where the requirements come from: ``environment``, ``description``, or ``given`` when nothing was built.
        builder: ``pip``, ``uv`` or empty when nothing was built, with its version.
        reused: whether an earlier rehearsal had built it.
        requirements: what was installed, exact where it was recorded (PEP 508).
        own: what was installed besides because Assay's loaders need it.
        seconds: that building took; 0 when reused or given.
        notes: what a person should know about it.
    """

    python: str
    source: str
    builder: str = ""
    reused: bool = False
    requirements: tuple[str, ...] = ()
    own: tuple[str, ...] = ()
    seconds: float = 0.0
    notes: tuple[str, ...] = ()

    @property
    def built(self) -> bool:
        """Whether it was built for this, not given as it is."""
        return self.source != GIVEN

    def to_json(self) -> dict[str, Json]:
        """The place as a JSON object."""
        return {
            "python": self.python,
            "built": self.built,
            "builder": self.builder,
            "reused": self.reused,
            "requirements": list(self.requirements),
            "loader_requirements": list(self.own),
            "source": self.source,
            "build_seconds": round(self.seconds, 3),
            "notes": list(self.notes),
        }


@dataclass(frozen=True, slots=True)
class Failure:
    """Why something did not go through in there.

    Args:
        kind: ``import`` (a module is not there), ``error`` (anything else that was raised), or ``ended`` (the process
            did not live to tell).
        message: one line.
        module: what could not be imported.
        during: ``load`` or the call.
    """

    kind: str
    message: str
    module: str = ""
    during: str = "load"


@dataclass(frozen=True, slots=True)
class Trial:
    """What was seen of one model in one environment.

    Args:
        place: the environment.
        isolation: what the sandbox enforced, as ``assay.sandbox.values.Isolation`` writes it.
        load_seconds: from the start of the process to the model being ready; None when it never was.
        import_seconds: of these, spent importing libraries.
        peak_memory: most bytes of memory the process had resident.
        outputs: what the calls of the example gave.
        failure: why it stopped.
        network: hosts that it wanted to reach, as ``host:port``.
    """

    place: Place
    isolation: Mapping[str, Json]
    load_seconds: float | None = None
    import_seconds: float | None = None
    peak_memory: int = 0
    outputs: tuple[Output, ...] = ()
    failure: Failure | None = None
    network: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Check:
    """One question of a rehearsal and its answer.

    Args:
        name: ``network``, ``dependencies``, ``load``, ``example:<call>`` or ``budget:<measure>``.
        passed: whether it went as it should.
        message: one sentence for people.
        expected, found: where there are two values to name.
    """

    name: str
    passed: bool
    message: str
    expected: Json = None
    found: Json = None

    def to_json(self) -> dict[str, Json]:
        """The check as a JSON object."""
        return {
            "name": self.name,
            "passed": self.passed,
            "message": self.message,
            "expected": self.expected,
            "found": self.found,
        }


@dataclass(frozen=True, slots=True)
class Rehearsal:
    """How a rehearsal went.

    Args:
        trial: what was seen.
        checks: what was asked of it.
        at: when, UTC; it makes every rehearsal a statement of its own, also one that went like an earlier one.
        size: bytes of the artifact.
        example: what the golden example was: calls, and numbers compared; None when there is none.
        budget: as it was written.
        tool: name and version of ours.
    """

    trial: Trial
    checks: tuple[Check, ...]
    at: datetime
    size: int
    example: Mapping[str, Json] | None = None
    budget: tuple[str, ...] = ()
    tool: Mapping[str, Json] = field(default_factory=dict)

    @property
    def passed(self) -> bool:
        """Whether every check did."""
        return all(check.passed for check in self.checks)

    def to_json(self) -> dict[str, Json]:
        """The predicate of a ``rehearsal`` statement."""
        trial, place = self.trial, self.trial.place
        return {
            "schema": SCHEMA,
            "at": self.at.strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
            "passed": self.passed,
            "load_seconds": _rounded(trial.load_seconds),
            "import_seconds": _rounded(trial.import_seconds),
            "peak_rss": trial.peak_memory,
            "size": self.size,
            "example": self.example,
            "python": place.python,
            "requirements": list(place.requirements),
            "environment": place.to_json(),
            "isolation": dict(trial.isolation),
            "network": list(trial.network),
            "checks": [check.to_json() for check in self.checks],
            "budget": list(self.budget),
            "tool": dict(self.tool),
        }


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 3)

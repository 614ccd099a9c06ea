"""Bisecting: a command or a function as the test of a version, and what the answer means."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from assay.errors import AssayError, CouldNot, IntegrityError, InvalidInput, NotFound, Refused, StorageError
from assay.ports.progress import SILENT, Progress
from assay.service.bisect import Found, Outcome, Result, Span, Step
from assay.service.browse import version_json
from assay.service.gate import Guard
from assay.service.registry import Registry
from assay.spec.changes import Comparison
from assay.spec.digest import Digest
from assay.spec.json import Json
from assay.spec.records import Version
from assay.wiring.trying import Trial, laid_out, run

ENVIRON = "ASSAY_BISECT"
"""How the variables begin that a command is given."""

_SKIP, _NOT_RUN, _ABORT = 125, (126, 127), 128
_UNTESTABLE = (NotFound, IntegrityError, Refused)
"""Why a version cannot be laid out, while others may."""


@dataclass(frozen=True, slots=True)
class Laying:
    """How versions are laid out for tests.

    Args:
        registry: where from.
        guard: the policies; a version that they do not let out is skipped.
        link: as for ``laid_out``.
        progress: hears about bytes written.
    """

    registry: Registry
    guard: Guard
    link: bool = False
    progress: Progress = SILENT

    def tested(self, version: Version, test: Callable[[Trial], Result]) -> Result:
        """What *test* says of a version; skipped when it cannot be laid out."""
        with ExitStack() as stack:
            try:
                laid = laid_out(self.registry, version, self.guard, link=self.link, progress=self.progress)
                trial = stack.enter_context(laid)
            except _UNTESTABLE as error:
                return Result(Outcome.SKIP, why=error.message)
            return test(trial)


class CommandTest:
    """A command as a test, with the exit statuses of ``git bisect run``.

    0 is good, 125 cannot be tested, 1 to 127 are bad otherwise; from 128 on, and when a signal ended it, the search is
    given up. 126 and 127 are also what shells say when they cannot run a program: when the first test ends so, the
    command is tried on the good end, too, and the search given up when it ends in the same way there.
    """

    def __init__(self, command: Sequence[str], laying: Laying, span: Span) -> None:
        self._command = command
        self._laying = laying
        self._span = span
        self._first = True

    def __call__(self, version: Version) -> Result:
        """Run it on a version.

        Raises:
            CouldNot: the search is to be given up (codes ``bisect-aborted``, ``command-not-started``).
        """
        first, self._first = self._first, False
        tested = self._laying.tested(version, self._run)
        if first and tested.status in _NOT_RUN:
            self._check_good_end(tested.status)
        return tested

    def _run(self, trial: Trial) -> Result:
        status = run(trial.arguments(self._command), trial.environ(ENVIRON))
        if status < 0 or status >= _ABORT:
            ended = f"was ended by {_signal(-status)}" if status < 0 else f"exited with {status}"
            raise CouldNot(
                f"bisecting {trial.version.name} was given up: the command {ended} on {trial.version.reference}",
                code="bisect-aborted",
                hint="0 is good, 125 cannot be tested, 1 to 127 otherwise bad",
            )
        if status == _SKIP:
            return Result(Outcome.SKIP, status, why="the command exited with 125", ran=True)
        return Result(Outcome.BAD if status else Outcome.GOOD, status, ran=True)

    def _check_good_end(self, status: int) -> None:
        good = self._span.good
        if not good.gone and self._laying.tested(good, self._run).status == status:
            raise CouldNot(
                f"bisecting {good.name} was given up: the command also exits with {status} on {good.reference}, "
                "which is given as good",
                code="bisect-aborted",
                hint="shells exit so when they cannot run a program: try the command by hand",
            )


class FunctionTest:
    """A Python function as a test: true for good, false for bad, None when it cannot be tested.

    Args:
        test: called with the folder of a version's files, or with its reference.
        laying: how versions are laid out; None when the reference is what the function wants.
    """

    def __init__(self, test: Callable[[Path], bool | None] | Callable[[str], bool | None], laying: Laying | None):
        self._test: Callable[..., bool | None] = test
        self._laying = laying

    def __call__(self, version: Version) -> Result:
        """Ask it about a version."""
        if self._laying is None:
            return _said(self._test(version.reference))
        return self._laying.tested(version, lambda trial: _said(self._test(trial.folder)))


def _said(answer: object) -> Result:
    if answer is None:
        return Result(Outcome.SKIP, why="the test could not tell", ran=True)
    return Result(Outcome.GOOD if answer else Outcome.BAD, ran=True)


@dataclass(frozen=True, slots=True)
class Explained:
    """An answer, and what changed there.

    Args:
        found: the answer.
        comparison: what changed from the version before to the first one (to the last candidate where several
            are); None when it cannot be told.
        unexplained: why it cannot.
    """

    found: Found
    comparison: Comparison | None = None
    unexplained: str | None = None

    def to_json(self) -> dict[str, Json]:
        """As ``assay bisect --json`` prints it: ``docs/reference/json.md``."""
        found = self.found
        first = found.first
        return {
            "name": found.span.good.name,
            "good": found.span.good.number,
            "bad": found.span.bad.number,
            "seeking": found.span.seeking.value,
            "found": None if first is None else version_json(first, []),
            "before": found.before.reference,
            "candidates": [version.reference for version in found.candidates],
            "tests": found.tests,
            "steps": [step_json(step) for step in found.steps],
            "again": [version.reference for version in found.again],
            "notes": list(found.notes),
            "comparison": None if self.comparison is None else _comparison_json(self.comparison),
            "unexplained": self.unexplained,
        }


def explain(found: Found, compare: Callable[[Version, Version], Comparison]) -> Explained:
    """What changed where the answer lies."""
    after = found.candidates[-1]
    for version in (found.before, after):
        if version.gone:
            return Explained(found, unexplained=f"the bytes of {version.reference} are not kept any more")
    try:
        return Explained(found, compare(found.before, after))
    except AssayError as error:
        return Explained(found, unexplained=error.message)


def step_json(step: Step) -> dict[str, Json]:
    """One step, as it is printed and logged."""
    return {
        "name": step.version.name,
        "version": step.version.number,
        "digest": str(step.version.manifest),
        "outcome": step.tested.outcome.value,
        "status": step.tested.status,
        "value": step.tested.value,
        "why": step.tested.why,
    }


def replayed(test: Callable[[Version], Result], log: Mapping[str, Result]) -> Callable[[Version], Result]:
    """*test*, asked only about versions that a log says nothing of."""
    return lambda version: log.get(str(version.manifest)) or test(version)


def read_log(file: Path) -> dict[str, Result]:
    """Digests of versions to what an earlier search found of them; the last word counts.

    Raises:
        NotFound: there is no such file (code ``path-not-found``).
        InvalidInput: it is not a log of a search (code ``bad-bisect-log``).
    """
    try:
        lines = file.read_text("utf-8").splitlines()
    except FileNotFoundError:
        raise NotFound(f"no such file: {file}", code="path-not-found") from None
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput(f"{file} cannot be read: {error}", code="bad-bisect-log") from error
    found = {}
    for number, line in enumerate(lines, 1):
        try:
            body = json.loads(line)
            found[str(Digest.parse(body["digest"]))] = _replayed(body)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError, InvalidInput) as error:
            raise InvalidInput(
                f"{file}, line {number}: not a step of assay bisect --log", code="bad-bisect-log"
            ) from error
    return found


def _replayed(body: Mapping[str, Json]) -> Result:
    status, why = body["status"], body["why"]
    if isinstance(status, bool) or not isinstance(status, int | None) or not isinstance(why, str | None):
        raise TypeError("status is a whole number and why is text, or null")
    return Result(Outcome(str(body["outcome"])), status, why=why)


def write_log(file: Path, step: Step) -> None:
    """Append a step to a log.

    Raises:
        StorageError: it cannot be written.
    """
    try:
        with file.open("a", encoding="utf-8") as log:
            log.write(json.dumps(step_json(step), ensure_ascii=False) + "\n")
    except OSError as error:
        raise StorageError.of(error, f"cannot write the log {file}") from error


def _comparison_json(comparison: Comparison) -> dict[str, Json]:
    return {
        "old": comparison.old.label,
        "new": comparison.new.label,
        "kinship": comparison.kinship.value,
        "summary": list(comparison.summary),
        "states": {state.value: count for state, count in comparison.states.items()},
        "drop_in": {"answer": comparison.drop_in.answer.value, "reasons": list(comparison.drop_in.reasons)},
    }


def _signal(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"

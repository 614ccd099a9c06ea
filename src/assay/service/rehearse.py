"""Rehearse: would this version load on a clean machine, and would it answer as it did when it was pushed?

The gate in front of loading applies as for ``load``. What happens behind it, in another environment and another
process, is the rehearser's; this use case asks the questions, judges the answers, and keeps the outcome beside the
version, whichever it is.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from assay.later import later
from assay.policy.policy import Gate
from assay.ports.rehearsal import Model, Needs, Rehearser
from assay.service.examine import inspect
from assay.service.gate import Guard
from assay.service.registry import Registry
from assay.service.snapshots import snapshot
from assay.spec.digest import Digest
from assay.spec.example import ANY, Example, Tolerance
from assay.spec.inspection import Inspection
from assay.spec.json import Json
from assay.spec.records import Version
from assay.spec.rehearsal import Bound, Check, Failure, Rehearsal, Trial
from assay.spec.statement import Statement

if TYPE_CHECKING:
    from assay.compare import outputs
    from assay.compare.outputs import Compared
else:
    outputs = later("assay.compare.outputs")

_UNITS: Mapping[str, tuple[str, str]] = {
    "load": ("loading took", "s"),
    "import": ("importing took", "s"),
    "rss": ("memory peaked at", "B"),
    "size": ("the files have", "B"),
}


@dataclass(frozen=True, slots=True)
class Asked:
    """What a rehearsal is to find out.

    Args:
        budget: bounds that turn measures into a yes or no.
        tolerance: instead of the one recorded with the example.
        record: whether to attach the outcome as a statement.
        tool: name and version of ours, for the record.
        told: hears what is going on.
    """

    budget: Sequence[Bound] = ()
    tolerance: Tolerance | None = None
    record: bool = True
    tool: Mapping[str, Json] = field(default_factory=dict)
    told: Callable[[str], None] = lambda _: None


def rehearse(
    registry: Registry, version: Version, *, guard: Guard, rehearser: Rehearser, snapshots: Path, asked: Asked
) -> Rehearsal:
    """Load a version in a clean environment and run its golden example.

    Args:
        registry: where it is.
        version: which one.
        guard: what to understand it with, and the policies.
        rehearser: makes the environment and runs it there.
        snapshots: folder for shared snapshots, on the store's file system.
        asked: what to find out.

    Returns:
        The outcome, passed or not; it is attached to the version when *asked* says so.

    Raises:
        Refused: the policies do not let it be loaded (codes ``not-safe``, ``not-signed``).
        CouldNot: the environment cannot be built or isolated; nothing was run and nothing recorded.
        NotFound: bytes are missing or purged.
        InvalidInput: the recorded example is none (code ``bad-example``).
    """
    manifest = registry.manifest(version)
    guard.admit_signed(Gate.LOAD, registry, version)
    tree = registry.tree(manifest)
    inspection = inspect(tree, guard.auditing().formats)
    _, decision = guard.judge(tree, inspection, subject=str(manifest.digest))
    guard.admit(Gate.LOAD, decision, version.reference)
    example = recorded_example(registry, version.manifest)
    if example is not None and asked.tolerance is not None:
        example = replace(example, tolerance={ANY: asked.tolerance})
    needs = Needs(
        version.reference,
        _newest(registry, version.manifest, "environment"),
        _described(inspection),
        example.modules if example else (),
    )
    paths = [entry.path for entry in manifest.entries()]
    with snapshot(registry.blobs, manifest, snapshots) as folder:
        behind = [(folder / path).resolve() for path in paths if (folder / path).is_symlink()]
        model = Model(version.reference, folder, paths, behind, sorted(guard.globals), example)
        trial = rehearser.rehearse(needs, model, told=asked.told)
    compared = _compared(example, trial)
    checks = (
        *_checks(trial),
        *(_example_checks(example, trial, compared) if example else ()),
        *(_budget_check(bound, trial, manifest.size) for bound in asked.budget),
    )
    now = datetime.now(UTC)
    outcome = Rehearsal(
        trial=trial,
        checks=checks,
        at=now,
        size=manifest.size,
        example=_summary(example, compared) if example else None,
        budget=tuple(bound.text for bound in asked.budget),
        tool=asked.tool,
    )
    if asked.record:
        created = now.replace(microsecond=0)
        registry.attach(Statement(manifest.digest, "rehearsal", outcome.to_json(), created), manifest)
    return outcome


def recorded_example(registry: Registry, subject: Digest) -> Example | None:
    """The newest golden example that was recorded, if any.

    Raises:
        InvalidInput: the statement is not one (code ``bad-example``).
    """
    found = _newest(registry, subject, "example")
    return Example.parse(found) if found is not None else None


def _newest(registry: Registry, subject: Digest, kind: str) -> Mapping[str, Json] | None:
    said = registry.statements(subject, kind)
    return said[-1].predicate if said else None


def _described(inspection: Inspection) -> list[str]:
    """Distributions that the leading model's files name; those of all when the leading one names none."""
    leading = inspection.leading
    chosen = [leading] if leading is not None and leading.requirements else inspection.descriptions
    return list(dict.fromkeys(text for found in chosen for text in found.requirements))


def _checks(trial: Trial) -> Iterator[Check]:
    """Network, dependencies and loading: of a process that ended before it loaded, nobody knows the first two."""
    failure = trial.failure
    unknown = failure is not None and failure.kind == "ended" and trial.load_seconds is None
    if trial.network:
        named = ", ".join(trial.network[:3])
        yield _no("network", f"the model wanted the network: {named}", [], list(trial.network))
    elif not unknown:
        yield _yes("network", "it did not want the network")
    if failure is not None and failure.kind == "import":
        yield _no("dependencies", _missing(failure, trial), None, failure.module or None)
    elif not unknown:
        yield _yes("dependencies", "everything it imports is there")
    if trial.load_seconds is not None:
        importing = trial.import_seconds or 0.0
        yield _yes("load", f"it loads in {trial.load_seconds:.2f} s, {importing:.2f} s of it importing")
    else:
        said = failure.message if failure is not None else "nothing is known of it"
        yield _no("load", f"it does not load: {said}")


def _yes(name: str, message: str) -> Check:
    return Check(name, passed=True, message=message)


def _no(name: str, message: str, expected: Json = None, found: Json = None) -> Check:
    return Check(name, passed=False, message=message, expected=expected, found=found)


def _missing(failure: Failure, trial: Trial) -> str:
    module = failure.module.partition(".")[0] or "a library"
    if not trial.place.built:
        return f"needs {module}, which is not in the environment that was given: {failure.message}"
    named = {text.partition("==")[0].partition("[")[0].replace("-", "_").lower() for text in trial.place.requirements}
    if module.lower() in named:
        return f"needs {module}, which is installed and cannot be imported: {failure.message}"
    return f"needs {module}, which is not in its requirements: import {failure.module or module} failed"


def _compared(example: Example | None, trial: Trial) -> list[tuple[str, Compared]]:
    """Call and comparison, for everything that was answered."""
    if example is None:
        return []
    return [
        (found.call or "call", one)
        for expected, found in zip(example.outputs, trial.outputs, strict=False)
        for one in outputs.compare_outputs(expected.value, found.value, example.allowed)
    ]


def _example_checks(example: Example, trial: Trial, compared: Sequence[tuple[str, Compared]]) -> Iterator[Check]:
    for call in dict.fromkeys(call for call, _ in compared):
        parts = [one for name, one in compared if name == call]
        wrong = next((one for one in parts if one.problem), None)
        if wrong is not None:
            message = f"{call}{wrong.name} differs: {wrong.problem}"
            yield _no(f"example:{call}", message, wrong.expected, wrong.found)
        else:
            count = sum(one.count for one in parts)
            most = max((one.max_absolute for one in parts), default=0.0)
            apart = f"at most {most:.2g} apart" if most else "all equal"
            yield _yes(f"example:{call}", f"{call} answers as recorded: {count:,} values, {apart}")
    if len(trial.outputs) < len(example.outputs):
        call = example.outputs[len(trial.outputs)].call or "call"
        during = trial.failure is not None and trial.failure.during == "example"
        why = trial.failure.message if during and trial.failure else "it was not asked"
        yield _no(f"example:{call}", f"the example was not answered: {why}")


def _budget_check(bound: Bound, trial: Trial, size: int) -> Check:
    measures: Mapping[str, float | None] = {
        "load": trial.load_seconds,
        "import": trial.import_seconds,
        "rss": trial.peak_memory or None,
        "size": size,
    }
    found = measures[bound.name]
    words, unit = _UNITS[bound.name]
    if found is None:
        return _no(f"budget:{bound.name}", f"over budget: {bound.text} was not measured", bound.text)
    said = f"{words} {found:.2f} s" if unit == "s" else f"{words} {int(found):,} bytes"
    within = bound.holds(found)
    message = f"{said}, within {bound.text}" if within else f"over budget: {said}, asked for {bound.text}"
    return Check(f"budget:{bound.name}", within, message, bound.text, round(found, 3))


def _summary(example: Example, compared: Sequence[tuple[str, Compared]]) -> Mapping[str, Json]:
    """What the record says about the example."""
    return {
        "source": "captured" if example.captured else "given",
        "calls": list(dict.fromkeys(call for call, _ in compared)),
        "compared": sum(one.count for _, one in compared),
        "max_absolute": _finite(max((one.max_absolute for _, one in compared), default=0.0)),
        "max_relative": _finite(max((one.max_relative for _, one in compared), default=0.0)),
        "tolerance": {name: allowed.to_json() for name, allowed in example.tolerance.items()},
    }


def _finite(number: float) -> float | None:
    return number if math.isfinite(number) else None

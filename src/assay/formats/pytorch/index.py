"""From found tensors to the tensor index: names, extents, sharing, counts, and what does not fit.

Concept: a state dict may show one storage under many names (tied weights, views), a view may reach beyond its storage,
a storage may not be there. Here the pickle's claims meet the bytes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field

from assay.formats.pytorch.saved import Saved, stated_size_differs
from assay.formats.pytorch.state import Found, Located, Role
from assay.spec.finding import Finding, Severity
from assay.spec.json import Json
from assay.spec.tensor import TensorSpec

MAX_EQUAL_FINDINGS = 20
"""Findings of one rule that are written out; the rest is counted."""

_MAX_GROUPS = 50
# Groups of tensors sharing a storage that metadata lists.


@dataclass(slots=True)
class Index:
    """The tensors of one or more files.

    Args:
        specs: one per name.
        trained: elements of the model's parameters, tied ones counted once.
        findings: what does not fit.
        facts: counts and sharing, for metadata.
    """

    specs: list[TensorSpec] = field(default_factory=list)
    trained: int = 0
    findings: list[Finding] = field(default_factory=list)
    facts: dict[str, Json] = field(default_factory=dict)


def build_index(parts: Sequence[tuple[Saved, Found]]) -> Index:
    """The tensor index of files that together hold one object (shards) or of a single file.

    A name that two shards hold is kept once, the first, and reported.
    """
    index = Index()
    seen: set[str] = set()
    groups: dict[Hashable, list[tuple[Hashable, str]]] = {}
    counted: set[Hashable] = set()
    roles: dict[Role, list[int]] = {}
    devices: Counter[str] = Counter()
    for number, (saved, found) in enumerate(parts):
        _check_walk(index, saved, found)
        _check_storages(index, saved, found)
        for located in found.tensors:
            if located.name in seen:
                _say(index, "pytorch-duplicate-tensor", Severity.MISLEAD, f"two shards hold {located.name!r}", saved)
                continue
            seen.add(located.name)
            _check_tensor(index, saved, located)
            spec = saved.spec(located.name, located.tensor)
            index.specs.append(spec)
            identity = _identity(number, located)
            if located.tensor.storage is not None and located.tensor.size:
                groups.setdefault(identity[:2], []).append((identity, located.name))
            if located.tensor.storage is not None:
                devices[located.tensor.storage.device] += 1
            tally = roles.setdefault(located.role, [0, 0])
            tally[0] += 1
            tally[1] += located.tensor.size
            if located.role is Role.MODEL and not located.buffer and spec.trained and identity not in counted:
                counted.add(identity)
                index.trained += _stored_elements(located)
    _facts(index, groups, roles, devices)
    _fold(index)
    return index


def _identity(number: int, located: Located) -> tuple[Hashable, ...]:
    # Storage keys are unique within one pickle only: weights and constants of one TorchScript archive both start at 0.
    tensor = located.tensor
    if tensor.storage is None:
        return (number, None, located.name)
    return (number, tensor.storage.key, tensor.offset, tensor.shape, tensor.strides, tensor.dtype)


def _stored_elements(located: Located) -> int:
    if located.tensor.kind == "sparse":
        return located.tensor.parts[-1][1].size
    return located.tensor.size


def _check_walk(index: Index, saved: Saved, found: Found) -> None:
    for name, reason in found.malformed:
        _say(index, "pytorch-malformed-tensor", Severity.INCOMPLETE, f"{reason} ({name or 'the object'})", saved)
    if found.truncated:
        message = f"the object was not walked to its end: {found.truncated}"
        _say(index, "pytorch-truncated-walk", Severity.INCOMPLETE, message, saved)


def _check_tensor(index: Index, saved: Saved, located: Located) -> None:
    problem = saved.problem(located.tensor)
    if problem:
        missing, message = problem
        rule = "pytorch-missing-storage" if missing else "pytorch-view-outside"
        severity = Severity.INCOMPLETE if missing else Severity.MISLEAD
        _say(index, rule, severity, message, saved, located.name)
    if located.tensor.kind == "meta":
        _say(index, "pytorch-no-data", Severity.NOTE, "a tensor was saved without its numbers", saved, located.name)
    if located.tensor.lazy:
        lazy = ", ".join(located.tensor.lazy)[:60]
        message = f"the stored elements are not the tensor's: torch applies {lazy} when it loads them"
        _say(index, "pytorch-lazy-elements", Severity.NOTE, message, saved, located.name)


def _check_storages(index: Index, saved: Saved, found: Found) -> None:
    checked: set[str] = set()
    for located in found.tensors:
        storage = located.tensor.storage
        if storage is None or storage.key in checked:
            continue
        checked.add(storage.key)
        record = saved.records.find(storage.key)
        if record is not None and stated_size_differs(storage, record):
            message = (
                f"storage {storage.key[:60]!r} should have {storage.nbytes:,} bytes, its record has {record.size:,}"
            )
            _say(index, "pytorch-storage-size", Severity.MISLEAD, message, saved)


def _facts(
    index: Index,
    groups: dict[Hashable, list[tuple[Hashable, str]]],
    roles: dict[Role, list[int]],
    devices: Counter[str],
) -> None:
    tied: list[Json] = []
    shared: list[Json] = []
    for members in groups.values():
        if len(members) < 2:
            continue
        names: list[Json] = [name for _, name in members[:20]]
        same = len({identity for identity, _ in members}) == 1
        (tied if same else shared).append(names)
    if tied:
        index.facts["tied_tensors"] = tied[:_MAX_GROUPS]
    if shared:
        index.facts["shared_storages"] = shared[:_MAX_GROUPS]
    if groups:
        index.facts["storages"] = len(groups)
    if len(roles) > 1 or any(role is not Role.MODEL for role in roles):
        index.facts["tensor_roles"] = {
            role.value: {"tensors": tally[0], "elements": tally[1]} for role, tally in roles.items()
        }
    known = sorted(device[:40] for device in devices if device)
    if known and known != ["cpu"]:
        index.facts["saved_from_devices"] = known[:16]


def _say(index: Index, rule: str, severity: Severity, message: str, saved: Saved, evidence: str = "") -> None:
    index.findings.append(Finding(rule, severity, message[:400], saved.path, None, evidence[:200]))


def _fold(index: Index) -> None:
    """Keep the first few findings of each rule and count the rest in one more."""
    counts = Counter(finding.rule for finding in index.findings)
    kept: Counter[str] = Counter()
    folded: list[Finding] = []
    for finding in index.findings:
        kept[finding.rule] += 1
        if kept[finding.rule] < MAX_EQUAL_FINDINGS or counts[finding.rule] <= MAX_EQUAL_FINDINGS:
            folded.append(finding)
        elif kept[finding.rule] == MAX_EQUAL_FINDINGS:
            rest = counts[finding.rule] - MAX_EQUAL_FINDINGS + 1
            folded.append(Finding(finding.rule, finding.severity, f"{rest:,} more like the previous", finding.path))
    index.findings = folded

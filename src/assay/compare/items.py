"""Everything that is not a tensor: settings, tokenizer, graph, dependencies, what is said, files."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from posixpath import basename, splitext

from assay.compare.covered import holds_tensors_alone
from assay.compare.described import compare_descriptions
from assay.compare.estimators import compare_forms
from assay.compare.gathering import Gathered, Judgement, examples
from assay.compare.pairing import Pairs, pair
from assay.compare.roles import area_of, decided, is_tokenizer
from assay.compare.said import compare_said
from assay.compare.sides import Compared, Options
from assay.compare.tokenizers import alone
from assay.compare.within import compare_files
from assay.errors import AssayError
from assay.spec.changes import Area, Effect, Item, ItemKind
from assay.spec.finding import Finding, Severity
from assay.spec.tensor import ELEMENT_BITS

CARRYING = frozenset({"safetensors", "pytorch", "npz"})
"""Formats that can hold tensors and nothing else: one can take another's place."""
_BARE = frozenset({"state dict", "tensor", "tensors"})
"""What torch saved, where it is tensors and nothing else."""
FOLDERS = frozenset({"transformers", "sentence-transformers", "diffusers", "peft", "mlflow"})
"""Formats that say what a folder of files of other formats means."""
_HARM = frozenset({Severity.EXHAUST, Severity.READ, Severity.NETWORK, Severity.WRITE, Severity.EXECUTE})
CALLED, RENAMED = "called differently", "renamed"
"""How it is told that files belong together under two names, and that they hold the same bytes."""
_NAME = Judgement(Area.FILES, Effect.NOTE, "the same bytes under another name; a single file is known by its content")
_MOVED = Judgement(Area.FILES, Effect.BEHAVIOUR, "programs look for files by name")
_CALLED = Judgement(Area.FILES, Effect.NOTE, "a single file is known by its content")
_UNKNOWN = "not understood: no format covers it"


def compare_items(old: Compared, new: Compared, options: Options) -> tuple[Sequence[Item], Sequence[Finding]]:
    """Every difference beside tensors, most important area first, and what could not be compared."""
    gathered = Gathered()
    pairs = pair(old, new)
    for path, other in pairs.changed:
        if path != other:
            single = _single(old, new) or basename(path) == basename(other)
            gathered.add(_CALLED if single else _MOVED, other, ItemKind.CHANGED, path, other, CALLED)
        _guarded(gathered, old, path, new, other)
    _renamed(gathered, pairs, old, new)
    _alone(gathered, pairs, old, new)
    if pairs.changed or pairs.removed or pairs.added or pairs.renamed:
        compare_descriptions(gathered, old, new)
        _sizes(gathered, old, new)
    compare_said(gathered, old, new)
    if (
        options.audit
        and old.audit is not None
        and new.audit is not None
        and (pairs.changed or pairs.added or pairs.removed)
    ):
        _audits(gathered, old, new)
    return in_order(_merged(gathered.items)), tuple(gathered.findings)


def _guarded(gathered: Gathered, old: Compared, path: str, new: Compared, other: str) -> None:
    try:
        compare_files(gathered, old, path, new, other)
    except AssayError as error:
        gathered.unread(other, error.message)


def _single(old: Compared, new: Compared) -> bool:
    """Whether both sides are one file, data beside a graph aside."""
    return all(sum(_data(side, path) is None for path in side.tree.paths) == 1 for side in (old, new))


def _renamed(gathered: Gathered, pairs: Pairs, old: Compared, new: Compared) -> None:
    for path, other in pairs.renamed:
        harmless = _single(old, new) or (decided(path) is not None and decided(other) is not None)
        gathered.add(_NAME if harmless else _MOVED, other, ItemKind.CHANGED, path, other, RENAMED)


def _alone(gathered: Gathered, pairs: Pairs, old: Compared, new: Compared) -> None:
    """Files of one side only: a change of format where weights go and come, else file by file."""
    gone, come = _weights(old, pairs.removed), _weights(new, pairs.added)
    if gone and come:
        carrying = _carry(old, set(gone)) and _carry(new, set(come))
        if len(gone) != 1 or len(come) != 1 or not _forms(gathered, old, gone, new, come):
            _format(gathered, gone, come, carrying=carrying)
    else:
        gone, come = {}, {}
    for kind, side, paths, told in (
        (ItemKind.REMOVED, old, pairs.removed, gone),
        (ItemKind.ADDED, new, pairs.added, come),
    ):
        for path in paths:
            if path in told:
                continue
            if is_tokenizer(path):
                alone(gathered, path, kind, old.tree, new.tree)
                continue
            known = (
                decided(path)
                or _sharding(path)
                or _data(side, path)
                or Judgement(area_of(path), Effect.BEHAVIOUR, _why(side, path))
            )
            size = side.tree.size(path)
            was, now = (size, None) if kind is ItemKind.REMOVED else (None, size)
            gathered.add(known, path, kind, was, now)


def _weights(side: Compared, paths: Sequence[str]) -> dict[str, str]:
    """The paths among *paths* whose content is a model's, to the format that says so."""
    found: dict[str, str] = {}
    for description in side.inspection.descriptions:
        own = [path for path in description.paths if path in paths]
        if description.format not in FOLDERS:
            found.update((path, description.format) for path in own if path not in found)
    return found


def _forms(gathered: Gathered, old: Compared, gone: dict[str, str], new: Compared, come: dict[str, str]) -> bool:
    """Whether the one file that went and the one that came are one object in two forms, compared part by part."""
    return compare_forms(gathered, (old, *next(iter(gone.items()))), (new, *next(iter(come.items()))))


def _carry(side: Compared, paths: set[str]) -> bool:
    """Whether files hold tensors of plain numbers and nothing else that could be lost with them."""
    for found in side.inspection.descriptions:
        if not paths.intersection(found.paths) or found.format not in CARRYING:
            if paths.intersection(found.paths) and found.format not in FOLDERS:
                return False
            continue
        bare = found.format != "pytorch" or found.metadata.get("kind") in _BARE
        if not bare or not found.complete or any(spec.dtype not in ELEMENT_BITS for spec in found.tensors):
            return False
    return True


def _format(gathered: Gathered, gone: dict[str, str], come: dict[str, str], *, carrying: bool) -> None:
    """Weights in other files: a note where both kinds of file hold tensors and nothing else."""
    before, after = sorted(set(gone.values())), sorted(set(come.values()))
    if carrying:
        judged = Judgement(Area.FORMAT, Effect.NOTE, "another container of tensors, which are compared one by one")
    elif before == after:
        judged = Judgement(Area.FORMAT, Effect.BEHAVIOUR, "other files of one format, which are not paired")
    else:
        why = "what one format says beside tensors is not compared with what another says"
        judged = Judgement(Area.FORMAT, Effect.BEHAVIOUR, why)
    text = f"{examples(sorted(gone))} → {examples(sorted(come))}"
    gathered.add(judged, "format", ItemKind.CHANGED, ", ".join(before), ", ".join(after), text)


def _sharding(path: str) -> Judgement | None:
    """An index of shards comes and goes with them."""
    if path.endswith((".safetensors.index.json", ".bin.index.json")):
        return Judgement(Area.FORMAT, Effect.NOTE, "which file holds a tensor, not what it holds")
    return None


def _data(side: Compared, path: str) -> Judgement | None:
    """Data beside a graph, which may as well stand in it."""
    graph = any(found.format == "onnx" and path in found.paths for found in side.inspection.descriptions)
    if graph and not path.endswith(".onnx") and holds_tensors_alone(side, path):
        return Judgement(Area.FORMAT, Effect.NOTE, "tensors beside their graph, which are compared one by one")
    return None


def _why(side: Compared, path: str) -> str | None:
    return _UNKNOWN if path in side.inspection.unknown and area_of(path) is Area.FILES else None


def _sizes(gathered: Gathered, old: Compared, new: Compared) -> None:
    before, after = (sum(side.inspection.sizes.values()) for side in (old, new))
    if before != after:
        judged = Judgement(Area.FILES, Effect.NOTE, "a size follows from the content")
        share = f", {(after - before) / before:+.1%}" if before else ""
        gathered.add(judged, "size", ItemKind.CHANGED, before, after, f"{after - before:+,} bytes{share}")


def _audits(gathered: Gathered, old: Compared, new: Compared) -> None:
    """Findings gained and lost, by rule, place and evidence."""
    assert old.audit is not None
    assert new.audit is not None
    before, after = old.audit(), new.audit()
    had, has = (Counter(map(_finding_key, report.findings)) for report in (before, after))
    for report, counts, kind in ((before, had - has, ItemKind.REMOVED), (after, has - had, ItemKind.ADDED)):
        for finding in report.findings:
            key = _finding_key(finding)
            if counts[key] <= 0:
                continue
            counts[key] = 0
            harm = finding.severity in _HARM and kind is ItemKind.ADDED
            why = (
                "loading it can do what it could not before"
                if harm
                else "what an audit found; the rest is told by content"
            )
            said = f"{finding.severity.value}: {finding.message}"
            judged = Judgement(Area.AUDIT, Effect.BEHAVIOUR if harm else Effect.NOTE, why)
            path = f"{finding.rule}: {finding.path}" if finding.path else finding.rule
            gathered.add(
                judged, path, kind, said if kind is ItemKind.REMOVED else None, said if kind is ItemKind.ADDED else None
            )


def _finding_key(finding: Finding) -> tuple[str, str, str, str]:
    """What makes two findings one: a file counts by its ending, for names change from version to version."""
    return finding.rule, finding.severity.value, splitext(finding.path)[1], finding.evidence


def _merged(items: Sequence[Item]) -> list[Item]:
    """Items that say the same of many places of one file as one: a version stamped on every part of a model."""
    groups: dict[tuple[object, ...], list[Item]] = {}
    for item in items:
        file, _, inside = item.path.partition(": ")
        last = inside.rpartition(".")[2]
        alike = inside and item.text is None
        key = (file, last, item.area, item.kind, repr(item.old), repr(item.new), item.why) if alike else (id(item),)
        groups.setdefault(key, []).append(item)
    return [
        group[0]
        if len(group) == 1
        else replace(min(group, key=lambda one: len(one.path)), text=f"in {len(group):,} places")
        for group in groups.values()
    ]


def in_order(items: Sequence[Item]) -> tuple[Item, ...]:
    """By area, what can change behaviour first."""
    order = {area: at for at, area in enumerate(Area)}
    effects = {Effect.BEHAVIOUR: 0, Effect.NOTE: 1}
    return tuple(sorted(items, key=lambda item: (order[item.area], effects[item.effect])))

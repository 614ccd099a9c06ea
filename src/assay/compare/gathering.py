"""Where differences are gathered: one list, bounded per file, with long series of like changes rolled into one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from assay.compare.values import Change, address, shown
from assay.containers.pickle.values import plain as plain_key
from assay.spec.changes import Area, Effect, Item, ItemKind
from assay.spec.finding import Finding, Severity

NOT_UNDERSTOOD = "not understood"
"""How the reason begins of what differs and was not read to its end."""
MAX_ITEMS = 60
"""Items of one judgement told of one file; what is beyond is counted."""
SERIES = 8
"""Changes below one place beyond which they are told as one."""
SERIES_AT_THE_TOP = 40
"""The same at the top of a document, where each has a name that people know."""
EXAMPLES = 5


@dataclass(frozen=True, slots=True)
class Judgement:
    """What a change is about and what it can do.

    Args:
        area: what it is about.
        effect: whether it can change behaviour.
        why: why it has that effect, where that is not obvious.
    """

    area: Area
    effect: Effect = Effect.BEHAVIOUR
    why: str | None = None


Judge = Callable[[Change], Judgement]


@dataclass(slots=True)
class Gathered:
    """Differences found so far."""

    items: list[Item] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)

    def add(
        self,
        judged: Judgement,
        path: str,
        kind: ItemKind,
        old: object = None,
        new: object = None,
        text: str | None = None,
    ) -> None:
        """Note one difference."""
        self.items.append(
            Item(
                area=judged.area,
                path=path,
                kind=kind,
                old=shown(old),
                new=shown(new),
                effect=judged.effect,
                text=text,
                why=judged.why,
            )
        )

    def unread(self, path: str, reason: str, area: Area = Area.FILES) -> None:
        """Note that a file differs and that what differs in it could not be told."""
        self.findings.append(Finding("diff-unread", Severity.INCOMPLETE, f"not compared to its end: {reason}", path))
        why = f"{NOT_UNDERSTOOD}: {reason}"
        self.add(Judgement(area, Effect.BEHAVIOUR, why), path, ItemKind.CHANGED, text="the content differs")

    def changes(self, place: str, found: Sequence[Change], judge: Judge, *, cut: bool = False) -> None:
        """Note the changes of one file, like ones below one place rolled into one.

        Args:
            place: path of the file.
            found: the changes in it.
            judge: what each is about.
            cut: whether there are more that were not looked for.
        """
        groups: dict[tuple[tuple[object, ...], Judgement], list[Change]] = {}
        for change in found:
            groups.setdefault((change.keys[:-1], judge(change)), []).append(change)
        told: Counter[Judgement] = Counter()
        for (parent, judged), group in groups.items():
            for item in _told_as(group, SERIES if parent else SERIES_AT_THE_TOP):
                told[judged] += 1
                if told[judged] <= MAX_ITEMS:
                    self.add(judged, at(place, item.keys), item.kind, item.old, item.new, item.text)
        for judged, count in told.items():
            if count > MAX_ITEMS:
                self.add(judged, place, ItemKind.CHANGED, text=f"{count - MAX_ITEMS:,} more differences")
        if cut:
            self.unread(place, f"more than {len(found):,} differences")


def at(place: str, keys: Sequence[object]) -> str:
    """A place in a file: ``config.json: hidden_size``."""
    inside = address([plain_key(key) for key in keys])
    return f"{place}: {inside}" if inside else place


def examples(names: Iterable[object], most: int = EXAMPLES) -> str:
    """A few names, and how many there are beside them.

    >>> examples("abc", 2)
    'a, b, … 1 more'
    """
    listed = [str(name) for name in names]
    head = ", ".join(name if len(name) <= 60 else f"{name[:57]}…" for name in listed[:most])
    return f"{head}, … {len(listed) - most:,} more" if len(listed) > most else head


def _told_as(group: Sequence[Change], most: int) -> Sequence[Change]:
    """Changes below one place: one by one, or as one where they are many; another class is always told by itself."""
    if len(group) <= most:
        return group
    classes = [change for change in group if change.keys[-1:] == ("(class)",)]
    return [*classes, _rolled([change for change in group if change.keys[-1:] != ("(class)",)])]


def _rolled(group: Sequence[Change]) -> Change:
    """Many changes below one place as one."""
    parts = []
    for kind in ItemKind:
        names = [change.keys[-1] if change.keys else "" for change in group if change.kind is kind]
        if names:
            parts.append(f"{len(names):,} {kind.value} ({examples(names)})")
    kinds = {change.kind for change in group}
    kind = next(iter(kinds)) if len(kinds) == 1 else ItemKind.CHANGED
    return Change(group[0].keys[:-1], kind, text="; ".join(parts))

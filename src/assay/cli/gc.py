"""``assay gc``: free what nothing needs, and say why; nothing is changed without ``--yes``."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import click
from rich.console import RenderableType
from rich.text import Text

from assay.cli.console import Bar, json_option, print_json, show, talk, warn
from assay.cli.context import registry_of
from assay.cli.render import plain_table
from assay.cli.text import moment, number, plural, size
from assay.policy.retention import Best, Rule, duration, written
from assay.service.browse import stamp
from assay.service.garbage import Garbage, Why
from assay.spec.json import Json
from assay.wiring.upkeep import Collection, PacksFreed, collect, rules_of

_ROWS = 40
"""Lines of a table before the rest is summed up."""
_WORDS = {
    Why.REMOVED: "{of}, removed ({reason})",
    Why.PURGED: "{of}, purged ({reason})",
    Why.STATEMENT: "statements about {of}",
    Why.UNNAMED: "never named: left by a push that did not finish",
}


@click.command()
@click.option("--yes", is_flag=True, help="Do it; without, only what would go is shown.")
@click.option("--grace", default="24h", show_default=True, metavar="SPAN", help="Keep what was added within: 30m, 7d.")
@click.option("--derived", is_flag=True, help="Also free snapshots and memories, which are made again when needed.")
@click.option("--keep-last", type=click.IntRange(min=1), metavar="N", help="Retention: the newest N versions.")
@click.option("--keep-younger", metavar="SPAN", help="Retention: versions pushed within, such as 90d.")
@click.option("--keep-aliased", is_flag=True, help="Retention: aliased versions (they are always kept).")
@click.option(
    "--keep-best", multiple=True, metavar="METRIC[:lower]", help="Retention: the best by a metric; repeatable."
)
@click.option("--model", "models", multiple=True, metavar="PATTERN", help="Models the options are about; all of them.")
@click.option("--no-retention", is_flag=True, help="Give no version up, whatever retention.toml says.")
@json_option
@click.pass_context
def gc(
    context: click.Context,
    *,
    yes: bool,
    grace: str,
    derived: bool,
    keep_last: int | None,
    keep_younger: str | None,
    keep_aliased: bool,
    keep_best: tuple[str, ...],
    models: tuple[str, ...],
    no_retention: bool,
    as_json: bool,
) -> None:
    """Show what nothing needs, and with --yes free it.

    Needed is what a version needs that was neither removed nor purged, with everything said about it. Versions are
    given up by the rules in retention.toml of the registry, and by the --keep options, which are one more rule: what
    any rule keeps is kept, as is what an alias points at or a pin holds. Without rules no version is given up.
    """
    rule = Rule(
        models=models or ("*",),
        last=keep_last or 0,
        younger=None if keep_younger is None else duration(keep_younger),
        aliased=keep_aliased,
        best=tuple(Best.parse(text) for text in keep_best),
    )
    if models and not rule.keeps:
        raise click.UsageError("--model says which models the --keep options are about; there is none")
    if no_retention and rule.keeps:
        raise click.UsageError("--no-retention gives no version up, the --keep options give some up; choose one")
    span = duration(grace)
    if yes and not span:
        warn("no grace period: what other programs are adding right now without naming it may be freed")
    registry = registry_of(context)
    rules = () if no_retention else (*rules_of(registry), *([rule] if rule.keeps else []))
    found = collect(registry, rules, grace=span, derived=derived, free=yes, progress=Bar())
    if as_json:
        print_json(collection_json(found))
        return
    parts = list(_parts(found))
    if parts:
        show(*parts)
    _conclude(found)


def collection_json(found: Collection) -> dict[str, Json]:
    """A collection as ``--json`` prints it."""
    plan, done = found.plan, found.done
    return {
        "dry_run": done is None,
        "freed": found.freed,
        "grace": int(plan.grace.total_seconds()),
        "versions": [
            {"reference": one.version.reference, "keep": one.keep, "because": list(one.because)}
            for one in found.rulings
        ],
        "garbage": [_group_json(group) for group in _groups(plan.doomed)],
        "kept": [_group_json(group) for group in _groups(plan.kept)],
        "leftovers": [{"path": left.name, "bytes": left.size} for left in plan.leftovers],
        "derived": [
            {"path": str(item.path), "bytes": item.size, "why": item.why} for item in (*plan.derived, *found.remade)
        ],
        "unreadable": list(plan.unreadable),
        "removed": done.removed if done is not None else 0,
        "spared": done.spared if done is not None else 0,
        "needed": {"blobs": plan.needed, "bytes": plan.needed_bytes},
        "packs": None if found.packs is None else _packs_json(found.packs),
    }


def _packs_json(packs: PacksFreed) -> dict[str, Json]:
    return {
        "blobs": packs.blobs,
        "raw": packs.raw,
        "dead": packs.dead,
        "about": packs.about,
        "freed": packs.freed,
        "left": packs.left,
    }


def _groups(garbage: Iterable[Garbage], *, apart: bool = True) -> list[list[Garbage]]:
    """Garbage of one version together, its statements *apart* or not; the largest first."""
    found: dict[tuple[Why | None, str | None], list[Garbage]] = {}
    for one in sorted(garbage, key=lambda one: one.why is Why.STATEMENT):
        found.setdefault((one.why if apart or one.of is None else None, one.of), []).append(one)
    return sorted(found.values(), key=lambda group: -sum(one.size for one in group))


def _group_json(group: Sequence[Garbage]) -> dict[str, Json]:
    until = max((one.until for one in group if one.until is not None), default=None)
    return {
        "why": group[0].why.value,
        "version": group[0].of,
        "reason": group[0].reason,
        "since": stamp(min(one.since for one in group)),
        "until": None if until is None else stamp(until),
        "blobs": len(group),
        "bytes": sum(one.size for one in group),
    }


def _parts(found: Collection) -> Iterable[RenderableType]:
    plan = found.plan
    if found.rulings:
        yield _rulings(found)
        yield Text()
    groups = _groups(plan.doomed, apart=False)
    rows = [(_words(group), str(len(group)), sum(one.size for one in group)) for group in groups[:_ROWS]]
    rest = [one for group in groups[_ROWS:] for one in group]
    if rest:
        rows.append((f"{len(groups) - _ROWS:,} more", str(len(rest)), sum(one.size for one in rest)))
    if found.packs is not None and found.packs.dead:
        rows.append(("packs: bytes of no packed file any more", "", found.packs.dead))
    if plan.leftovers:
        left = sum(one.size for one in plan.leftovers)
        rows.append(("half-written, left by writers that were killed", str(len(plan.leftovers)), left))
    derived = {item.path: item for item in (*plan.derived, *found.remade)}.values()
    for why in dict.fromkeys(item.why for item in derived):
        several = [item for item in derived if item.why == why]
        rows.append((why, str(len(several)), sum(item.size for item in several)))
    if rows:
        table = plain_table("Nothing needs", right=("Number", "Bytes"))
        for words, count, held in rows:
            table.add_row(words, count, size(held))
        yield table


def _words(group: Sequence[Garbage]) -> str:
    one = group[0]
    of = one.of or "artifacts that no version is"
    words = _WORDS[one.why].format(of=of, reason=one.reason)
    return f"{words}; since {moment(stamp(min(each.since for each in group)))}"


def _rulings(found: Collection) -> RenderableType:
    """Every version that goes; of those that are kept, the grounds, one line per version."""
    table = plain_table("Version", "Retention", "Why")
    for one in sorted(found.rulings, key=lambda one: (one.version.name, -one.version.number)):
        goes = "removed" if found.done is not None else "would go"
        table.add_row(one.version.reference, "kept" if one.keep else goes, "; ".join(one.because))
    return table


def _conclude(found: Collection) -> None:
    plan, console = found.plan, talk()
    for unreadable in plan.unreadable:
        warn(f"a statement cannot be read, what it names counts as unneeded: {unreadable}")
    if plan.kept:
        until = max(one.until for one in plan.kept if one.until is not None)
        console.print(
            f"kept for now: {plural(len(plan.kept), 'blob')}, {size(sum(one.size for one in plan.kept))}, added less "
            f"than {written(plan.grace)} ago; the last of them until {moment(stamp(until))}"
        )
    if found.packs is not None:
        _conclude_packs(found.packs)
    needed = f"needed: {plural(plan.needed, 'blob')}, {size(plan.needed_bytes)}"
    if found.done is None:
        gone = sum(not one.keep for one in found.rulings)
        if found.freed or plan.doomed or plan.leftovers or plan.derived or found.remade or gone:
            about = "about " if found.packs is not None and found.packs.about else ""
            console.print(
                f"{needed}; {about}{size(found.freed)} would come back: assay gc --yes with the same options frees it"
            )
        else:
            console.print(f"{needed}; nothing to free")
        return
    console.print(f"{needed}; {plural(found.done.removed, 'blob')} removed, {size(found.freed)} came back")
    if found.done.spared:
        console.print(f"{number(found.done.spared)} of them were added or named again meanwhile and stay")


def _conclude_packs(packs: PacksFreed) -> None:
    """Say that packs give back what they hold only when they are written anew."""
    if packs.left is not None:
        if packs.left:
            talk().print(
                f"{size(packs.left)} stay in packs until a quarter of one is unneeded: then it is written anew"
            )
    elif packs.blobs:
        what = f"{plural(packs.blobs, 'blob')}, {size(packs.raw)} if it were raw"
        talk().print(f"only in packs: {what}; packs of which a quarter is unneeded are written anew")

"""``assay pack-store`` and ``assay unpack``: files of versions become small, and raw again."""

from __future__ import annotations

import click

from assay.cli.console import Bar, json_option, print_json, say, show, talk, warn
from assay.cli.context import REFERENCE, registry_of
from assay.cli.render import plain_table
from assay.cli.text import plural, size
from assay.errors import VerificationFailed
from assay.policy.retention import duration
from assay.ports.packs import Effort
from assay.service import packing
from assay.service.packing import Packed
from assay.service.packing_plan import Plan, Spared, Why, Wish
from assay.spec.json import Json
from assay.wiring.packing import named
from assay.wiring.packing import pack_store as pack_all

_ROWS = 40
"""Lines of a table before the rest is summed up."""
_WORDS = {
    Why.KEPT: "stay raw for {of}",
    Why.YOUNG: "are too young: {of}",
    Why.SMALL: "have less than 4 KiB",
    Why.LARGE: "have more than 16 GiB that is no tensor",
    Why.CHANGED: "were added again meanwhile, and stay raw as well",
    Why.MISSING: "are missing: assay verify --all",
    Why.UNREADABLE: "the manifest of {of} cannot be read: assay verify {of}",
}


@click.command("pack-store")
@click.argument("references", nargs=-1, type=REFERENCE, metavar="[REFERENCE]...")
@click.option("--older-than", metavar="SPAN", help="Leave alone what a version younger than this has: 30d, 12h.")
@click.option("--keep-raw", multiple=True, metavar="ALIAS", help="Leave alone what an alias of this name points at.")
@click.option("--smallest", is_flag=True, help="A few per cent smaller, ten times slower to write.")
@click.option(
    "--dry-run", is_flag=True, help="Only say what would be packed, and at most how many bytes it would take."
)
@json_option
@click.pass_context
def pack_store(
    context: click.Context,
    references: tuple[str, ...],
    *,
    older_than: str | None,
    keep_raw: tuple[str, ...],
    smallest: bool,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Make files of versions small; everything reads them as before.

    Equal tensors are stored once, those of a fine-tune as the difference to its base. Without REFERENCE every version
    is packed; the name of a model means all of its versions. Raw copies go once what was written was read back.
    """
    wish = Wish(
        older_than=None if older_than is None else duration(older_than),
        keep_raw=keep_raw,
        effort=Effort.SMALLEST if smallest else Effort.DEFAULT,
    )
    planned, done, guess = pack_all(registry_of(context), references, wish, dry_run=dry_run, progress=Bar())
    if as_json:
        print_json(packed_json(planned, done, guess))
    else:
        _print(planned, done, guess)
    if done is not None and done.damaged:
        context.exit(VerificationFailed.exit_status)


@click.command()
@click.argument("references", nargs=-1, required=True, type=REFERENCE, metavar="REFERENCE...")
@json_option
@click.pass_context
def unpack(context: click.Context, references: tuple[str, ...], *, as_json: bool) -> None:
    """Make raw copies of a version's packed files again.

    For what is to be mapped or linked without delay. They stay packed as well, so that packing them again later costs
    nothing. The name of a model means all of its versions.
    """
    registry = registry_of(context)
    found = [(version, *packing.unpack(registry, version, progress=Bar())) for version in named(registry, references)]
    if as_json:
        print_json([{"reference": one.reference, "blobs": blobs, "bytes": raw} for one, blobs, raw in found])
        return
    for version, blobs, raw in found:
        say(f"{version.reference}  {plural(blobs, 'file')}, {size(raw)} raw again")


def packed_json(planned: Plan, done: Packed | None, guess: int | None) -> dict[str, Json]:
    """What was or would be packed, as ``--json`` prints it."""
    spared = planned.spared if done is None else done.spared
    return {
        "dry_run": done is None,
        "blobs": planned.blobs if done is None else done.blobs,
        "raw": planned.bytes if done is None else done.raw,
        "stored": None if done is None else done.stored,
        "at_most": guess,
        "same": None if done is None else done.same,
        "differing": None if done is None else done.differing,
        "already": {"blobs": planned.already[0], "bytes": planned.already[1]},
        "versions": [
            {"reference": job.version.reference, "blobs": len(job.wanted), "bytes": job.bytes} for job in planned.jobs
        ],
        "spared": [{"why": one.why.value, "of": one.of, "blobs": one.blobs, "bytes": one.bytes} for one in spared],
        "damaged": []
        if done is None
        else [{"digest": str(one.digest), "files": list(one.files)} for one in done.damaged],
    }


def tell_packed(done: Packed) -> None:
    """Say in one line what was packed."""
    talk().print(_sentence(done))


def _print(planned: Plan, done: Packed | None, guess: int | None) -> None:
    if planned.jobs:
        table = plain_table("Version", right=("Files", "Bytes"))
        for job in planned.jobs[:_ROWS]:
            table.add_row(job.version.reference, str(len(job.wanted)), size(job.bytes))
        if rest := planned.jobs[_ROWS:]:
            files = sum(len(job.wanted) for job in rest)
            table.add_row(f"{len(rest):,} more", str(files), size(sum(job.bytes for job in rest)))
        show(table)
    for one in planned.spared if done is None else done.spared:
        talk().print(_reason(one))
    if planned.already[0]:
        talk().print(f"{plural(planned.already[0], 'file')}, {size(planned.already[1])}: packed already")
    if done is None:
        talk().print(_promise(planned, guess or 0) if planned.jobs else "nothing to pack")
        return
    talk().print(_sentence(done))
    for damaged in done.damaged:
        warn(f"{damaged.digest.short} does not match its digest and stays as it is: {', '.join(damaged.files[:3])}")
    if done.damaged:
        talk().print("hint: assay verify --all says what is damaged and what can be done")


def _promise(planned: Plan, guess: int) -> str:
    what = f"{plural(planned.blobs, 'file')}, {size(planned.bytes)} would be packed into about {size(guess)}"
    return f"{what}, or less: equal tensors and fine-tunes are not counted on"


def _sentence(done: Packed) -> str:
    if not done.blobs:
        return "nothing to pack"
    ratio = f", {100 * done.stored / done.raw:.1f} %" if done.raw else ""
    parts = [f"{size(done.same)} were there already"] if done.same else []
    parts += [f"{size(done.differing)} are kept as differences"] if done.differing else []
    more = f" ({', '.join(parts)})" if parts else ""
    return f"{plural(done.blobs, 'file')}, {size(done.raw)} packed into {size(done.stored)}{ratio}{more}"


def _reason(one: Spared) -> str:
    words = _WORDS[one.why].format(of=one.of)
    return words if one.why is Why.UNREADABLE else f"{plural(one.blobs, 'file')}, {size(one.bytes)} {words}"

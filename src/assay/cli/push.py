"""``assay push``."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace

import click

from assay.artifact.collect import IGNORE_FILE, collect
from assay.cli.console import Bar, json_option, print_json, say, talk, warn
from assay.cli.context import NAME, local_path, policy_option, registry_of, settings_of
from assay.cli.convert import tell_steps
from assay.cli.lineage import RELATIONS
from assay.cli.pack_store import tell_packed
from assay.cli.pairs import numbers_of, pairs_of
from assay.cli.render import headline
from assay.cli.text import visible
from assay.policy.policy import Action
from assay.service import browse, publish
from assay.service.gate import located
from assay.service.lineage import bases_given
from assay.service.publish import Claims, Pushed
from assay.spec.json import Json, read_scalar
from assay.spec.report import Verdict
from assay.wiring.auditing import guard_of
from assay.wiring.converting import safe_files
from assay.wiring.examples import read_example
from assay.wiring.packing import pack_store as pack_all

_VCS = (".git/", ".hg/", ".svn/", ".dvc/cache/")


@click.command()
@click.argument("path", type=click.Path(readable=False))
@click.argument("name", type=NAME)
@click.option("--alias", metavar="A", help="A movable name to point at the version.")
@click.option("--metric", "metrics", multiple=True, metavar="KEY=NUMBER", help="An evaluation result; repeatable.")
@click.option("--param", "params", multiple=True, metavar="KEY=VALUE", help="A training parameter; repeatable.")
@click.option(
    "--base", "bases", multiple=True, metavar="REF", help="What it was made from: a reference, or any name; repeatable."
)
@click.option("--relation", type=RELATIONS, help="How (finetuned-from; of several bases merged-from).")
@click.option("--run", metavar="URI", help="The training run (else read from the files).")
@click.option("--note", metavar="TEXT", help="Free text.")
@click.option(
    "--example",
    metavar="FILE",
    type=click.Path(readable=False),
    help="Inputs and the outputs they give (.npz or .json), for assay rehearse.",
)
@click.option("--move", is_flag=True, help="Take the files over instead of copying: PATH is emptied.")
@click.option("--packed", is_flag=True, help="Make the files small once they are stored: assay pack-store.")
@click.option("--safe", is_flag=True, help="Convert unsafe forms first, with proof; the originals are not stored.")
@policy_option
@json_option
@click.pass_context
def push(
    context: click.Context,
    path: str,
    name: str,
    *,
    alias: str | None,
    metrics: tuple[str, ...],
    params: tuple[str, ...],
    bases: tuple[str, ...],
    relation: str | None,
    run: str | None,
    note: str | None,
    example: str | None,
    move: bool,
    packed: bool,
    safe: bool,
    policy: str | None,
    as_json: bool,
) -> None:
    """Make the model at PATH a numbered version of NAME.

    Prints NAME:N and its digest. The same files pushed again are the same version.
    """
    if safe and move:
        raise click.UsageError("--safe and --move exclude each other: what is converted is not what was there")
    claims = Claims(numbers_of(metrics), _values(params), bases_given(bases, relation), run, note)
    if example is not None:
        claims = replace(claims, example=read_example(local_path(example, "FILE")).to_json())
    source = local_path(path, "PATH")
    files = collect(source)
    strays = [folder for folder in _VCS if any(f"/{entry}".find(f"/{folder}") >= 0 for entry in files)]
    if strays:
        talk().print(
            f"note: files under {', '.join(strays)} are packed too; {IGNORE_FILE} (gitignore rules) leaves them out"
        )
    guard = guard_of(settings_of(context, policy=policy), warn=warn)
    registry = registry_of(context, create=True)
    with safe_files(files, claims, told=tell_steps) if safe else nullcontext((files, claims)) as (chosen, said):
        pushed = publish.push(
            registry,
            chosen,
            name,
            guard=guard,
            claims=said,
            alias=alias,
            move=source if move else None,
            progress=Bar(),
        )
    made_small = pack_all(registry, [pushed.version.reference], progress=Bar())[1] if packed else None
    if as_json:
        print_json(_pushed_json(pushed))
        return
    say(f"{pushed.version.reference} {pushed.version.manifest}")
    state = "new version" if pushed.new else "already here: the same files are the same version"
    talk().print(f"{state} · {headline(pushed.inspection.summary())}")
    if kinds := [kind for kind in pushed.statements if kind not in {"description", "audit"} and (kind != "run" or run)]:
        talk().print(f"recorded {', '.join(kinds)}")
    if alias:
        talk().print(f"{name}:{alias} -> {pushed.version.reference}")
    if made_small is not None:
        tell_packed(made_small)
    if pushed.decision.verdict is not Verdict.SAFE:
        talk().print(f"{pushed.decision.verdict.value}: {visible(pushed.decision.summary)}")
    shown = [item.finding for item in pushed.decision.judged if item.action is not Action.ALLOW]
    for finding in shown[:5]:
        talk().print(f"{finding.severity.value}: {visible(located(finding))}")
    if len(shown) > 5:
        talk().print(f"{len(shown) - 5} more findings; assay scan {pushed.version.reference} shows them")


def _pushed_json(pushed: Pushed) -> Json:
    version = pushed.version
    return {
        "reference": version.reference,
        "name": version.name,
        "version": version.number,
        "digest": str(version.manifest),
        "new": pushed.new,
        "size": version.size,
        "files": version.entries,
        "created": browse.stamp(version.created),
        "alias": pushed.alias,
        "statements": list(pushed.statements),
        "summary": pushed.inspection.summary(),
        "audit": pushed.decision.to_json(),
        "findings": [finding.to_json() for finding in pushed.inspection.all_findings],
    }


def _values(items: tuple[str, ...]) -> dict[str, Json]:
    return {key: read_scalar(value) for key, value in pairs_of(items, "--param", "KEY=VALUE")}

"""``assay import``: versions of another registry, cache or folder become versions here."""

from __future__ import annotations

from collections import Counter

import click

from assay.cli.console import Bar, json_option, print_json, say, talk, warn
from assay.cli.context import NAME, policy_option, registry_of, settings_of
from assay.cli.text import coloured, plural, short, visible
from assay.errors import InvalidInput
from assay.service.importing import Imported, Plan, run_import
from assay.spec.json import Json
from assay.wiring.auditing import guard_of
from assay.wiring.importing import KINDS, Begun, Chosen, folders_of, importer_of

NOT_ALL = 1
"""Exit status when something was not imported."""


@click.command("import")
@click.argument("source", type=click.Path(readable=False))
@click.argument("name", required=False, type=NAME)
@click.option("--from", "kind", type=click.Choice(KINDS), help="What SOURCE is; told from it otherwise.")
@click.option("--model", "models", multiple=True, metavar="THEIRS", help="Take this model only; repeatable.")
@click.option("--prefix", default="", metavar="TEXT", help="Put before every name, such as team/.")
@click.option("--commits", is_flag=True, help="Take every commit of a git repository, not only tags and branches.")
@click.option("--no-aliases", is_flag=True, help="Leave aliases and stages there.")
@click.option(
    "--artifacts",
    multiple=True,
    metavar="[LOCATION=]FOLDER",
    help="Folder with the files of an MLflow registry (what lies at LOCATION there); nothing else is read then.",
)
@click.option("--dry-run", is_flag=True, help="Only say what there is.")
@policy_option
@json_option
@click.pass_context
def import_command(
    context: click.Context,
    source: str,
    name: str | None,
    *,
    kind: str | None,
    models: tuple[str, ...],
    prefix: str,
    commits: bool,
    no_aliases: bool,
    artifacts: tuple[str, ...],
    dry_run: bool,
    policy: str | None,
    as_json: bool,
) -> None:
    """Import versions from SOURCE, with what is known of them there.

    SOURCE is an MLflow database (sqlite:///FILE, postgresql://…), folder (mlruns) or server (http://…), a Hugging Face
    cache, a git or DVC repository, or a folder of checkpoints. NAME makes everything versions of one model; otherwise
    models keep their names. What an earlier import brought is left as it is.
    """
    if name and prefix:
        raise click.UsageError("NAME and --prefix exclude each other")
    importer = Chosen(importer_of(source, kind=kind, commits=commits, artifacts=folders_of(artifacts)), models)
    plan = Plan(name=name, prefix=prefix, aliases=not no_aliases)
    if dry_run:
        _tell_offered(importer, plan, as_json=as_json)
        return
    guard = guard_of(settings_of(context, policy=policy), warn=warn)
    begun = Begun(importer)
    registry = registry_of(context, create=True)
    done: list[Imported] = []
    for imported in run_import(registry, begun, guard=guard, plan=plan, progress=Bar()):
        done.append(imported)
        if not as_json:
            _tell(imported)
    if as_json:
        print_json({"source": source, "versions": [_json(imported) for imported in done]})
    else:
        _sum_up(done)
    if any(imported.error or imported.kept for imported in done):
        context.exit(NOT_ALL)


def _tell(imported: Imported) -> None:
    theirs = visible(f"{imported.model} {short(imported.label, 40)}")
    if imported.version is not None:
        say(f"{imported.version.reference} {imported.version.manifest}")
        state = "the same files as before"
        if imported.new or imported.known:
            state = "new" if imported.new else "known from an earlier import"
        checked = f", {plural(imported.checked, 'checksum')} compared" if imported.checked else ""
        talk().print(f"  from {theirs}: {state}{checked}")
    for alias in imported.aliases:
        talk().print(f"  alias {visible(alias)}")
    for alias, why in imported.kept.items():
        talk().print(f"  alias {visible(alias)} was not taken over: {visible(why)}")
    if imported.error is not None:
        click.echo(f"{coloured('not imported:', 'red')} {theirs}: {visible(imported.error.message)}", err=True)
        if imported.error.hint:
            click.echo(f"  {coloured('hint:', 'cyan')} {visible(imported.error.hint)}", err=True)


def _sum_up(done: list[Imported]) -> None:
    counts = Counter(
        "failed" if imported.error else "known" if imported.known else "new" if imported.new else "same"
        for imported in done
    )
    names = {imported.version.name for imported in done if imported.version}
    parts = [f"{plural(counts['new'], 'new version')} of {plural(len(names), 'model')}"]
    parts += [f"{counts['same']} with files that were here already"] if counts["same"] else []
    parts += [f"{counts['known']} known from before"] if counts["known"] else []
    parts += [f"{counts['failed']} not imported"] if counts["failed"] else []
    talk().print(", ".join(parts))


def _tell_offered(importer: Chosen, plan: Plan, *, as_json: bool) -> None:
    rows: list[Json] = []
    for found in importer.offered():
        error = getattr(found, "error", None)
        row: dict[str, Json] = {"model": found.model, "version": found.label, "name": None}
        try:
            row["name"] = plan.model(found.model)
        except InvalidInput as refused:
            error = refused
        row["aliases"] = list(getattr(found, "aliases", ()))
        row["where"] = getattr(found, "where", "")
        row["error"] = error.to_json() if error else None
        rows.append(row)
        if not as_json:
            aliases = f" ({', '.join(getattr(found, 'aliases', ()))})" if getattr(found, "aliases", ()) else ""
            what = error.message if error else getattr(found, "where", "")
            say(visible(f"{found.model} {found.label}{aliases}: {what}"))
    if as_json:
        print_json({"source": importer.place, "system": importer.system, "versions": rows})


def _json(imported: Imported) -> Json:
    version = imported.version
    return {
        "model": imported.model,
        "version": imported.label,
        "reference": version.reference if version else None,
        "digest": str(version.manifest) if version else None,
        "new": imported.new,
        "known": imported.known,
        "aliases": list(imported.aliases),
        "aliases_kept": dict(imported.kept),
        "checksums": imported.checked,
        "error": imported.error.to_json() if imported.error else None,  # type: ignore[dict-item]
    }

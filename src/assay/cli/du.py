"""``assay du``: where the bytes are, for whom, and which of them can come back."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import click
from rich.console import RenderableType
from rich.text import Text

from assay.cli.console import json_option, print_json, show, talk
from assay.cli.context import REFERENCE, registry_of
from assay.cli.render import plain_table
from assay.cli.text import plural, size
from assay.errors import NotFound
from assay.service.registry import Registry
from assay.service.usage import FileUsage, ModelUsage, Usage, VersionUsage, files_of
from assay.spec.json import Json
from assay.spec.reference import Reference
from assay.wiring.upkeep import usage_of

_BAR = 12
_EIGHTHS = " ▏▎▍▌▋▊▉█"
_PACKED = ("Packed",)
"""A column that is there when something is packed."""
_SHARED = 3
"""Names of others that are listed before they are counted."""


@click.command()
@click.argument("reference", required=False, type=REFERENCE)
@click.option("--top", type=click.IntRange(min=1), metavar="N", help="The N largest models, versions or files alone.")
@json_option
@click.pass_context
def du(context: click.Context, reference: str | None, top: int | None, *, as_json: bool) -> None:
    """Show where the bytes are, of all models or of one.

    Logical is what a pull writes; stored counts each blob once; exclusive is what would come back. A bar shows stored,
    its full part exclusive, against the largest. Packed is the part of stored that lies in packs, where it takes less:
    how much less is said below.
    """
    registry = registry_of(context)
    if reference is None:
        found = usage_of(registry)
        models = list(found.models)[:top]
        if as_json:
            print_json(_usage_json(found, models))
            return
        parts = [_models(models), Text()] if models else []
        show(*parts, _folders(found))
        _conclude(found, left_out=len(found.models) - len(models))
        return
    named = Reference.parse(reference)
    if named.label is None and named.digest is None:
        _one_model(registry, named.name, top, as_json=as_json)
    else:
        _one_version(registry, named, top, as_json=as_json)


def _one_model(registry: Registry, name: str, top: int | None, *, as_json: bool) -> None:
    newest = registry.resolve(Reference(name=name))
    model = next((model for model in usage_of(registry).models if model.name == name), None)
    if model is None:
        raise NotFound(
            f"every version of {name} was removed or purged: it takes nothing",
            code="version-removed" if newest.removed is not None else "purged",
            hint=f"assay history {name} says when and by whom; assay gc frees what is left of them",
        )
    versions = sorted(model.versions, key=lambda one: -one.stored)[:top] if top else model.versions
    if as_json:
        print_json(_model_json(model, versions))
        return
    show(_versions(versions))
    talk().print(
        f"{name}: {size(model.logical)} logical, {size(model.stored)} stored, {size(model.exclusive)} exclusive, "
        f"statements {size(model.statements)}"
    )


def _one_version(registry: Registry, named: Reference, top: int | None, *, as_json: bool) -> None:
    version = registry.resolve(named)
    files = files_of(registry, version)[:top]
    models = {model.name: model for model in usage_of(registry).models}
    found = next(one for one in models[version.name].versions if one.version.number == version.number)
    if as_json:
        body = _version_json(found)
        body["files"] = [
            {"path": one.path, "bytes": one.size, "packed": one.packed, "shared_with": list(one.shared_with)}
            for one in files
        ]
        print_json(body)
        return
    show(_files(files))
    talk().print(
        f"{version.reference}: {size(found.logical)} logical, {size(found.stored)} stored, removing it gives "
        f"{size(found.exclusive)} back; statements {size(found.statements)}"
    )


def _models(models: Sequence[ModelUsage]) -> RenderableType:
    packed = any(one.packed for one in models)
    table = plain_table("Model", "", right=("Versions", "Logical", "Stored", "Exclusive", *_PACKED[:packed]))
    bar = _bars([(one.stored, one.exclusive) for one in models])
    for one in models:
        table.add_row(
            Text(one.name + _sharing(one.shared_with), overflow="fold"),
            bar(one.stored, one.exclusive),
            str(len(one.versions)),
            size(one.logical),
            size(one.stored),
            size(one.exclusive),
            *[size(one.packed)][:packed],
        )
    return table


def _versions(versions: Sequence[VersionUsage]) -> RenderableType:
    packed = any(one.packed for one in versions)
    table = plain_table("Version", "", "Shared with", right=("Logical", "Stored", "Exclusive", *_PACKED[:packed]))
    bar = _bars([(one.stored, one.exclusive) for one in versions])
    for one in versions:
        table.add_row(
            str(one.version.number),
            bar(one.stored, one.exclusive),
            _others(one.shared_with),
            size(one.logical),
            size(one.stored),
            size(one.exclusive),
            *[size(one.packed)][:packed],
        )
    return table


def _files(files: Sequence[FileUsage]) -> RenderableType:
    table = plain_table("File", "", "Shared with", right=("Bytes",))
    own = [(one.size, 0 if one.shared_with else one.size) for one in files]
    bar = _bars(own)
    for one, (held, alone) in zip(files, own, strict=True):
        shared = _others(one.shared_with)
        told = "; ".join(part for part in ("packed" if one.packed else "", shared) if part)
        table.add_row(Text(one.path, overflow="fold"), bar(held, alone), told, size(held))
    return table


def _folders(found: Usage) -> RenderableType:
    table = plain_table("On the disk", "How it is freed", right=("Bytes",))
    table.add_row("needed blobs", f"statements {size(found.statements)} of them", size(found.needed))
    table.add_row("unneeded blobs", "assay gc --yes" if found.garbage else "", size(found.garbage))
    for folder in found.folders:
        if folder.size:
            table.add_row(folder.name, folder.frees or folder.note, size(folder.size))
    return table


def _conclude(found: Usage, *, left_out: int) -> None:
    console = talk()
    if left_out:
        console.print(f"{plural(left_out, 'smaller model')} left out")
    if found.packs is not None:
        dead = f"; {size(found.packs.dead)} of that needed by nothing: assay gc --yes" if found.packs.dead else ""
        held = f"{plural(found.packs.blobs, 'blob')} of {size(found.packs.raw)}"
        console.print(f"{plural(found.packs.packs, 'pack')} of {size(found.packs.stored)} for {held}{dead}")
    free = f", {size(found.disk_free)} free on this disk" if found.disk_free is not None else ""
    console.print(
        f"{size(found.total)} on the disk for {size(found.logical)} of models, {plural(found.blobs, 'blob')}{free}"
    )


def _bars(values: Iterable[tuple[int, int]]) -> Callable[[int, int], str]:
    """Draws stored against the largest, and how much of it is exclusive in full blocks."""
    most = max((stored for stored, _ in values), default=0)

    def draw(stored: int, exclusive: int) -> str:
        if most == 0:
            return ""
        eighths = round(stored * _BAR * 8 / most)
        full = min(round(exclusive * _BAR * 8 / most), eighths)
        drawn = "█" * (full // 8) + (_EIGHTHS[full % 8].strip() if full < 8 * _BAR else "")
        return drawn + "░" * (-(-eighths // 8) - len(drawn))

    return draw


def _sharing(names: Sequence[str]) -> str:
    return f"\n  shares with {_others(names)}" if names else ""


def _others(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHARED} more" if len(names) > _SHARED else ""
    return ", ".join(names[:_SHARED]) + more


def _usage_json(found: Usage, models: Sequence[ModelUsage]) -> dict[str, Json]:
    return {
        "logical": found.logical,
        "stored": found.stored,
        "blobs": found.blobs,
        "statements": found.statements,
        "garbage": found.garbage,
        "total": found.total,
        "disk_free": found.disk_free,
        "packed": found.packed,
        "packs": None
        if found.packs is None
        else {
            "packs": found.packs.packs,
            "blobs": found.packs.blobs,
            "raw": found.packs.raw,
            "stored": found.packs.stored,
            "dead": found.packs.dead,
        },
        "models": [_model_json(model, model.versions) for model in models],
        "folders": [
            {"name": folder.name, "bytes": folder.size, "frees": folder.frees, "note": folder.note}
            for folder in found.folders
        ],
    }


def _model_json(model: ModelUsage, versions: Sequence[VersionUsage]) -> dict[str, Json]:
    return {
        "name": model.name,
        "logical": model.logical,
        "stored": model.stored,
        "statements": model.statements,
        "exclusive": model.exclusive,
        "packed": model.packed,
        "shared_with": list(model.shared_with),
        "versions": [_version_json(one) for one in versions],
    }


def _version_json(one: VersionUsage) -> dict[str, Json]:
    return {
        "reference": one.version.reference,
        "digest": str(one.version.manifest),
        "logical": one.logical,
        "stored": one.stored,
        "statements": one.statements,
        "exclusive": one.exclusive,
        "packed": one.packed,
        "shared_with": list(one.shared_with),
    }

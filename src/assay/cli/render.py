"""Cards and tables for terminals of 80 columns and more, drawn from the same JSON values that ``--json`` prints."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.errors import NotRenderableError
from rich.table import Table
from rich.text import Text

from assay.cli.metrics import measured
from assay.cli.text import number, plural, short, size

MAX_LISTED = 12
"""Files and models listed on a card before the rest is counted."""

MAX_PARTS = 16
"""Lines of the tree of parts."""

_MARKS = {
    "purged": "the bytes were removed for good",
    "removed": "it was given up",
    "yanked": "it must not be used any more",
    "pinned": "retention rules leave it alone",
}
"""Marks of a version and what they mean, gravest first."""

_SEVERE = frozenset({"execute", "write", "network", "read"})


def headline(summary: Mapping[str, Any]) -> str:
    """A model in one line: what, made with what, how large."""
    kind = summary["format"]
    framework = summary.get("framework")
    made_with = " ".join(filter(None, (framework, summary.get("framework_version"))))
    parts = [summary.get("architecture") or (f"{made_with} model" if framework else f"{kind} files")]
    if framework and summary.get("architecture"):
        parts.append(made_with)
    if summary.get("parameters"):
        parts.append(f"{number(summary['parameters'])} parameters{dtypes(summary.get('dtypes', {}))}")
    parts.append(f"{plural(summary['files'], 'file')}, {size(summary['size'])}")
    return " · ".join(parts)


def dtypes(counts: Mapping[str, int]) -> str:
    """The dtypes that matter: those of at least one in a hundred elements."""
    total = sum(counts.values())
    main = [name for name, count in counts.items() if count * 100 >= total]
    return f" in {'/'.join(main[:3])}" if main else ""


def card(body: Mapping[str, Any]) -> RenderableType:
    """What ``assay inspect`` shows of an inspection."""
    summary = body["summary"]
    rows = _rows()
    for label, text in _facts(body):
        rows.add_row(label, text)
    parts: list[RenderableType] = [Text(headline(summary), style="bold"), rows]
    models = body["models"]
    if len(models) > 1:
        parts += [Text(), Text("In it", style="bold"), _models(models)]
    if body["unknown"]:
        parts += [Text(), _listed("Other files, kept as they are", body["unknown"])]
    findings = [*body["findings"], *(finding for model in models for finding in model.get("findings", []))]
    if findings:
        parts += [Text(), Text("Findings", style="bold"), _findings(findings)]
    return Group(*parts)


def tensors(body: Mapping[str, Any], width: int) -> RenderableType:
    """Every tensor of every model in an inspection."""
    table = plain_table("Tensor", "Dtype", "Shape", right=("Bytes",))
    for model in body["models"]:
        for tensor in model.get("tensors", []):
            extent = tensor.get("extent")
            shape = "x".join(str(side) for side in tensor["shape"]) or "scalar"
            held = size(extent["length"]) if extent else ""
            table.add_row(_tail(tensor["name"], max(20, width - 44)), tensor["dtype"], shape, held)
    return table


def models_table(models: Sequence[Mapping[str, Any]], moment: Any) -> RenderableType:
    """What ``assay ls`` shows."""
    table = plain_table("Model", "Newest", "Aliases", right=("Versions", "Size"))
    for model in models:
        latest = model["latest"]
        aliases = " ".join(f"{alias}={at}" for alias, at in sorted(model["aliases"].items()))
        table.add_row(
            Text(model["name"], overflow="fold"),
            f"{latest['version']} · {moment(latest['created'])}",
            aliases,
            str(model["versions"]),
            size(latest["size"]),
        )
    return table


def versions_table(body: Mapping[str, Any], moment: Any) -> RenderableType:
    """What ``assay ls NAME`` shows."""
    rows = body["versions"]
    metrics = _metric_names(rows)
    table = plain_table("Version", "Created", "What", *metrics, "Digest", right=("Size",))
    for row in rows:
        name = " ".join([str(row["version"]), *row["aliases"]])
        marks = _marks(row)
        if "purged" in row or "removed" in row:
            table.add_row(name, moment(row["created"]), marks, *["" for _ in metrics], "", "")
            continue
        summary = row.get("summary") or {}
        values = row.get("metrics") or {}
        table.add_row(
            name,
            moment(row["created"]),
            " · ".join(
                filter(None, (short(str(summary.get("architecture") or summary.get("format") or ""), 24), marks))
            ),
            *(f"{values[metric]:g}" if metric in values else "" for metric in metrics),
            row["digest"].removeprefix("sha256:")[:12],
            size(row["size"]),
        )
    return table


def _marks(row: Mapping[str, Any]) -> str:
    return ", ".join(f"{mark}: {row[mark]}" for mark in _MARKS if mark in row)


def version_card(body: Mapping[str, Any], moment: Any, *, files: bool) -> RenderableType:
    """What ``assay show`` shows."""
    aliases = f"  ({', '.join(body['aliases'])})" if body["aliases"] else ""
    parts: list[RenderableType] = [Text(f"{body['reference']}{aliases}", style="bold"), Text(body["digest"])]
    rows = _rows()
    rows.add_row("Pushed", f"{moment(body['created'])} by {body['actor']}")
    for mark, meaning in _MARKS.items():
        if mark in body:
            rows.add_row(mark.capitalize(), f"{meaning}: {body[mark]}")
    if "purged" in body or "removed" in body:
        return Group(*parts, rows)
    if body.get("audit"):
        try:
            rows.add_row("Audit", _audit(body["audit"]))
        except _UNDOCUMENTED:
            rows.add_row("Audit", _STRANGE)
    for label, text in _said(body["statements"]):
        rows.add_row(label, text)
    parts.append(rows)
    if body.get("description"):
        try:
            parts += [Text(), card(body["description"])]
        except _UNDOCUMENTED:
            rows.add_row("Description", _STRANGE)
    parts += [Text(), _files(body["files"], everything=files)]
    return Group(*parts)


def _facts(body: Mapping[str, Any]) -> Iterable[tuple[str, RenderableType | str]]:
    """The labelled lines of a card, in reading order; only what is known."""
    models = body["models"]
    first = _first_of(models)
    if task := first("task"):
        yield "Task", task
    if count := body["summary"].get("tensors"):
        yield "Tensors", f"{count:,}{_formats(body['summary'])}"
    if inputs := first("inputs"):
        yield "Inputs", _ports(inputs)
    if outputs := first("outputs"):
        yield "Outputs", _ports(outputs)
    if tokenizer := first("tokenizer"):
        yield "Tokenizer", _tokenizer(tokenizer)
        if template := tokenizer.get("chat_template"):
            yield "Chat template", f"{len(template):,} characters, {short(' '.join(template.split()), 90)}"
    if steps := first("components"):
        yield "Parts", Text("\n".join(_outline(steps)), no_wrap=True, overflow="ellipsis")
    if settings := _beyond_parts(first("hyperparameters") or {}, steps or ()):
        yield "Settings", _settings(settings)
    for label, key in (
        ("Preprocessing", "preprocessing"),
        ("Metrics", "metrics"),
        ("File says", "metadata"),
    ):
        if values := first(key):
            yield label, _settings(values)
    yield from _origin(body["summary"], first("run"))


def _origin(summary: Mapping[str, Any], run: Mapping[str, Any] | None) -> Iterable[tuple[str, RenderableType | str]]:
    """Where a model comes from, and what it takes to use it."""
    if bases := summary.get("base_models"):
        yield "Made from", ", ".join(bases)
    if run:
        yield "Run", " ".join(filter(None, (run["system"], run.get("run_id"), run.get("uri"))))
    if licenses := summary.get("licenses"):
        yield "Licence", ", ".join(licenses)
    if needs := summary.get("requirements"):
        yield "Needs", ", ".join(needs)


def _beyond_parts(settings: Mapping[str, Any], parts: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    """Settings that the tree of parts does not show already: neither a part's own nor one addressed ``part__name``."""
    shown = {name for part in parts for name in part.get("hyperparameters", {})}
    return {name: value for name, value in settings.items() if name not in shown and not (parts and "__" in name)}


def _first_of(models: Sequence[Mapping[str, Any]]) -> Any:
    def first(key: str) -> Any:
        return next((model[key] for model in models if model.get(key)), None)

    return first


def _said(statements: Sequence[Mapping[str, Any]]) -> Iterable[tuple[str, str]]:
    """Statements of people and processes, the newest of each kind; they may come from anywhere."""
    newest = {statement["kind"]: statement["predicate"] for statement in statements}
    for kind, (label, written) in _WRITTEN.items():
        if predicate := newest.get(kind):
            try:
                yield label, written(predicate)
            except _UNDOCUMENTED:
                yield label, _STRANGE
    if lines := measured(statements):
        yield "Measured", lines
    others = sorted(set(newest) - {*_WRITTEN, "evaluation"})
    if others:
        yield "Also said", ", ".join(others)


def _audit(body: Mapping[str, Any]) -> str:
    policies = ", ".join(str(policy["name"]) for policy in body["policies"])
    return f"{body['verdict']} by policy {policies}: {body['summary']}"


def _rehearsal(body: Mapping[str, Any]) -> str:
    wrong = next((f": {check['message']}" for check in body["checks"] if not check["passed"]), "")
    return f"{'passed' if body['passed'] is True else 'failed'} on {str(body['at'])[:10]}{wrong}"


def _base(body: Mapping[str, Any]) -> str:
    return f"{body['name']}" + (f" = {body['reference']}" if body.get("reference") else "")


def _metrics(body: Mapping[str, Any]) -> str:
    return "  ".join(f"{key} {value:g}" for key, value in body["metrics"].items())


def _environment(body: Mapping[str, Any]) -> str:
    python = body.get("python") or {}
    found = body.get("distributions") or {}
    listed = found.items() if isinstance(found, Mapping) else ((one["name"], one["version"]) for one in found)
    parts = [f"Python {python.get('version', '?')}", *(f"{name} {version}" for name, version in listed)]
    git = body.get("git") or {}
    if git.get("commit"):
        parts.append(f"git {git['commit'][:12]}{' (with changes)' if git.get('dirty') else ''}")
    return ", ".join(parts)


_STRANGE = "not in the form that is documented; --json shows it"
_UNDOCUMENTED = (KeyError, TypeError, ValueError, AttributeError, NotRenderableError)
"""What drawing a statement of another form raises: statements may be copied in from anywhere."""

_WRITTEN: Mapping[str, tuple[str, Callable[[Mapping[str, Any]], str]]] = {
    "note": ("Note", lambda body: str(body["text"])),
    "metrics": ("Metrics", _metrics),
    "params": ("Parameters", lambda body: _settings(body["params"])),
    "base": ("Base", _base),
    "run": ("Run", lambda body: " ".join(str(part) for part in (body.get("run_id"), body.get("uri")) if part)),
    "environment": ("Environment", _environment),
    "rehearsal": ("Rehearsed", _rehearsal),
}
"""Kind of statement to its label on a card and how it is written there, in reading order."""


def _ports(ports: Sequence[Mapping[str, Any]]) -> str:
    texts = []
    for port in ports[:MAX_LISTED]:
        shape = port.get("shape")
        sides = "" if shape is None else "[" + ", ".join("?" if side is None else str(side) for side in shape) + "]"
        texts.append(f"{port['name']}: {port['dtype']}{sides}")
    if len(ports) > MAX_LISTED:
        texts.append(f"and {len(ports) - MAX_LISTED} more")
    return ", ".join(texts)


def _tokenizer(body: Mapping[str, Any]) -> str:
    count = body.get("vocabulary_size")
    parts = [body["kind"], f"{count:,} tokens" if count else ""]
    special = " ".join(dict.fromkeys(str(token) for token in body.get("special_tokens", {}).values()))
    return ", ".join(part for part in (*parts, f"special {special}" if special else "") if part)


def _outline(parts: Sequence[Mapping[str, Any]]) -> list[str]:
    """The tree of parts, one line each: as deep as fits, the rest counted."""
    for depth in (4, 3, 2, 1):
        lines = _tree(parts, depth)
        if len(lines) <= MAX_PARTS:
            return lines
    return [*lines[:MAX_PARTS], f"and {len(lines) - MAX_PARTS} more"]


def _tree(parts: Sequence[Mapping[str, Any]], depth: int, indent: str = "") -> list[str]:
    lines: list[str] = []
    for part in parts:
        settings = " ".join(f"{key}={_brief(value)}" for key, value in part.get("hyperparameters", {}).items())
        fitted = " ".join(f"{key} {shape}" for key, shape in part.get("fitted", {}).items())
        children = part.get("children", [])
        below = "" if depth > 1 or not children else f"({plural(len(children), 'part')})"
        name = f"{part['name']}: " if part["name"] else ""
        kind = str(part["kind"]).rpartition(".")[2]
        lines.append(indent + "  ".join(filter(None, (f"{name}{kind}", below, settings, fitted))))
        if depth > 1:
            lines += _tree(children, depth - 1, indent + "  ")
    return lines


def _settings(values: Mapping[str, Any], most: int = 12) -> str:
    """Settings in a paragraph: what is short first come, nested values only counted."""
    texts = [f"{key} {_brief(value)}" for key, value in values.items() if _brief(value)]
    hidden = len(values) - min(len(texts), most)
    if not texts:
        return f"{', '.join(list(values)[:most])} (nested: --json shows them)"
    return " · ".join(texts[:most]) + (f" · and {hidden} more" if hidden else "")


def _brief(value: object) -> str:
    """A value in a few characters, or nothing when only the whole of it would mean something."""
    if isinstance(value, str):
        return short(" ".join(value.split()), 60)
    if isinstance(value, float):
        return f"{value:g}"
    text = json.dumps(value, ensure_ascii=False, default=str)
    if isinstance(value, Mapping | list):
        inner = [_brief(one) for one in (value.values() if isinstance(value, Mapping) else value)]
        if not all(inner):
            return ""
        text = ", ".join(inner)
        if isinstance(value, Mapping):
            text = " ".join(f"{key}={one}" for key, one in zip(value, inner, strict=True))
    return text if len(text) <= 40 else ""


def _formats(summary: Mapping[str, Any]) -> str:
    formats = summary.get("formats", [])
    return f"; formats: {', '.join(formats)}" if len(formats) > 1 else ""


def _models(models: Sequence[Mapping[str, Any]]) -> Table:
    table = plain_table("Format", "Path", "What", right=("Parameters",))
    for model in models[:MAX_LISTED]:
        more = len(model["paths"]) - 1
        path = _tail(model["paths"][0], 32) + (f" +{more}" if more else "")
        what = " ".join(filter(None, (model.get("architecture"), model.get("framework_version"))))
        table.add_row(
            model["format"], path, short(what, 24), number(model["parameters"]) if model.get("parameters") else ""
        )
    if len(models) > MAX_LISTED:
        table.add_row("", f"and {len(models) - MAX_LISTED} more", "", "")
    return table


def _findings(findings: Sequence[Mapping[str, Any]]) -> Table:
    table = plain_table("Can", "What", "Where")
    for finding in findings[:MAX_LISTED]:
        style = "red" if finding["severity"] in _SEVERE else "yellow"
        offset = f" @{finding['offset']}" if finding.get("offset") is not None else ""
        table.add_row(Text(finding["severity"], style=style), finding["message"], f"{finding.get('path', '')}{offset}")
    if len(findings) > MAX_LISTED:
        table.add_row("", f"and {len(findings) - MAX_LISTED} more (--json lists all)", "")
    return table


def _files(files: Sequence[Mapping[str, Any]], *, everything: bool) -> RenderableType:
    few = everything or len(files) <= MAX_LISTED + 1
    shown = files if everything else sorted(files, key=lambda file: -file["size"])[: None if few else MAX_LISTED]
    packed = any(file.get("packed") for file in files)
    table = plain_table("File", "Digest", *[""][:packed], right=("Size",))
    for file in shown:
        told = ["packed" if file.get("packed") else ""][:packed]
        table.add_row(Text(file["path"], overflow="fold"), file["digest"][7:19], *told, size(file["size"]))
    if len(files) > len(shown):
        table.add_row(f"and {len(files) - len(shown)} smaller ones (--files lists all)", "", *[""][:packed], "")
    return table


def _listed(label: str, paths: Sequence[str]) -> RenderableType:
    more = f" and {len(paths) - MAX_LISTED} more" if len(paths) > MAX_LISTED else ""
    return Text(f"{label}: {', '.join(paths[:MAX_LISTED])}{more}")


def _metric_names(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    return list(dict.fromkeys(name for row in rows for name in (row.get("metrics") or {})))[:3]


def _rows() -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    return table


def plain_table(*columns: str, right: Sequence[str] = ()) -> Table:
    """A table without lines; columns are folded, never cut."""
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="dim")
    for column in columns:
        table.add_column(column, overflow="fold")
    for column in right:
        table.add_column(column, justify="right", no_wrap=True)
    return table


def _tail(text: str, width: int) -> str:
    """*text* in at most *width* characters, its end kept: tensor names differ at their ends."""
    return text if len(text) <= width else "…" + text[len(text) - width + 1 :]

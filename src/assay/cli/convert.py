"""``assay convert``: the same model in a form that runs nothing when it is loaded."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import click

from assay.cli.console import Bar, json_option, print_json, say, talk, warn
from assay.cli.context import REFERENCE, local_path, policy_option, registry_of, settings_of
from assay.cli.text import plural, visible
from assay.service.converting import Conversion, Step
from assay.service.publish import Pushed
from assay.spec.json import Json
from assay.spec.reference import Reference, is_path
from assay.wiring.auditing import guard_of
from assay.wiring.converting import TARGETS, push_converted
from assay.wiring.converting import convert as convert_model

_SHOWN = 5


@click.command()
@click.argument("source", metavar="PATH|REFERENCE", type=REFERENCE)
@click.argument("folder", metavar="[OUT]", required=False, type=click.Path(readable=False))
@click.option("--to", required=True, type=click.Choice(TARGETS), help="The form to convert to.")
@click.option("--push", "name", metavar="NAME", help="Store the result as a version of NAME instead of in a folder.")
@click.option(
    "--weights-only", is_flag=True, help="Keep the model's tensors and drop what has no safe form; says what was."
)
@policy_option
@json_option
@click.pass_context
def convert(
    context: click.Context,
    source: str,
    folder: str | None,
    *,
    to: str,
    name: str | None,
    weights_only: bool,
    policy: str | None,
    as_json: bool,
) -> None:
    """Convert a model to a safe form, and prove that it is the same.

    The result and every file that need not be converted go into OUT, a new folder (default: the model's name and the
    form). Torch files need no torch; other frameworks run in a sandbox. Without proof nothing is written.
    """
    if name is not None and folder is not None:
        raise click.UsageError("OUT and --push exclude each other")
    registry = None if is_path(source) and name is None else registry_of(context, create=is_path(source))
    if name is None:
        out = _default(source, to) if folder is None else local_path(folder, "OUT")
        _tell(convert_model(registry, source, out, to=to, weights_only=weights_only), None, as_json=as_json)
        return
    assert registry is not None
    guard = guard_of(settings_of(context, policy=policy), warn=warn)
    with TemporaryDirectory(prefix="assay-convert-") as scratch:
        made = convert_model(registry, source, Path(scratch) / "model", to=to, weights_only=weights_only)
        pushed = push_converted(registry, made, source, name, guard=guard, progress=Bar())
        _tell(made, pushed, as_json=as_json)


def tell_steps(conversion: Conversion) -> None:
    """Say what was converted, how that was proved, what was dropped and what stays as it was."""
    for step in conversion.steps:
        talk().print(visible(_step(step)))
        for item in step.made.dropped[:_SHOWN]:
            talk().print(f"dropped {visible(item.where)}: {visible(item.what)}")
        if len(step.made.dropped) > _SHOWN:
            talk().print(f"dropped {len(step.made.dropped) - _SHOWN} more things; --json lists them")
        for note in step.made.notes:
            talk().print(f"note: {visible(note)}")
        missing = _missing(step)
        if missing:
            warn(f"the sandbox was not complete: {missing}")
    for path, reason in list(conversion.kept.items())[:_SHOWN]:
        talk().print(f"kept as it is: {visible(path)}: {visible(reason)}")


def _tell(conversion: Conversion, pushed: Pushed | None, *, as_json: bool) -> None:
    if as_json:
        print_json(_json(conversion, pushed))
        return
    say(visible(str(conversion.folder)) if pushed is None else f"{pushed.version.reference} {pushed.version.manifest}")
    tell_steps(conversion)


def _step(step: Step) -> str:
    proof = step.made.proof
    said = []
    if proof.tensors:
        said.append(f"{plural(proof.tensors, 'array' if 'state' in proof.method else 'tensor')} equal bit for bit")
    elif "state" in proof.method:
        said.append("every value equal")
    if proof.outputs:
        apart = f"at most {proof.max_difference:.2g} apart" if proof.max_difference else "equal"
        said.append(f"{plural(proof.outputs, 'output number')} {apart}")
    where = f" (sandbox: {step.made.isolation['mechanism']})" if step.made.isolation else ""
    return f"{', '.join(step.made.replaced[:3])} -> {', '.join(step.made.files[:3])}: {', '.join(said)}{where}"


def _missing(step: Step) -> str:
    held = step.made.isolation or {}
    return ", ".join(f"{name} not held back" for name, value in held.items() if value is False)


def _json(conversion: Conversion, pushed: Pushed | None) -> Json:
    return {
        "folder": str(conversion.folder) if pushed is None else None,
        "reference": pushed.version.reference if pushed else None,
        "digest": str(pushed.version.manifest) if pushed else None,
        "steps": conversion.record["steps"],
        "kept": conversion.record["kept"],
    }


def _default(source: str, to: str) -> Path:
    stem = (
        Path(source).name.split(".")[0] or "model"
        if is_path(source)
        else Reference.parse(source).name.rpartition("/")[2]
    )
    return Path(f"{stem}-{to}")

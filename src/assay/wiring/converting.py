"""Converting what people name, and pushing safe forms instead of what they have."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from importlib.metadata import version as installed_version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from assay.artifact.collect import collect, tree_of
from assay.conversion.targets import TARGETS
from assay.errors import InvalidInput
from assay.later import later
from assay.ports.converters import Options
from assay.ports.progress import SILENT, Progress
from assay.service import converting, publish
from assay.service.converting import Conversion
from assay.service.examine import inspect
from assay.service.gate import Guard
from assay.service.publish import Base, Claims, Pushed
from assay.service.registry import Registry
from assay.spec.lineage import Relation
from assay.spec.reference import Reference, is_path
from assay.wiring.looking import look

if TYPE_CHECKING:
    from assay.conversion import registry as converters
    from assay.formats import registry as formats
else:
    converters = later("assay.conversion.registry")
    formats = later("assay.formats.registry")

__all__ = ["TARGETS", "convert", "push_converted", "safe_files"]


def convert(registry: Registry | None, text: str, out: Path, *, to: str, weights_only: bool = False) -> Conversion:
    """Convert what a path or a reference names into a new folder.

    Raises:
        InvalidInput: there is no such target (code ``unknown-target``), or as ``service.converting.convert``.
        NotFound: it is not there.
    """
    if to not in TARGETS:
        raise InvalidInput(
            f"no conversion to {to!r:.60}", code="unknown-target", hint=f"one of {', '.join(dict.fromkeys(TARGETS))}"
        )
    tree, inspection = look(registry, text)
    return converting.convert(
        tree,
        inspection,
        out,
        converters=converters.all_converters(),
        tool=_tool(),
        to=to,
        options=Options(weights_only),
    )


def push_converted(
    registry: Registry, conversion: Conversion, source: str, name: str, *, guard: Guard, progress: Progress = SILENT
) -> Pushed:
    """Push the outcome of a conversion as a version, saying what it was converted from.

    Raises:
        As ``service.publish.push``.
    """
    base = source if not is_path(source) else None
    if base is not None:
        base = registry.resolve(Reference.parse(base)).reference
    bases = () if base is None else (Base(base, Relation.CONVERTED_FROM),)
    claims = Claims(bases=bases, conversion=conversion.record)
    return publish.push(registry, collect(conversion.folder), name, guard=guard, claims=claims, progress=progress)


@contextmanager
def safe_files(
    files: Mapping[str, Path], claims: Claims, *, told: Callable[[Conversion], None] = lambda _: None
) -> Iterator[tuple[Mapping[str, Path], Claims]]:
    """Files to push instead of *files*: unsafe forms are converted, where there is a safe one.

    Args:
        files: entry path to file.
        claims: what is said about them; the conversion is added.
        told: hears what was converted.

    Raises:
        IntegrityError: a result is not the same (code ``not-equal``).
        Refused: it would have to run foreign code.
    """
    tree = tree_of(files)
    inspection = inspect(tree, formats.all_formats())
    if not converting.safe_form(inspection, converters.all_converters()):
        yield files, claims
        return
    with TemporaryDirectory(prefix="assay-safe-") as scratch:
        conversion = converting.convert(
            tree, inspection, Path(scratch) / "model", converters=converters.all_converters(), tool=_tool()
        )
        told(conversion)
        yield collect(conversion.folder, everything=True), replace(claims, conversion=conversion.record)


def _tool() -> str:
    return f"assay {installed_version('assay')}"

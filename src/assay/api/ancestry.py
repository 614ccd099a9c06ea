"""Where versions came from and what was made from them."""

from __future__ import annotations

from collections.abc import Sequence

from assay.api.given import PathLike, bases_of, registry_of, text_of, version_of
from assay.ports.progress import SILENT, Progress
from assay.spec.lineage import Edge, Lineage
from assay.wiring import lineage as tracing
from assay.wiring.lineage import Search


def lineage(
    reference: str,
    *,
    detect: bool = False,
    among: str | Sequence[str] = (),
    depth: int | None = None,
    home: PathLike | None = None,
    progress: Progress = SILENT,
) -> Lineage:
    """What a version was made from, and what was made from it, over all models.

    Args:
        reference: ``NAME``, ``NAME:N`` or ``NAME:ALIAS``.
        detect: propose edges from the weights; they have the source ``detected``, and nothing is recorded.
        among: the model, or models, to search in; all when empty.
        depth: steps to go; None goes to the end.
        home: the registry's folder.
        progress: hears about what is read.

    Raises:
        NotFound: there is no such version, or no such model to search in.
    """
    registry = registry_of(home)
    names = (among,) if isinstance(among, str) else tuple(among)
    search = Search(depth=depth, detect=detect, among=names, progress=progress)
    return tracing.lineage(registry, version_of(registry, reference), search)


def add_base(
    reference: str, base: str | Sequence[str], *, relation: str | None = None, home: PathLike | None = None
) -> None:
    """Record what a version was made from; nothing happens when that is said already.

    Args:
        reference: the version.
        base: a reference, or any name or URI, or several of them.
        relation: how, such as ``quantized-from``; fine-tuned from one, merged from several when None.
        home: the registry's folder.

    Raises:
        NotFound: there is no such version.
        InvalidInput: it would be its own ancestor, or there is no such relation.
    """
    registry = registry_of(home)
    tracing.say(registry, version_of(registry, reference), bases_of(base, relation))


def confirm_base(reference: str, base: str, *, relation: str | None = None, home: PathLike | None = None) -> Edge:
    """Record as confirmed that a version was made from another, with the evidence that its weights give.

    Args:
        reference, base: the two versions.
        relation: how; as the weights suggest when None.
        home: the registry's folder.

    Raises:
        Refused: the weights do not show it (code ``not-kin``); nothing is recorded.
        NotFound: there is no such version, or its bytes are not here.
        InvalidInput: it would be its own ancestor, or there is no such relation.
    """
    registry = registry_of(home)
    version, other = version_of(registry, reference), version_of(registry, base)
    return tracing.confirm(registry, version, other, relation=relation)


def retract_base(
    reference: str, base: str, *, reason: str, relation: str | None = None, home: PathLike | None = None
) -> tuple[str, ...]:
    """Take back what is said about a version and a base; the relations that were taken back.

    Args:
        reference: the version.
        base: as it was named, or a reference to it.
        reason: why; kept for good.
        relation: the one to take back; all there are when None. Given where nothing is said, it denies that relation.
        home: the registry's folder.

    Raises:
        NotFound: there is no such version, or nothing of that kind is said.
    """
    registry = registry_of(home)
    version = version_of(registry, reference)
    return tracing.take_back(
        registry, version, text_of("base", base), relation=relation, reason=text_of("reason", reason)
    )

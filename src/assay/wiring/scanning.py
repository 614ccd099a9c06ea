"""Scanning what people name: paths, references and OCI image layouts, several at once."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from assay.artifact.collect import collect, tree_of
from assay.audit.ruleset import ruleset
from assay.errors import AssayError, NotFound
from assay.service.gate import Guard
from assay.service.registry import files_of, read_manifest
from assay.service.remembering import forget_other_rules
from assay.service.scan import Scanned, every_version, scan_tree, scan_version
from assay.service.transfer import choose_tag
from assay.settings import Settings, expanded
from assay.spec.reference import Reference, is_path
from assay.wiring.auditing import guard_of
from assay.wiring.places import AUDITS, LAYOUT_SCHEME, open_layout, open_registry, parse_layout


@dataclass(frozen=True, slots=True)
class Failed:
    """A target that could not be scanned.

    Args:
        target: as it was named.
        error: why.
    """

    target: str
    error: AssayError


def scan(
    targets: Sequence[str], settings: Settings, *, paths: bool = False, fresh: bool = False, jobs: int | None = None
) -> Iterator[Scanned | Failed]:
    """Scan each target; what cannot be scanned is an outcome, not an exception.

    Args:
        targets: paths, references, or ``oci:DIR[:TAG]``.
        settings: registry and policy.
        paths: whether every target is a path, whatever it looks like.
        fresh: read everything again, also what is remembered.
        jobs: processes; as many as there are processors when None and there are several targets.
    """
    guard_of(settings)  # a policy that cannot be read is one error, not one per target
    one = partial(scan_one, settings=settings, paths=paths, fresh=fresh)
    count = min(jobs or os.cpu_count() or 1, len(targets))
    if count <= 1 or (jobs is None and len(targets) < _WORTH_PROCESSES):
        yield from map(one, targets)
        return
    with ProcessPoolExecutor(count, mp_context=multiprocessing.get_context("spawn")) as pool:
        yield from pool.map(one, targets)


_WORTH_PROCESSES = 8
"""Targets from which on starting processes pays."""


def scan_one(target: str, settings: Settings, *, paths: bool = False, fresh: bool = False) -> Scanned | Failed:
    """Scan one target."""
    try:
        guard = guard_of(settings)
        if target.startswith(LAYOUT_SCHEME) and not paths:
            return _layout(target, guard)
        if paths or is_path(target):
            return _path(target, guard)
        return _version(target, settings, guard, fresh=fresh)
    except AssayError as error:
        return Failed(target, error)


def all_targets(settings: Settings) -> list[str]:
    """Every version of the registry that has bytes, as references.

    Raises:
        NotFound: there is no registry.
    """
    registry = open_registry(settings)
    forget_other_rules(registry.state / AUDITS, ruleset())
    return [version.reference for version in every_version(registry)]


def _version(target: str, settings: Settings, guard: Guard, *, fresh: bool) -> Scanned:
    try:
        registry = open_registry(settings)
        version = registry.resolve(Reference.parse(target))
    except AssayError as error:
        if isinstance(error, NotFound) and Path(target).exists():
            error.hint = f"assay scan ./{target} looks at the file or folder of that name here"
        raise
    memory = None if fresh else registry.state / AUDITS
    return scan_version(registry, version, guard, memory=memory)


def _path(target: str, guard: Guard) -> Scanned:
    tree = tree_of(collect(expanded(target), everything=True))
    return scan_tree(tree, guard, target=target, subject=guard.subject_of(tree))


def _layout(target: str, guard: Guard) -> Scanned:
    folder, tag = parse_layout(target)
    blobs, index = open_layout(folder)
    chosen, descriptor = choose_tag(index, tag)
    manifest = read_manifest(blobs, descriptor.digest)
    tree = files_of(blobs, manifest)
    return scan_tree(tree, guard, target=f"{index.place}:{chosen}", subject=str(manifest.digest))

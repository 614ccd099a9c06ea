"""State dicts: the tensors of a version or a path for torch or numpy, whole, in part, or as they arrive."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from assay.api.given import PathLike, names_path, version_of, warn
from assay.artifact.bulk import EVERYTHING
from assay.artifact.reader import Artifact
from assay.artifact.tensors import AHEAD
from assay.errors import InvalidInput
from assay.loaders.tensors import FRAMEWORKS, stream_torch
from assay.policy.trust import NO_TRUST
from assay.service import loading
from assay.settings import read_settings
from assay.wiring.auditing import guard_of, policies_of
from assay.wiring.looking import open_artifact, open_version
from assay.wiring.places import open_registry


def load_tensors(
    reference: PathLike,
    *,
    only: str | Sequence[str] = (),
    framework: str = "torch",
    device: object = None,
    rows: slice | None = None,
    yanked: bool = False,
    policy: PathLike | None = None,
    home: PathLike | None = None,
) -> dict[str, Any]:
    """The tensors of a version or a path by name: a state dict.

    Of local files nothing is copied: tensors are views of a private memory map. They may be written to; the file stays
    as it is, and pages that are written become this process's own. What is packed or lies far away is decoded or read
    by several threads, straight into the tensors that are returned. Only the files and bytes that are asked for are
    read.

    Nothing of the files is executed, whatever their format: tensors are taken as numbers from the places that the
    index names, so files that ``load`` refuses to unpickle give their tensors. What the policy asks of a version
    itself holds here as for ``load``: signatures, and that it was not yanked.

    Args:
        reference: a reference, or a path.
        only: shell patterns of names (``encoder.*``), or one; all tensors when empty.
        framework: ``"torch"`` or ``"numpy"`` (read-only arrays).
        device: where to, as torch names it (``"cuda"``, ``"cuda:1"``, ``"meta"``); the processor's memory when None.
        rows: these rows of each tensor's first dimension; scalars come whole.
        yanked: load a version although it was yanked.
        policy: name of a built-in policy or the file of one; as the settings say when None.
        home: the registry's folder.

    Raises:
        NotFound: no such thing, or a pattern fits no tensor (code ``tensor-not-found``); the hint names what is near.
        Refused: it was yanked, or is not signed as the policy wants it.
        InvalidInput: a tensor is no plain array (code ``not-plain``), there is no such device or framework.
        MissingDependency: torch is not installed.
    """
    with _opened(reference, yanked=yanked, policy=policy, home=home) as artifact:
        _check(framework, device)
        if framework == "numpy":
            return artifact.tensors.load(only, rows=rows)
        found = dict(_torch(artifact, only, rows, device, EVERYTHING))
    return {name: found[name] for name in artifact.tensors if name in found}


def stream_tensors(
    reference: PathLike,
    *,
    only: str | Sequence[str] = (),
    framework: str = "torch",
    device: object = None,
    rows: slice | None = None,
    ahead: int = AHEAD,
    yanked: bool = False,
    policy: PathLike | None = None,
    home: PathLike | None = None,
) -> Iterator[tuple[str, Any]]:
    """Names and tensors one after the other, in the order they lie in the files: the first before the last is here.

    Args:
        reference: as for ``load_tensors``, like all but *ahead*.
        only: shell patterns of names, or one.
        framework: ``"torch"`` or ``"numpy"``.
        device: where to.
        rows: these rows of each tensor's first dimension.
        ahead: bytes that may be read before they are asked for.
        yanked: load a version although it was yanked.
        policy: name of a built-in policy or the file of one.
        home: the registry's folder.

    Raises:
        As ``load_tensors``; what is wrong with the request, before the first tensor.
    """
    artifact = _opened(reference, yanked=yanked, policy=policy, home=home)
    _check(framework, device)
    if framework == "numpy":
        return artifact.tensors.stream(only, rows=rows, ahead=ahead)
    return _torch(artifact, only, rows, device, ahead)


def _torch(
    artifact: Artifact, only: str | Sequence[str], rows: slice | None, device: object, ahead: int
) -> Iterator[tuple[str, Any]]:
    runs = artifact.tensors.runs(only, rows=rows)
    return stream_torch(artifact.tensors, artifact.tree, runs, device=device, ahead=ahead)


def _opened(reference: PathLike, *, yanked: bool, policy: PathLike | None, home: PathLike | None) -> Artifact:
    if names_path(reference):
        return open_artifact(None, str(reference))
    settings = read_settings(home=home, policy=policy)
    registry = open_registry(settings, warn=warn)
    version = version_of(registry, str(reference))
    # A whole guard knows every rule of the audit, which takes a tenth of a second and is asked nothing here.
    signed = any(policy.trust != NO_TRUST for policy in policies_of(settings))
    loading.admit(registry, version, guard=guard_of(settings, warn=warn) if signed else None, yanked=yanked)
    return open_version(registry, version)


def _check(framework: str, device: object) -> None:
    if framework not in FRAMEWORKS:
        raise InvalidInput(
            f"no framework {framework!r:.60}", code="unknown-framework", hint=f"one of {', '.join(FRAMEWORKS)}"
        )
    if framework == "numpy" and device is not None:
        raise InvalidInput("numpy arrays lie in the processor's memory", code="no-device", hint="framework='torch'")

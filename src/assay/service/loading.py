"""Load: look at an artifact, choose who can build it, give that loader a folder of its files, and nothing more.

The folder is a snapshot (``assay.service.snapshots``).
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from assay.errors import AssayError, CouldNot, InvalidInput, NotFound, Refused, StorageError
from assay.policy.policy import Gate
from assay.ports.loaders import DeviceLoader, Loader, PartLoader
from assay.service.examine import inspect
from assay.service.gate import Guard
from assay.service.registry import Registry
from assay.service.snapshots import holds_more, keep_for, scratch, snapshot
from assay.spec.description import Description
from assay.spec.inspection import Inspection
from assay.spec.manifest import Manifest
from assay.spec.records import Version
from assay.trees import Tree
from assay.trees.window import FileSource


class Choose(Protocol):
    """Picks the loader for what was found."""

    def __call__(self, inspection: Inspection, *, part: str | None = None) -> tuple[Loader, Description]:
        """The loader, and the description it is for.

        Args:
            inspection: what the artifact holds.
            part: an entry or folder; the model it belongs to is meant.

        Raises:
            NotFound: nobody can (code ``no-loader``), or no model has the entry.
            InvalidInput: several models are there and none leads (code ``ambiguous-model``).
        """


def load(
    registry: Registry,
    version: Version,
    *,
    guard: Guard,
    choose: Choose,
    snapshots: Path,
    part: str | None = None,
    device: object = None,
    yanked: bool = False,
) -> object:
    """The framework's own object for a version.

    Args:
        registry: where from.
        version: what.
        guard: what to understand it with, and the policies; it is looked at afresh, no earlier description or report
            is trusted.
        choose: picks the loader.
        snapshots: folder for shared snapshots, on the store's file system.
        part: as in ``build``.
        device: as in ``build``.
        yanked: load it although it was yanked.

    Raises:
        Refused: the policies do not let it be loaded (codes ``not-safe``, ``not-signed``), it was yanked (code
            ``version-yanked``), or a loader cannot build it without more than it allows.
        NotFound: no loader for this format (code ``no-loader``), or bytes are missing or purged.
        MissingDependency: the framework is not installed.
    """
    manifest, inspection = judged(registry, version, guard=guard, yanked=yanked)
    with ExitStack() as opened:
        folder = opened.enter_context(snapshot(registry.blobs, manifest, snapshots))
        made = build(folder, inspection, choose=choose, what=version.reference, part=part, device=device)
        keep_for(opened, made)
        return made


def judged(registry: Registry, version: Version, *, guard: Guard, yanked: bool = False) -> tuple[Manifest, Inspection]:
    """What a version is, once the policies let it be loaded: it is looked at afresh.

    Raises:
        As ``load``, for what the policies say and for what is missing.
    """
    manifest = registry.manifest(version)
    admit(registry, version, guard=guard, yanked=yanked)
    tree = registry.tree(manifest)
    inspection = _permitting(inspect(tree, guard.auditing().formats), guard)
    _, decision = guard.judge(tree, inspection, subject=str(manifest.digest))
    guard.admit(Gate.LOAD, decision, version.reference)
    return manifest, inspection


def admit(registry: Registry, version: Version, *, guard: Guard | None, yanked: bool = False) -> None:
    """What is asked of a version before anything of it is used, whatever its files hold.

    Args:
        registry: where from.
        version: what.
        guard: the policies; None where none of them asks who signed.
        yanked: admit it although it was yanked.

    Raises:
        Refused: it is not signed as the policies want it (code ``not-signed``), or was yanked (code
            ``version-yanked``).
    """
    if version.yanked is not None and not yanked:
        raise Refused(
            f"refused to load {version.reference}: it was yanked: {version.yanked}",
            code="version-yanked",
            hint="load another version, or this one all the same with yanked=True",
        )
    if guard is not None:
        guard.admit_signed(Gate.LOAD, registry, version)


def load_files(
    tree: Tree,
    folder: Path,
    *,
    guard: Guard,
    choose: Choose,
    what: str,
    part: str | None = None,
    device: object = None,
) -> object:
    """The framework's own object for files that were not pushed.

    Frameworks see the entries of *tree* and nothing else: what ``.assayignore`` hides was not looked at.

    Args:
        tree: the files.
        folder: where they lie.
        guard: what to understand them with, and the policies.
        choose: picks the loader.
        what: how messages call it.
        part: as in ``build``.
        device: as in ``build``.

    Raises:
        As ``load``.
    """
    inspection = inspect(tree, guard.auditing().formats)
    inspection = _permitting(inspection, guard)
    _, decision = guard.judge(tree, inspection, subject=guard.subject_of(tree))
    guard.admit(Gate.LOAD, decision, what)
    if not holds_more(folder, set(tree.paths)):
        return build(folder, inspection, choose=choose, what=what, part=part, device=device)
    with ExitStack() as opened:
        shown = opened.enter_context(scratch(f"the files of {what}"))
        try:
            _show(tree, shown)
        except OSError as error:
            raise StorageError.of(error, f"cannot lay out the files of {what} in {shown.parent}") from error
        made = build(shown, inspection, choose=choose, what=what, part=part, device=device)
        keep_for(opened, made)
        return made


def _show(tree: Tree, folder: Path) -> None:
    for entry in tree.paths:
        source, target = tree.source(entry), folder / entry
        target.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(source, FileSource):
            target.symlink_to(source.file.absolute())
        else:
            target.write_bytes(source.read(0, source.size))


def _permitting(inspection: Inspection, guard: Guard) -> Inspection:
    """The inspection for loaders, with the classes that the policies let pickles name."""
    if not guard.globals:
        return inspection
    described = tuple(replace(found, permitted=guard.globals) for found in inspection.descriptions)
    return replace(inspection, descriptions=described)


def build(
    folder: Path,
    inspection: Inspection,
    *,
    choose: Choose,
    what: str,
    part: str | None = None,
    device: object = None,
) -> object:
    """Choose a loader and run it; whatever the framework raises becomes one clear error.

    Args:
        folder: the files.
        inspection: what they hold.
        choose: picks the loader.
        what: what is loaded, for messages.
        part: an entry or folder of one model among several, or a part beside the model such as ``tokenizer``.
        device: where the model's tensors go, as its framework names it; None leaves that to the framework.

    Raises:
        InvalidInput: a *device* is named, and models of this format go to none (code ``no-device``).
    """
    is_entry = part is not None and any(path == part or path.startswith(f"{part}/") for path in inspection.sizes)
    loader, description = choose(inspection, part=part if is_entry else None)
    try:
        if device is not None and (part is None or is_entry):
            return _device_loader(loader, description, what).load_on(
                folder, description, descriptions=inspection.descriptions, device=device
            )
        if part is None or is_entry:
            return loader.load(folder, description, inspection.descriptions)
        return _part_loader(loader, description, what, part).load_part(folder, description, part)
    except AssayError:
        raise
    except (ImportError, MemoryError):
        raise
    except Exception as error:  # the seam to foreign code: frameworks raise anything
        reason = f"{type(error).__name__}: {error}".splitlines()[0][:300]
        raise CouldNot(
            f"{description.framework or description.format} could not load {what}: {reason}",
            code="loader-failed",
            hint="assay inspect shows what the files hold; another library version may be needed",
        ) from error


def _device_loader(loader: Loader, description: Description, what: str) -> DeviceLoader:
    if isinstance(loader, DeviceLoader):
        return loader
    raise InvalidInput(
        f"{what} is a {description.format} model, which is loaded onto no device",
        code="no-device",
        hint="leave device out; assay.load_tensors(..., device=...) places its tensors",
    )


def _part_loader(loader: Loader, description: Description, what: str, part: str) -> PartLoader:
    if isinstance(loader, PartLoader):
        return loader
    raise NotFound(
        f"{what} has no part {part!r:.100}; a {description.format} model has none beside itself",
        code="part-not-found",
        hint="name a file of the artifact, or leave part out",
    )

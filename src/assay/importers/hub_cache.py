"""Reading a Hugging Face cache: every snapshot of every model in it, with the refs that point there.

Layout: ``huggingface_hub``'s guide "Understand caching". A snapshot's files are links into ``blobs/``, whose names are
the SHA-256 of the bytes (large files) or git's SHA-1 of them: both are checked. Newer clients keep some blobs in a
store that is shared by all models of the cache, under names that say nothing of the bytes.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from assay.errors import AssayError, BadFormat, InvalidInput, NotFound
from assay.importers.local import small_file
from assay.ports.importers import Checksum, Files, Offered, Unreadable
from assay.spec.paths import check_path, check_together

PREFIX = "models--"
_SHA256 = re.compile(r"[0-9a-f]{64}", re.ASCII)
_SHA1 = re.compile(r"[0-9a-f]{40}", re.ASCII)
_MAX_TREE = 64 << 20
_MAX_REF = 1 << 10
_SHARED = "blobs"
"""The store that all models of a cache share, beside their folders."""


class HubCache:
    """A folder as ``HF_HUB_CACHE`` names it, or one model's folder in it.

    Args:
        folder: holds ``models--…`` folders, or is one.
    """

    system = "huggingface-cache"

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.place = str(folder)

    def offered(self) -> Iterator[Offered | Unreadable]:
        """Every snapshot, per model in the order in which they were downloaded.

        Raises:
            NotFound: there is no such folder, or no model in it (code ``import-source-missing``).
        """
        models = [self._folder] if is_model(self._folder) else sorted(filter(is_model, _folders(self._folder)))
        if not models:
            raise NotFound(
                f"no Hugging Face cache at {self._folder}: expected folders called {PREFIX}ORG--NAME in it",
                code="import-source-missing",
                hint="the cache is ~/.cache/huggingface/hub unless HF_HUB_CACHE says otherwise",
            )
        for model in models:
            yield from _model(model)


def is_model(folder: Path) -> bool:
    """Whether a folder is one model of a cache."""
    return folder.name.startswith(PREFIX) and (folder / "snapshots").is_dir()


def _folders(folder: Path) -> list[Path]:
    try:
        return [child for child in folder.iterdir() if child.is_dir()]
    except OSError:
        return []


def _model(folder: Path) -> Iterator[Offered | Unreadable]:
    name = folder.name.removeprefix(PREFIX).replace("--", "/")
    refs = _refs(folder / "refs")
    for snapshot in sorted(_folders(folder / "snapshots"), key=lambda path: (path.stat().st_mtime_ns, path.name)):
        downloaded = datetime.fromtimestamp(snapshot.stat().st_mtime, UTC).replace(microsecond=0)
        try:
            _check_complete(folder, snapshot)
        except AssayError as error:
            yield Unreadable(name, snapshot.name, error)
            continue
        yield Offered(
            model=name,
            label=snapshot.name,
            created=downloaded.isoformat().replace("+00:00", "Z"),
            aliases=tuple(ref for ref, commit in refs.items() if commit == snapshot.name),
            where=str(snapshot),
            open=partial(_open, folder, snapshot),
        )


def _refs(folder: Path) -> dict[str, str]:
    """Ref to commit; pull requests are left out."""
    found = {}
    for file in sorted(folder.rglob("*")):
        ref = file.relative_to(folder).as_posix()
        commit = None if ref.startswith("pr/") else small_file(file, _MAX_REF)
        if commit is not None:
            found[ref] = commit.decode("utf-8", "replace").strip()
    return found


def _check_complete(folder: Path, snapshot: Path) -> None:
    """Compare a snapshot with what the client wrote down of the repository's tree, where it did."""
    listing = folder / "trees" / f"{snapshot.name}.json"
    data = small_file(listing, _MAX_TREE)
    if data is None:
        return
    try:
        wanted = [check_path(str(path)) for path in json.loads(data)["files"]]
    except (ValueError, KeyError, TypeError, RecursionError, InvalidInput) as error:
        raise BadFormat(f"{listing} is not a list of files: {error}") from error
    missing = [path for path in wanted if not os.path.lexists(snapshot / path)]
    if missing:
        raise NotFound(
            f"the snapshot is not whole: {missing[0]} was never downloaded"
            + (f", and {len(missing) - 1} more" if len(missing) > 1 else ""),
            code="snapshot-incomplete",
            hint="download the whole repository first, or push the folder: assay push",
        )


@contextmanager
def _open(folder: Path, snapshot: Path) -> Iterator[Files]:
    own, shared = os.path.realpath(folder), os.path.realpath(folder.parent / _SHARED)
    paths: dict[str, Path] = {}
    checksums: dict[str, Checksum] = {}
    for parent, folders, names in os.walk(snapshot):
        # A folder is never a link in what the client makes; one that is leads to what is not of this snapshot.
        for name in (*names, *(folder for folder in folders if (Path(parent) / folder).is_symlink())):
            file = Path(parent) / name
            entry = check_path(file.relative_to(snapshot).as_posix())
            real = Path(os.path.realpath(file))
            if not real.is_relative_to(own) and not real.is_relative_to(shared):
                raise InvalidInput(
                    f"{file} leads out of the model's folder, to {real}",
                    code="link-outside",
                    hint="replace it by the file itself (cp -L)",
                )
            if not real.is_file():
                raise NotFound(
                    f"the bytes of {entry} are not in the cache: {real}",
                    code="location-missing",
                    hint="download the model again (hf download), then import again",
                )
            paths[entry] = real
            checksum = checksum_named(file.readlink().name if file.is_symlink() else "", real.name)
            if checksum is not None:
                checksums[entry] = checksum
    check_together(paths)
    yield Files(dict(sorted(paths.items())), checksums)


def checksum_named(*names: str) -> Checksum | None:
    """The checksum that the first of some names is: blobs are called by theirs."""
    for name in names:
        if _SHA256.fullmatch(name):
            return Checksum("sha256", name)
        if _SHA1.fullmatch(name):
            return Checksum("git-sha1", name)
    return None

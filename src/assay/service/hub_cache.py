"""A version in the shape of a Hugging Face cache, so that the libraries around the hub find it without a network.

Layout, as ``huggingface_hub`` writes it::

    models--ORG--NAME/
      blobs/<sha256>                 hard links to the snapshot's files, copies where no link can be made
      snapshots/<revision>/<path>    symbolic links to them
      refs/main, refs/<number> …     which revision is meant

The revision is the beginning of the artifact's digest, forty characters as a commit has.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path

from assay.errors import InvalidInput, StorageError
from assay.spec.manifest import Entry, Manifest

_PART = r"[A-Za-z0-9](?:[A-Za-z0-9_]|[-.](?![-.]))*"
_REPO = re.compile(rf"{_PART}(?:/{_PART})?")
_LONGEST = 96


def check_repo(repo: str) -> str:
    """The same name, when the hub's libraries take it.

    Raises:
        InvalidInput: they do not (code ``bad-repo``).
    """
    if not _REPO.fullmatch(repo) or len(repo) > _LONGEST or repo.endswith((".git", ".", "-")):
        raise InvalidInput(
            f"{repo!r:.120} cannot be the name of a repository of the hub",
            code="bad-repo",
            hint="repo='ORG/NAME': letters, digits, and single '-', '_' and '.'",
        )
    return repo


def lay_out(folder: Path, manifest: Manifest, cache: Path, repo: str, *, refs: Iterable[str]) -> Path:
    """Add a version to a cache; what is there already stays. The revision's folder.

    Args:
        folder: the artifact's files under their own names.
        manifest: says which they are.
        cache: the cache's folder, made when it is not there.
        repo: ``ORG/NAME`` or ``NAME``.
        refs: names that are to mean this revision from now on.

    Raises:
        StorageError: the cache cannot be written.
    """
    home = cache / f"models--{check_repo(repo).replace('/', '--')}"
    revision = home / "snapshots" / manifest.digest.hex[:40]
    try:
        (home / "blobs").mkdir(parents=True, exist_ok=True)
        for entry in manifest.entries():
            blob = home / "blobs" / entry.digest.hex
            _take(folder / entry.path, blob)
            _point(revision, entry, blob)
        for ref in refs:
            _put(home / "refs" / ref, lambda name: name.write_text(revision.name))
    except OSError as error:
        raise StorageError.of(error, f"cannot write the cache {cache}") from error
    return revision


def _take(file: Path, blob: Path) -> None:
    """Make *blob* the same file; one that is there and is not, is replaced: somebody may have written to it."""
    real = Path(os.path.realpath(file))
    if blob.exists() and real.samefile(blob):
        return

    def make(name: Path) -> None:
        try:
            os.link(real, name)
        except OSError:  # another file system, or too many links
            shutil.copyfile(real, name)
            name.chmod(0o444)

    _put(blob, make)


def _point(revision: Path, entry: Entry, blob: Path) -> None:
    link = revision / entry.path
    target = os.path.relpath(blob, link.parent)
    if not link.is_symlink() or str(link.readlink()) != target:
        _put(link, lambda name: name.symlink_to(target))


def _put(place: Path, make: Callable[[Path], object]) -> None:
    """Make a file under another name first, so that nobody sees half of it."""
    place.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".making-", dir=place.parent) as scratch:
        made = Path(scratch) / "made"
        make(made)
        made.replace(place)

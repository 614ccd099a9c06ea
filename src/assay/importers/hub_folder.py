"""Reading a folder that ``hf download --local-dir`` filled: one version, with what the client wrote down of each file.

Layout: ``huggingface_hub/_local_folder.py``: beside the files lies ``.cache/huggingface/download/PATH.metadata`` with
the commit, the file's entity tag (SHA-256 or git's SHA-1) and the time of the download.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from assay.artifact.collect import collect
from assay.importers.hub_cache import checksum_named
from assay.importers.local import small_file
from assay.ports.importers import Checksum, Files, Offered

_CACHE = ".cache/huggingface"
_ENDING = ".metadata"
_MAX_METADATA = 4 << 10


@dataclass(frozen=True, slots=True)
class _Downloaded:
    """What the client wrote down of one file: commit, entity tag, and seconds since 1970."""

    commit: str
    etag: str
    at: float


@dataclass(frozen=True, slots=True)
class HubFolder:
    """A folder of one downloaded repository.

    Args:
        folder: the folder.
    """

    folder: Path
    system: str = "huggingface-cache"

    @property
    def place(self) -> str:
        """The folder."""
        return str(self.folder)

    def offered(self) -> Iterator[Offered]:
        """The one version: the commit that was downloaded last."""
        written = _downloads(self.folder)
        newest = max(written.values(), key=lambda found: found.at, default=_Downloaded("downloaded", "", 0.0))
        moment = datetime.fromtimestamp(int(newest.at), UTC).isoformat().replace("+00:00", "Z")
        yield Offered(
            model=self.folder.resolve().name,
            label=newest.commit,
            created=moment if written else None,
            where=str(self.folder),
            open=partial(_open, self.folder, written),
        )


def is_downloaded(folder: Path) -> bool:
    """Whether the client downloaded a repository into a folder."""
    return (folder / _CACHE / "download").is_dir()


def _downloads(folder: Path) -> dict[str, _Downloaded]:
    """Path to what was written down of it."""
    found = {}
    top = folder / _CACHE / "download"
    for file in sorted(top.rglob(f"*{_ENDING}")):
        lines = (small_file(file, _MAX_METADATA) or b"").decode("utf-8", "replace").split("\n")
        try:
            said = _Downloaded(lines[0].strip(), lines[1].strip(), float(lines[2]))
            datetime.fromtimestamp(said.at, UTC)
        except (IndexError, ValueError, OverflowError, OSError):
            continue
        found[file.relative_to(top).as_posix().removesuffix(_ENDING)] = said
    return found


@contextmanager
def _open(folder: Path, written: dict[str, _Downloaded]) -> Iterator[Files]:
    paths = {
        entry: file
        for entry, file in collect(folder, everything=True).items()
        if not entry.startswith(f"{_CACHE}/")
    }  # fmt: skip
    checksums: dict[str, Checksum] = {}
    for entry, said in written.items():
        # A file that was changed since is what the person made of it, as the client sees it, too.
        if entry in paths and paths[entry].stat().st_mtime - 1 <= said.at:
            checksum = checksum_named(said.etag)
            if checksum is not None:
                checksums[entry] = checksum
    yield Files(paths, checksums)

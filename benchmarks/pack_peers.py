"""Who the packs are compared with: each stores some files, tells how large that is, and gives them back.

    python benchmarks/pack_peers.py NAME put|get FOLDER FILE ...

NAME is one of ``PEERS``. Prints a line of JSON: seconds, seconds of processors, peak memory and stored bytes. What a
long-lived service would not pay each time is outside the clock: the start of the interpreter, imports (restic and borg
are programs, and are started), the digests by which a store knows its blobs, making an empty repository.
"""

from __future__ import annotations

import hashlib
import json
import os
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np

from assay.formats.registry import all_formats
from assay.packing import directory
from assay.packing.directory import Directory, Hint
from assay.packing.reading import Decoder, PackedSource
from assay.packing.segments import Segment
from assay.packing.writing import write_pack
from assay.ports.packs import Effort, Stretch, ToPack
from assay.service.examine import inspect
from assay.spec.digest import Digest
from assay.streams.durable import write_all
from assay.trees import Source, Tree, read_into
from assay.trees.window import FileSource

SECRET = {"RESTIC_PASSWORD": "benchmark", "BORG_PASSPHRASE": "", "BORG_RELOCATED_REPO_ACCESS_IS_OK": "yes"}
WINDOW = 16 << 20


class Spent(NamedTuple):
    """What something took: seconds on the clock, and of processors, which depend less on what else the machine does."""

    wall: float
    cpu: float


class Clock:
    """Runs since it was made; children that ended count."""

    def __init__(self) -> None:
        self._began = self._now()

    def stop(self) -> Spent:
        """What was spent."""
        wall, cpu = self._now()
        return Spent(wall - self._began.wall, cpu - self._began.cpu)

    def _now(self) -> Spent:
        children = resource.getrusage(resource.RUSAGE_CHILDREN)
        return Spent(time.perf_counter(), time.process_time() + children.ru_utime + children.ru_stime)


class Shelf:
    """One pack, and nothing else."""

    def __init__(self, file: Path | None = None) -> None:
        self._segments: dict[bytes, Segment] = {}
        self.blobs: dict[Digest, PackedSource] = {}
        if file is None:
            return
        self._source: Source = FileSource(file)
        end = self._source.read(self._source.size - 64, 64)
        offset, length, digest = directory.read_footer(end, self._source.size)
        self.directory: Directory = directory.decode(self._source.read(offset, length), digest)
        self._segments = {one.id: one for one in self.directory.segments}
        decoder = Decoder(self)
        for blob in self.directory.blobs:
            parts = [(part, self._segments[part].size) for part in blob.parts]
            self.blobs[blob.digest] = PackedSource(decoder, parts)

    def find(self, segment: bytes) -> tuple[Segment, Source] | None:
        """A segment of the pack."""
        found = self._segments.get(segment)
        return None if found is None else (found, self._source)

    def alike(self, *_: object) -> Sequence[tuple[bytes, Hint, int]]:
        """Nothing but what the pack itself offers while it is written."""
        return ()


def tensors(file: Path) -> list[Stretch]:
    """Where the tensors of a file lie, as its format says."""
    tree = Tree({file.name: FileSource(file)})
    found = {
        (one.extent.offset, one.extent.length): Stretch(one.extent.offset, one.extent.length, one.name, one.dtype)
        for described in inspect(tree, all_formats()).descriptions
        for one in described.tensors
        if one.extent is not None
    }
    return list(found.values())


def wanted(files: Sequence[Path]) -> list[tuple[ToPack, Source]]:
    """Files as blobs, each near to those before it."""
    found: list[tuple[ToPack, Source]] = []
    before: list[Digest] = []
    for file in files:
        with file.open("rb") as handle:
            digest = Digest("sha256", hashlib.file_digest(handle, "sha256").hexdigest())
        found.append((ToPack(digest, tensors(file), tuple(before)), FileSource(file)))
        before.append(digest)
    return found


class Assay:
    """One pack; with or without the compiled kernels, as ``ASSAY_NATIVE`` says."""

    def __init__(self, folder: Path, effort: Effort = Effort.DEFAULT) -> None:
        self.folder, self._effort = folder, effort

    def put(self, files: Sequence[Path]) -> Spent:
        """Pack them."""
        blobs = wanted(files)
        (self.folder / "names.json").write_text(json.dumps([str(one.digest) for one, _ in blobs]))
        began = Clock()
        with (self.folder / "pack").open("w+b") as file:
            written = write_pack(file, blobs, Shelf(), effort=self._effort, limit=1 << 50)
        seconds = began.stop()
        if written.damaged or written.left:
            raise SystemExit("not everything was packed")
        return seconds

    def get(self, files: Sequence[Path], out: Path) -> Spent:
        """Write them out again."""
        names = json.loads((self.folder / "names.json").read_text())
        began = Clock()
        blobs = Shelf(self.folder / "pack").blobs
        rooms = [np.empty(WINDOW, np.uint8).data for _ in range(2)]
        with ThreadPoolExecutor(1) as writing:  # what was decoded is written while the next is decoded
            for file, name in zip(files, names, strict=True):
                source = blobs[Digest.parse(name)]
                with (out / file.name).open("wb", buffering=0) as handle:
                    written = None
                    for offset in range(0, source.size, WINDOW):
                        found = rooms[0][: read_into(source, offset, rooms[0])]
                        if written is not None:
                            written.result()
                        written = writing.submit(write_all, handle.fileno(), found)
                        rooms.reverse()
                    if written is not None:
                        written.result()
        return began.stop()


class AssayMemory(Assay):
    """The same pack, given back into memory that is there."""

    def get(self, files: Sequence[Path], out: Path) -> Spent:
        """Into one array, which is written out afterwards, off the clock."""
        names = json.loads((self.folder / "names.json").read_text())
        room = np.zeros(max(file.stat().st_size for file in files), np.uint8)
        room[::4096] = 1
        seconds = Spent(0, 0)
        for file, name in zip(files, names, strict=True):
            began = Clock()
            source = Shelf(self.folder / "pack").blobs[Digest.parse(name)]
            length = read_into(source, 0, room.data)
            spent = began.stop()
            seconds = Spent(seconds.wall + spent.wall, seconds.cpu + spent.cpu)
            (out / file.name).write_bytes(room[:length].data)
        return seconds


class Xet:
    """The client of Hugging Face's storage, with a store in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        os.environ["HF_XET_CACHE"] = str(folder / "cache")

    def put(self, files: Sequence[Path]) -> Spent:
        """Upload them one after the other: what is sent at once is not compared with each other."""
        import hf_xet

        began = Clock()
        found = []
        for names in self.calls(files):
            found += hf_xet.upload_files(names, f"local://{self.folder}/store", None, None, None, None)
        seconds = began.stop()
        (self.folder / "names.json").write_text(json.dumps([one.hash for one in found]))
        return seconds

    def calls(self, files: Sequence[Path]) -> list[list[str]]:
        """Which are uploaded at once."""
        return [[str(file)] for file in files]

    def get(self, files: Sequence[Path], out: Path) -> Spent:
        """Download them in one call."""
        import hf_xet

        names = json.loads((self.folder / "names.json").read_text())
        asked = [
            hf_xet.PyXetDownloadInfo(str(out / file.name), name, file.stat().st_size)
            for file, name in zip(files, names, strict=True)
        ]
        began = Clock()
        hf_xet.download_files(asked, f"local://{self.folder}/store", None, None, None)
        return began.stop()


class XetAtOnce(Xet):
    """The same, all files in one call: faster, and larger."""

    def calls(self, files: Sequence[Path]) -> list[list[str]]:
        """All."""
        return [[str(file) for file in files]]


class _Program:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._environment = {**os.environ, **SECRET, "BORG_BASE_DIR": str(folder / "base")}

    def run(self, *command: str, where: Path | None = None) -> Spent:
        began = Clock()
        subprocess.run(command, check=True, env=self._environment, cwd=where, stdout=subprocess.DEVNULL)
        return began.stop()


class Restic(_Program):
    """restic, which compresses with zstd ("auto")."""

    def put(self, files: Sequence[Path]) -> Spent:
        """One backup."""
        self.run("restic", "-q", "-r", str(self.folder / "store"), "init")
        return self.run("restic", "-q", "--no-cache", "-r", str(self.folder / "store"), "backup", *map(str, files))

    def get(self, files: Sequence[Path], out: Path) -> Spent:
        """Restore it."""
        seconds = self.run(
            "restic", "-q", "--no-cache", "-r", str(self.folder / "store"), "restore", "latest", "--target", str(out)
        )
        _flatten(files, out)
        return seconds


class Borg(_Program):
    """borg, with its zstd at level 1."""

    def put(self, files: Sequence[Path]) -> Spent:
        """One archive."""
        self.run("borg", "init", "-e", "none", str(self.folder / "store"))
        place = f"{self.folder / 'store'}::one"
        return self.run("borg", "create", "-C", "zstd,1", "--files-cache", "disabled", place, *map(str, files))

    def get(self, files: Sequence[Path], out: Path) -> Spent:
        """Extract it."""
        seconds = self.run("borg", "extract", f"{self.folder / 'store'}::one", where=out)
        _flatten(files, out)
        return seconds


def _flatten(files: Sequence[Path], out: Path) -> None:
    for file in files:
        (out / str(file.absolute()).lstrip("/")).replace(out / file.name)


PEERS = {
    "assay": Assay,
    "assay smallest": lambda folder: Assay(folder, Effort.SMALLEST),
    "assay memory": AssayMemory,
    "xet": Xet,
    "xet at once": XetAtOnce,
    "restic": Restic,
    "borg": Borg,
}


def missing(name: str) -> str:
    """Why a peer cannot take part here; empty where it can."""
    if name in ("restic", "borg"):
        return "" if shutil.which(name) else f"{name} is not installed"
    if name.startswith("xet"):
        try:
            import hf_xet  # noqa: F401
        except ImportError:
            return "hf_xet is not installed"
    return ""


def stored(folder: Path) -> int:
    """Bytes of what a peer keeps."""
    pack = folder / "pack"
    if pack.is_file():
        return pack.stat().st_size
    return sum(one.stat().st_size for one in (folder / "store").rglob("*") if one.is_file())


def measure(
    name: str, do: str, folder: Path, files: Sequence[Path], *, native: bool = True, **extra: str
) -> dict[str, float]:
    """One put or get in a process of its own."""
    command = [sys.executable, __file__, name, do, str(folder), *map(str, files)]
    environment = {**os.environ, "ASSAY_NATIVE": "1" if native else "0", **extra}
    done = subprocess.run(command, check=True, env=environment, capture_output=True, text=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> None:
    """Do one thing, and tell."""
    name, do, folder, files = sys.argv[1], sys.argv[2], Path(sys.argv[3]), [Path(one) for one in sys.argv[4:]]
    folder.mkdir(parents=True, exist_ok=True)
    peer = PEERS[name](folder)
    if do == "put":
        seconds = peer.put(files)
    else:
        out = Path(os.environ.get("PACK_PEERS_OUT") or folder / "out")
        shutil.rmtree(out, ignore_errors=True)
        out.mkdir()
        seconds = peer.get(files, out)
        for file in files:
            if subprocess.run(["cmp", str(file), str(out / file.name)], check=False).returncode:
                raise SystemExit(f"{name}: {file.name} came back otherwise")
        shutil.rmtree(out)
    usage = [resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    peak = max(usage) if name in ("restic", "borg") else usage[0]
    print(json.dumps({"seconds": seconds.wall, "cpu": seconds.cpu, "peak": peak << 10, "stored": stored(folder)}))


if __name__ == "__main__":
    main()

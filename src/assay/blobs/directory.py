"""The embedded default: blobs as plain files in a folder that is also an OCI image layout.

    ROOT/
      blobs/sha256/<hex>      the bytes, exactly; read-only; visible only when complete and on the disk
      staging/<random>        being written (``staging``)
      damaged/<hex>-<n>       taken out of use by ``set_aside``

Rule for editors: the order is write, flush, rename, flush the folder. A blob is only ever replaced by bytes that were
just hashed and flushed. Its time is renewed whenever somebody relies on it (``sweeping``).

Not here: whether bytes match their digest later (``assay.service``), and what a home is (``home``).
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path

from assay.blobs.elsewhere import Elsewhere
from assay.blobs.known import KnownBlobs
from assay.blobs.receiving import receive
from assay.blobs.sources import Stamp, open_source, remove_original
from assay.blobs.staging import HOLD, Staged, Staging
from assay.blobs.sweeping import DirectorySweep, Gate, Holds, moment
from assay.errors import InvalidInput, NotFound, StorageError
from assay.ports.blobs import Leftover, Stored
from assay.ports.places import Received
from assay.ports.progress import SILENT, Progress
from assay.spec.digest import Digest
from assay.streams.copying import digest_descriptor, digest_file, store_copy
from assay.streams.durable import flush, write_all
from assay.trees import Source
from assay.trees.window import FileSource, MemorySource

_HEX = re.compile(r"[0-9a-f]{64}|[0-9a-f]{128}", re.ASCII)


class DirectoryStore:
    """Blobs as files below a folder; safe for several threads and processes at once.

    Args:
        root: the folder; it and the folders in it are made when something is first written.
        elsewhere: where else blobs may be that then are not stored here.
    """

    def __init__(self, root: Path, *, elsewhere: Elsewhere | None = None) -> None:
        self.root = root
        self.gate = Gate(root / "blobs")
        self.own = Holds()
        self._elsewhere = elsewhere
        self.staging = Staging(root / "staging")
        self._blobs = root / "blobs"
        self._known = KnownBlobs(self._blobs / "sha256")

    def size(self, digest: Digest) -> int | None:
        """Length of a blob in bytes, or None when it is not here."""
        try:
            return self.path(digest).stat().st_size
        except FileNotFoundError:
            return None
        except OSError as error:
            raise StorageError.of(error, f"cannot look for blob {digest}", digest=str(digest)) from error

    def open(self, digest: Digest) -> Source:
        """The blob's bytes, readable at any offset.

        Raises:
            NotFound: it is not here (code ``blob-missing``).
            StorageError: the file cannot be read.
        """
        try:
            return _BlobSource(self.path(digest))
        except FileNotFoundError:
            raise NotFound(f"no such blob: {digest}", code="blob-missing", digest=str(digest)) from None
        except OSError as error:
            raise StorageError.of(error, f"cannot open blob {digest}", digest=str(digest)) from error

    def local_file(self, digest: Digest) -> Path | None:
        """The file that holds exactly these bytes; the caller must not write to it."""
        path = self.path(digest)
        return path if path.is_file() else None

    def check(self, digest: Digest, *, progress: Progress = SILENT) -> bool:
        """Whether a blob's bytes still match its digest; reads all of them.

        Raises:
            NotFound: it is not here (code ``blob-missing``).
            StorageError: the file cannot be read.
        """
        try:
            return digest_file(self.path(digest), algorithm=digest.algorithm, progress=progress) == digest
        except FileNotFoundError:
            raise NotFound(f"no such blob: {digest}", code="blob-missing", digest=str(digest)) from None
        except OSError as error:
            raise StorageError.of(error, f"cannot read blob {digest}", digest=str(digest)) from error

    def digests(self) -> Iterator[Digest]:
        """Every blob, in no particular order; files that are no blobs are left out."""
        return (digest for digest, _ in self._listed())

    def inventory(self) -> Iterator[Stored]:
        """Every blob with its size and when it was last added, in no particular order."""
        for digest, entry in self._listed():
            try:
                found = entry.stat(follow_symlinks=False)
            except FileNotFoundError:
                continue  # deleted while it was listed
            yield Stored(digest, found.st_size, moment(found.st_mtime_ns))

    @contextmanager
    def hold(self) -> Iterator[None]:
        """Until the end, no sweep deletes what is added or renewed from here on."""
        with ExitStack() as held:
            with self._writing("anything"):
                hold = held.enter_context(self.staging.new(prefix=HOLD))
            held.enter_context(self.own.one(hold.descriptor))
            yield

    def renew(self, digest: Digest) -> int | None:
        """Count a blob as added now: its length, or None when it is not here.

        Raises:
            StorageError: the store cannot be written.
        """
        with self._writing(f"blob {digest.short}"):
            size = self.size(digest)
            if size is None or self._touch(digest) or self._copy_afresh(digest):
                return size
        return None

    @contextmanager
    def sweep(self) -> Iterator[DirectorySweep]:
        """Hold off whoever adds or renews blobs.

        Raises:
            StorageError: the store cannot be written.
        """
        with ExitStack() as locked:
            with self._failing("clean up"):
                locked.enter_context(self.gate.alone())
                sweep = DirectorySweep(self.path, self.staging.held_since())
            try:
                yield sweep
            finally:
                with self._failing("clean up"):
                    for folder in sweep.touched:
                        flush(folder)

    def leftovers(self, *, clear: bool = False) -> Sequence[Leftover]:
        """What dead writers left in ``staging/``."""
        with self._failing("look at what was left in"):
            found = [
                Leftover(f"{self.staging.folder.name}/{path.name}", seen.st_size, moment(seen.st_mtime_ns))
                for path, seen in self.staging.dead()
            ]
            if clear and found:
                self.staging.sweep()
        return found

    def add(self, data: bytes) -> Digest:
        """Keep small bytes. What is there already is compared, and replaced when it is damaged.

        Raises:
            StorageError: nothing is kept; code ``store-full``, ``store-read-only`` or ``storage``.
        """
        digest = Digest.of(data)
        with self._writing(f"a blob of {len(data)} bytes"):
            there = self._holds(digest, data) and self._touch(digest)
            if not there and not self._is_kept(digest, MemorySource(data)):
                with self.staging.new() as staged:
                    write_all(staged.descriptor, data)
                    os.fsync(staged.descriptor)
                    self._show(staged, digest)
                self._flush_folder(digest)
        return digest

    def add_file(self, file: Path, *, move: bool = False, progress: Progress = SILENT) -> tuple[Digest, int]:
        """Keep the bytes of a file; returns digest and size.

        See ``assay.ports.blobs.BlobWriter.add_file``. A large blob that is here already is compared in full, a small
        or damaged one is replaced by the fresh copy: either way what is here afterwards was read and hashed just now.

        Raises:
            Conflict: the file changed while it was read (code ``source-changed``); nothing is kept.
            NotFound: the file is not there.
            InvalidInput: it is no regular file (code ``not-a-file``) or may not be read (``source-unreadable``).
            StorageError: nothing is kept; code ``store-full``, ``store-read-only`` or ``storage``.
        """
        stored = self._add_one(file, link=move, progress=progress)
        with self._writing(str(file)):
            self._flush_folder(stored[0])
        if move:
            remove_original(file)
        return stored

    def add_files(
        self, files: Sequence[Path], *, link: bool = False, threads: int | None = None, progress: Progress = SILENT
    ) -> list[tuple[Digest, int]]:
        """Keep the bytes of many files, several at a time; digests and sizes in the order of *files*.

        All are durable on return. When one fails, its error is raised and the files not begun are left alone; blobs
        stored by then are complete, and nothing refers to them.

        Args:
            files: what to store.
            link: take files over by hard link where that can be; the originals stay, for the caller to remove.
            threads: files at a time; the number of processors, at most eight, when None.
            progress: only hears ``advance``.

        Raises:
            AssayError: as ``add_file``.
        """
        workers = max(1, min(threads or min(8, os.cpu_count() or 1), len(files)))
        with ThreadPoolExecutor(workers, thread_name_prefix="assay-add") as pool:
            jobs = [pool.submit(self._add_one, file, link=link, progress=progress) for file in files]
            try:
                stored = [job.result() for job in jobs]
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise
        with self._writing("blobs"):
            if stored:
                self._flush_folder(stored[0][0])
        return stored

    def receive(
        self, digest: Digest, source: Source, *, file: Path | None = None, progress: Progress = SILENT
    ) -> Received:
        """Keep the bytes of *source*: see ``assay.ports.places.Receiver``.

        Raises:
            IntegrityError: they do not match the digest; nothing is kept.
            StorageError: source or disk failed; of a large blob what came so far is kept for the next time.
        """
        with self._writing(f"blob {digest.short}"):
            show = partial(self._show, digest=digest)
            received = receive(self.staging, show, digest, source, file=file, progress=progress)
            self._known.learn(digest, received.size)
            self._flush_folder(digest)
        return received

    def delete(self, digest: Digest) -> bool:
        """Remove a blob, and what was set aside under its digest; whether it was here.

        Raises:
            StorageError: it cannot be removed.
        """
        try:
            for aside in (self.root / "damaged").glob(f"{digest.hex}-*"):
                aside.unlink()
            self.path(digest).unlink()
            self._flush_folder(digest)
        except FileNotFoundError:
            return False
        except OSError as error:
            raise StorageError.of(error, f"cannot remove blob {digest}", digest=str(digest)) from error
        return True

    def set_aside(self, digest: Digest) -> Path | None:
        """Move a damaged blob to ``damaged/``, so that it no longer counts; None when it was not here.

        Raises:
            StorageError: it cannot be moved.
        """
        folder = self.root / "damaged"
        try:
            folder.mkdir(exist_ok=True)
            number = 1
            while (target := folder / f"{digest.hex}-{number}").exists():
                number += 1
            self.path(digest).rename(target)
            self._flush_folder(digest)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise StorageError.of(error, f"cannot set blob {digest} aside", digest=str(digest)) from error
        return target

    def path(self, digest: Digest) -> Path:
        """Where a blob lies, if it is here."""
        return self._blobs / digest.algorithm / digest.hex

    def _listed(self) -> Iterator[tuple[Digest, os.DirEntry[str]]]:
        try:
            for algorithm in sorted(os.listdir(self._blobs)):  # noqa: PTH208 - a name is all that is needed
                with os.scandir(self._blobs / algorithm) as found:
                    for entry in found:
                        if _HEX.fullmatch(entry.name):
                            with suppress(InvalidInput):
                                yield Digest(algorithm, entry.name), entry
        except FileNotFoundError:
            return
        except OSError as error:
            raise StorageError.of(error, f"cannot list {self._blobs}") from error

    def _holds(self, digest: Digest, data: bytes) -> bool:
        try:
            return self.path(digest).stat().st_size == len(data) and self.path(digest).read_bytes() == data
        except FileNotFoundError:
            return False

    def _add_one(self, file: Path, *, link: bool, progress: Progress) -> tuple[Digest, int]:
        with self._writing(str(file)):
            if link:
                with self.staging.link(file) as staged:
                    if staged is not None:
                        return self._take(file, staged, progress)
            with open_source(file) as source:
                before = Stamp.of(source)
                known = self._known.match(source, before.size, progress=progress)
                if known is not None:
                    before.check_unchanged(source, file)
                    if self._touch(known):
                        return known, before.size
                    progress = SILENT  # heard of every byte already
                elif self._elsewhere is not None:
                    packed = self._elsewhere.match(source, before.size, progress=progress)
                    if packed is not None:
                        before.check_unchanged(source, file)
                        return packed, before.size
                with self.staging.new() as staged:
                    digest, size = store_copy(source, staged.descriptor, before.size, progress=progress)
                    before.check_unchanged(source, file)
                    if self._is_kept(digest, FileSource(staged.path)):
                        return digest, size
                    self._show(staged, digest)
                    self._known.learn(digest, size)
                    return digest, size

    def _take(self, file: Path, staged: Staged, progress: Progress) -> tuple[Digest, int]:
        before = Stamp.of(staged.descriptor)  # after linking, which itself counts as a change
        digest = digest_descriptor(staged.descriptor, progress=progress)
        os.fsync(staged.descriptor)
        before.check_unchanged(staged.descriptor, file)
        if not self._is_kept(digest, FileSource(staged.path)):
            self._show(staged, digest)
        return digest, before.size

    def _is_kept(self, digest: Digest, data: Source) -> bool:
        """Whether a blob need not be stored here; one that is here already is better replaced, it may be damaged."""
        return self._elsewhere is not None and self.size(digest) is None and self._elsewhere.keeps(digest, data)

    def _show(self, staged: Staged, digest: Digest) -> None:
        path = self.path(digest)
        with self.gate.shared():
            os.utime(staged.descriptor)  # a file that was taken over has a time of its own
            self.own.reach_back(staged.descriptor)
            try:
                staged.path.replace(path)
            except FileNotFoundError:
                path.parent.mkdir(parents=True, exist_ok=True)
                flush(self._blobs)
                flush(self.root)
                staged.path.replace(path)

    def _touch(self, digest: Digest) -> bool:
        """Renew a blob's time; False when it is gone, or belongs to somebody else: then it must be stored afresh."""
        with self.gate.shared():
            try:
                os.utime(self.path(digest))
                self.own.reach_back(self.path(digest))
            except (FileNotFoundError, PermissionError):
                return False
            except OSError as error:
                if error.errno != errno.EROFS:  # who can write nothing can name nothing either
                    raise
        return True

    def _copy_afresh(self, digest: Digest) -> bool:
        """Replace another user's blob by an equal one of our own; False when it is gone or damaged."""
        try:
            source = os.open(self.path(digest), os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        try:
            with self.staging.new() as staged:
                size, algorithm = os.fstat(source).st_size, digest.algorithm
                if store_copy(source, staged.descriptor, size, algorithm=algorithm)[0] != digest:
                    return False
                self._show(staged, digest)
        finally:
            os.close(source)
        self._flush_folder(digest)
        return True

    def _flush_folder(self, digest: Digest) -> None:
        with suppress(FileNotFoundError):  # all that was added is kept elsewhere
            flush(self.path(digest).parent)

    @contextmanager
    def _failing(self, doing: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise StorageError.of(error, f"cannot {doing} {self.root}") from error

    @contextmanager
    def _writing(self, what: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise StorageError.of(error, f"cannot store {what} in {self.root}", path=what) from error


class _BlobSource(FileSource):
    """A stored blob: what the operating system refuses while reading is the store's error."""

    __slots__ = ()

    def read(self, offset: int, length: int) -> bytes:
        try:
            return super().read(offset, length)
        except OSError as error:
            raise StorageError.of(error, f"cannot read blob {self.file.name}", digest=self.file.name) from error

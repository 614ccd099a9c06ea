"""Blobs in a bucket: ``assay.ports.blobs.BlobStore`` over objects named by the digest of their bytes.

What is large is hashed first, so that what is there already is not sent, and hashed again while it is sent, so that
what becomes visible is what the name says. What is there already is taken for good when its length is right:
``assay verify`` is who reads it.

Times are the server's, to the second. A blob's time is that of its object or of its ``touched/`` object, whichever is
later: an object in a bucket can only be written anew as a whole, and one that was sent in parts counts from when the
sending began.

Not here: guarding against sweeps (``guarding``), requests (``objects``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, suppress
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from secrets import token_hex

from assay.blobs.bucket import guarding
from assay.blobs.bucket.objects import BucketObjects, Workers
from assay.blobs.bucket.reading import BucketSource
from assay.blobs.bucket.uploading import Upload, read_whole
from assay.blobs.sources import Stamp, open_source
from assay.errors import InvalidInput, NotFound, StorageError
from assay.ports.blobs import Leftover, Stored
from assay.ports.objects import Found
from assay.ports.progress import SILENT, Progress
from assay.spec.digest import Digest
from assay.streams.copying import digest_descriptor
from assay.trees import Source

_BLOBS, _TOUCHED = "blobs/", "touched/"
_LOOK_FIRST = 256 << 10
"""Smaller blobs are sent without asking whether they are there: that is one request either way."""
_TICK = timedelta(seconds=1)


class BucketStore:
    """Blobs below a prefix of a bucket; safe for several threads, processes and machines (``guarding`` says how far).

    Args:
        objects: the bucket.
    """

    elsewhere: Callable[[Digest], int | None] = staticmethod(lambda digest: None)  # noqa: ARG005 - the packs replace it
    """Length of a blob that is here in another form, and need not be stored again."""

    def __init__(self, objects: BucketObjects) -> None:
        self.objects = objects
        self._turns = guarding.Turns()
        self.pool = Workers(objects.options.parallel, thread_name_prefix="assay-bucket")

    def size(self, digest: Digest) -> int | None:
        """Length of a blob in bytes, or None when it is not here."""
        found = self.objects.head(_key(digest))
        return None if found is None else found.size

    def open(self, digest: Digest) -> Source:
        """The blob's bytes, readable at any offset.

        Raises:
            NotFound: it is not here (code ``blob-missing``).
        """
        found = self.objects.head(_key(digest))
        if found is None:
            raise NotFound(f"no such blob: {digest}", code="blob-missing", digest=str(digest))
        mark = f"{found.etag} {found.modified.isoformat()}"  # a rotten object keeps its etag, and gets it again
        return BucketSource(self.objects, _key(digest), found.size, self.pool, mark=mark)

    def local_file(self, digest: Digest) -> Path | None:  # noqa: ARG002 - nothing lies in a file here
        """None: nothing lies in a file; a cache in front of this store has files."""
        return None

    def digests(self) -> Iterator[Digest]:
        """Every blob, by digest; objects that are no blobs are left out."""
        for one in self.objects.list(_BLOBS):
            digest = _digest(one.key)
            if digest is not None:
                yield digest

    def inventory(self) -> Iterator[Stored]:
        """Every blob with its size and when it was last added, by digest."""
        touched = self.objects.list(_TOUCHED)
        mark = next(touched, None)
        for one in self.objects.list(_BLOBS):
            digest = _digest(one.key)
            if digest is None:
                continue
            name = one.key.removeprefix(_BLOBS)
            while mark is not None and mark.key.removeprefix(_TOUCHED) < name:
                mark = next(touched, None)
            renewed = mark if mark is not None and mark.key.removeprefix(_TOUCHED) == name else one
            yield Stored(digest, one.size, max(one.modified, renewed.modified))

    def hold(self) -> AbstractContextManager[None]:
        """Until the end, no sweep deletes what is added or renewed from here on."""
        return guarding.hold(self.objects)

    def renew(self, digest: Digest) -> int | None:
        """Count a blob as added now: its length, or None when it is not here."""
        with self._turns.adding():
            found = self.objects.head(_key(digest))
            size = self.elsewhere(digest) if found is None else found.size
            if size is not None:
                self.objects.put(_touched(digest), b"")
            return size

    def add(self, data: bytes) -> Digest:
        """Keep small bytes; what is there already is replaced by the same."""
        digest = Digest.of(data)
        with self._turns.adding():
            if self.elsewhere(digest) is None:
                self.objects.put(_key(digest), data)
            else:
                self.objects.put(_touched(digest), b"")
        return digest

    def add_file(self, file: Path, *, move: bool = False, progress: Progress = SILENT) -> tuple[Digest, int]:
        """Keep the bytes of a file; returns digest and size.

        Raises:
            Conflict: the file changed while it was read (code ``source-changed``); nothing is kept.
            NotFound: the file is not there.
            InvalidInput: it is no regular file (code ``not-a-file``) or may not be read (``source-unreadable``).
            StorageError: nothing is kept.
        """
        stored = self._add_one(file, progress)
        if move:
            _remove_original(file)
        return stored

    def add_files(
        self,
        files: Sequence[Path],
        *,
        link: bool = False,  # noqa: ARG002 - nothing is taken over by a link
        progress: Progress = SILENT,
    ) -> list[tuple[Digest, int]]:
        """Keep the bytes of many files, several at a time; digests and sizes in the order of *files*.

        Raises:
            AssayError: as ``add_file``.
        """
        workers = max(1, min(self.objects.options.parallel, len(files)))
        with ThreadPoolExecutor(workers, thread_name_prefix="assay-add") as pool:
            jobs = [pool.submit(self._add_one, file, progress) for file in files]
            try:
                return [job.result() for job in jobs]
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise

    def delete(self, digest: Digest) -> bool:
        """Remove a blob; whether it was here."""
        if self.size(digest) is None:
            return False
        self.objects.delete(_key(digest), _touched(digest))
        return True

    def set_aside(self, digest: Digest) -> Path | None:
        """Take a damaged blob out of use; a copy stays in ``damaged/`` where the server can make one (up to 5 GiB).

        Returns:
            None: no file holds it.
        """
        if self.size(digest) is None:
            return None
        with suppress(StorageError):
            self.objects.copy(_key(digest), f"damaged/{digest.hex}-{token_hex(4)}")
        self.objects.delete(_key(digest), _touched(digest))
        return None

    def sweep(self) -> AbstractContextManager[BucketSweep]:
        """Hold off whoever adds or renews blobs: here all, elsewhere those who hold (``guarding``)."""
        return self._sweep()

    def leftovers(self, *, clear: bool = False) -> Sequence[Leftover]:
        """Marks of processes that died; parts of unfinished uploads cannot be listed (``docs/how-to/buckets.md``)."""
        return guarding.dead(self.objects, clear=clear)

    @contextmanager
    def _sweep(self) -> Iterator[BucketSweep]:
        with self._turns.sweeping(), guarding.sweep(self.objects) as watch:
            yield BucketSweep(self, watch)

    def _add_one(self, file: Path, progress: Progress) -> tuple[Digest, int]:
        try:
            with open_source(file) as source:
                before = Stamp.of(source)
                if before.size <= self.objects.options.piece:
                    return self._add_small(file, source, before, progress)
                return self._add_large(file, source, before, progress)
        except OSError as error:
            raise StorageError.of(error, f"cannot read {file}", path=str(file)) from error

    def _add_small(self, file: Path, source: int, before: Stamp, progress: Progress) -> tuple[Digest, int]:
        data = read_whole(source, before.size)
        before.check_unchanged(source, file)
        digest = Digest.of(data)
        with self._turns.adding():
            asks = len(data) >= _LOOK_FIRST or self.elsewhere(digest) is not None
            if not (asks and self._renewed(digest, len(data))):
                self.objects.put(_key(digest), data)
        progress.advance(len(data))
        return digest, len(data)

    def _add_large(self, file: Path, source: int, before: Stamp, progress: Progress) -> tuple[Digest, int]:
        digest = digest_descriptor(source)
        before.check_unchanged(source, file)
        with self._turns.adding():
            there = self._renewed(digest, before.size)
        while not there:
            upload = Upload(source, before.size, digest, partial(before.check_unchanged, source, file), progress)
            self.objects.put_parts(_key(digest), upload.parts, before.size)
            progress = SILENT  # heard of every byte already
            with self._turns.adding():  # a sweep may have come between, and have taken it for garbage
                there = self._renewed(digest, before.size)
        progress.advance(0 if progress is SILENT else before.size)
        return digest, before.size

    def _renewed(self, digest: Digest, size: int) -> bool:
        found = self.objects.head(_key(digest))
        if (self.elsewhere(digest) if found is None else found.size) != size:
            return False
        self.objects.put(_touched(digest), b"")
        return True

    def put_raw(self, file: Path, digest: Digest) -> None:
        """Store a file's bytes as they are, whatever is here in another form.

        Raises:
            Conflict: they do not match the digest (code ``source-changed``); nothing is visible.
            StorageError: they cannot be read or sent.
        """
        with open_source(file) as source:
            before = Stamp.of(source)
            upload = Upload(source, before.size, digest, partial(before.check_unchanged, source, file), SILENT)
            self.objects.put_parts(_key(digest), upload.parts, before.size)

    def touched(self, digest: Digest) -> datetime | None:
        """When a blob was renewed, at the latest, since it was written; None when it was not."""
        mark = self.objects.head(_touched(digest))
        return None if mark is None else _at_latest(mark)

    def all_touched(self) -> Iterator[tuple[Digest, datetime]]:
        """``touched`` of every blob that was renewed."""
        for one in self.objects.list(_TOUCHED):
            digest = _digest(one.key.replace(_TOUCHED, _BLOBS, 1))
            if digest is not None:
                yield digest, _at_latest(one)

    def added(self, digest: Digest) -> datetime | None:
        """When a raw blob was last added, at the latest; None when it is not here."""
        found = self.objects.head(_key(digest))
        return None if found is None else max(_at_latest(found), self.touched(digest) or found.modified)


class BucketSweep:
    """The right to delete, over objects.

    Args:
        store: the store.
        watch: the mark that keeps others away.
    """

    def __init__(self, store: BucketStore, watch: guarding.Watch) -> None:
        self._store = store
        self._objects = store.objects.guarded(watch.check)
        self._watch = watch

    def check(self) -> None:
        """Whether the mark still counts.

        Raises:
            StorageError: it may not (code ``sweep-lapsed``), and will not again.
        """
        self._watch.check()

    def only_while(self, check: Callable[[], None]) -> None:
        """Delete only as long as *check* does not raise, either."""
        self._objects = self._objects.guarded(check)

    def idle(self, digest: Digest, before: datetime | None = None) -> bool:
        """Whether a blob is here that nobody under way has added."""
        self._watch.check()
        added = self._store.added(digest)
        return added is not None and self.is_older(added, before)

    def is_older(self, added: datetime, before: datetime | None) -> bool:
        """Whether a time lies before every hold, and before *before*."""
        if self._watch.since is not None and added >= self._watch.since:
            return False
        return before is None or added < before

    def delete(self, digest: Digest) -> int:
        """Remove a blob; its bytes, or 0 when it was not here."""
        found = self._objects.head(_key(digest))
        if found is None:
            return 0
        self._objects.delete(_key(digest), _touched(digest))
        return found.size

    def forget_touched(self, digest: Digest) -> None:
        """Remove what says that a blob was renewed: the blob went."""
        self._objects.delete(_touched(digest))


def _key(digest: Digest) -> str:
    return f"{_BLOBS}{digest.algorithm}/{digest.hex}"


def _touched(digest: Digest) -> str:
    return f"{_TOUCHED}{digest.algorithm}/{digest.hex}"


def _digest(key: str) -> Digest | None:
    algorithm, _, name = key.removeprefix(_BLOBS).partition("/")
    try:
        return Digest(algorithm, name)
    except InvalidInput:
        return None


def _at_latest(found: Found) -> datetime:
    """When an object was written at the latest: HTTP's times have no fractions of a second."""
    return found.modified if found.modified.microsecond else found.modified + _TICK


def _remove_original(file: Path) -> None:
    try:
        file.unlink(missing_ok=True)
    except OSError as error:
        raise StorageError.of(error, f"{file} is stored, but the original cannot be removed", path=str(file)) from error

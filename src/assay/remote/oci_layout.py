"""The index of an OCI image layout (image-spec ``image-layout.md``): a folder any OCI tool can read and copy.

    DIR/
      oci-layout      {"imageLayoutVersion":"1.0.0"}
      index.json      one descriptor per manifest; tags are the annotation org.opencontainers.image.ref.name
      blobs/sha256/   kept by the blob store, not here

Statements are listed without a tag; their manifests name their subject, which is how OCI tools and we find them.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from assay.errors import BadFormat, Conflict, IntegrityError, InvalidInput, NotFound, StorageError
from assay.remote.oci_index import EMPTY, REF_NAME, Index
from assay.spec.descriptor import Descriptor
from assay.spec.digest import Digest
from assay.spec.manifest import MANIFEST_TYPE, Manifest
from assay.spec.statement import CREATED_KEY, kind_of

LAYOUT = b'{"imageLayoutVersion":"1.0.0"}'
MAX_INDEX = 64 << 20


class OciLayoutIndex:
    """``index.json`` of a layout.

    Args:
        root: the layout's folder; made on the first ``put``.
        read: gives the bytes of a manifest blob, compared with its digest.
        add: keeps the bytes of a manifest as a blob.
    """

    def __init__(self, root: Path, read: Callable[[Digest], bytes], add: Callable[[bytes], Digest]) -> None:
        self._root = root
        self._read = read
        self._add = add

    @property
    def place(self) -> str:
        """``oci:DIR``."""
        return f"oci:{self._root}"

    def check_destination(self) -> None:
        """Make sure that nothing else is mixed up with a layout that is written here.

        Raises:
            Conflict: there is a file, or a folder that holds other things (code ``destination-not-empty``).
        """
        if self._root.is_dir():
            if self._index.exists() or (self._root / "oci-layout").exists() or not any(self._root.iterdir()):
                return
        elif not self._root.exists():
            return
        what = "holds other things" if self._root.is_dir() else "is not a folder"
        raise Conflict(
            f"{self._root} {what}, so no OCI image layout is made there; nothing was written",
            code="destination-not-empty",
            hint="name a new or empty folder, or one that is a layout already",
        )

    def tags(self) -> Mapping[str, Descriptor]:
        """Every tag and what it points at."""
        return {
            descriptor.annotations[REF_NAME]: descriptor
            for descriptor in self._read_index().descriptors
            if REF_NAME in descriptor.annotations
        }

    def read(self, descriptor: Descriptor) -> Manifest:
        """A manifest of the layout.

        Raises:
            NotFound: its blob is not here (code ``blob-missing``).
            IntegrityError: its bytes do not match.
        """
        return Manifest.parse(self._read(descriptor.digest))

    def referrers(self, subject: Digest) -> Sequence[Descriptor]:
        """Manifests in the layout whose subject is *subject*; what other tools keep there is passed over.

        Raises:
            NotFound: there is no layout (code ``layout-not-found``).
            IntegrityError: a statement is damaged.
        """
        found = []
        for descriptor in self._read_index().descriptors:
            try:
                manifest = Manifest.parse(self._read(descriptor.digest))
            except (NotFound, InvalidInput):
                continue  # an index of another kind, or a manifest that was not copied along
            except IntegrityError:
                if kind_of(descriptor.artifact_type or "") is not None:
                    raise  # a statement of ours, perhaps about this subject
                continue
            if manifest.subject is not None and manifest.subject.digest == subject:
                found.append(descriptor)
        return found

    def put(self, manifest: Manifest, *, tag: str | None = None) -> None:
        """Keep a manifest and list it, under a tag or without one; what others list there stays as they wrote it."""
        self._add(manifest.data)
        descriptor = listed_as(manifest)
        annotations = {**descriptor.annotations, **({REF_NAME: tag} if tag else {})}
        wanted = Descriptor(
            descriptor.media_type, descriptor.digest, descriptor.size, annotations, descriptor.artifact_type
        )
        try:
            self._root.mkdir(parents=True, exist_ok=True)
            with self._locked():
                found = self._read_index() if self._index.exists() else EMPTY
                self._write("oci-layout", LAYOUT)
                self._write("index.json", found.with_one(wanted, tag))
        except OSError as error:
            raise StorageError(f"cannot write the OCI layout {self._root}: {error.strerror}") from error

    @property
    def _index(self) -> Path:
        return self._root / "index.json"

    def _read_index(self) -> Index:
        try:
            if self._index.stat().st_size > MAX_INDEX:
                raise BadFormat(f"it has more than {MAX_INDEX} bytes")  # noqa: TRY301 - told with what else may be wrong
            return Index.parse(self._index.read_bytes())
        except (FileNotFoundError, NotADirectoryError):
            raise NotFound(
                f"no OCI image layout at {self._root}",
                code="layout-not-found",
                hint="a layout is a folder with index.json; write it as oci:DIR or oci:DIR:TAG",
            ) from None
        except OSError as error:
            raise StorageError.of(error, f"cannot read {self._index}") from error
        except BadFormat as error:
            raise BadFormat(f"{self._index} is not an OCI image index ({error.message})") from error

    def _write(self, name: str, data: bytes) -> None:
        scratch = self._root / f".{name}.{os.getpid()}"
        with scratch.open("wb") as handle:
            handle.write(data)
            handle.flush()
            os.fsync(handle.fileno())
        scratch.replace(self._root / name)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        descriptor = os.open(self._root, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)


def listed_as(manifest: Manifest) -> Descriptor:
    """How an index lists a manifest: with its type, and with when it was said, where it says that."""
    created = manifest.annotations.get(CREATED_KEY)
    annotations = {CREATED_KEY: created} if created else {}
    return Descriptor(MANIFEST_TYPE, manifest.digest, len(manifest.data), annotations, manifest.artifact_type)

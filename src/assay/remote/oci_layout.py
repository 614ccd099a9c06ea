"""The index of an OCI image layout (image-spec ``image-layout.md``): a folder any OCI tool can read and copy.

    DIR/
      oci-layout      {"imageLayoutVersion":"1.0.0"}
      index.json      one descriptor per manifest; tags are the annotation org.opencontainers.image.ref.name
      blobs/sha256/   kept by the blob store, not here

Statements are listed without a tag; their manifests name their subject, which is how OCI tools and we find them.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from assay.errors import BadFormat, Conflict, InvalidInput, NotFound, StorageError
from assay.spec.descriptor import Descriptor
from assay.spec.digest import Digest
from assay.spec.json import Json
from assay.spec.manifest import MANIFEST_TYPE, Manifest
from assay.spec.statement import CREATED_KEY

REF_NAME = "org.opencontainers.image.ref.name"
INDEX_TYPE = "application/vnd.oci.image.index.v1+json"
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
            for descriptor in self._descriptors()
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
        """Manifests in the layout whose subject is *subject*."""
        found = []
        for descriptor in self._descriptors():
            try:
                manifest = Manifest.parse(self._read(descriptor.digest))
            except (NotFound, BadFormat):
                continue  # an index of another kind, or a manifest that was not copied along
            if manifest.subject is not None and manifest.subject.digest == subject:
                found.append(descriptor)
        return found

    def put(self, manifest: Manifest, *, tag: str | None = None) -> None:
        """Keep a manifest and list it, under a tag or without one."""
        self._add(manifest.data)
        descriptor = listed_as(manifest)
        annotations = {**descriptor.annotations, **({REF_NAME: tag} if tag else {})}
        wanted = Descriptor(
            descriptor.media_type, descriptor.digest, descriptor.size, annotations, descriptor.artifact_type
        )
        try:
            self._root.mkdir(parents=True, exist_ok=True)
            with self._locked():
                kept = [
                    found
                    for found in (self._descriptors() if self._index.exists() else [])
                    if not (found.annotations.get(REF_NAME) == tag if tag else found.digest == wanted.digest)
                ]
                self._write("oci-layout", LAYOUT)
                self._write("index.json", self._document([*kept, wanted]))
        except OSError as error:
            raise StorageError(f"cannot write the OCI layout {self._root}: {error.strerror}") from error

    @property
    def _index(self) -> Path:
        return self._root / "index.json"

    def _descriptors(self) -> list[Descriptor]:
        try:
            if self._index.stat().st_size > MAX_INDEX:
                raise ValueError(f"it has more than {MAX_INDEX} bytes")  # noqa: TRY301 - told with the others below
            body = json.loads(self._index.read_bytes())
            return [Descriptor.from_json(item) for item in list(body["manifests"])]
        except (FileNotFoundError, NotADirectoryError):
            raise NotFound(
                f"no OCI image layout at {self._root}",
                code="layout-not-found",
                hint="a layout is a folder with index.json; write it as oci:DIR or oci:DIR:TAG",
            ) from None
        except OSError as error:
            raise StorageError.of(error, f"cannot read {self._index}") from error
        except (ValueError, KeyError, TypeError, RecursionError, InvalidInput) as error:
            raise BadFormat(f"{self._index} is not an OCI image index ({error})") from error

    @staticmethod
    def _document(descriptors: Sequence[Descriptor]) -> bytes:
        body: dict[str, Json] = {
            "schemaVersion": 2,
            "mediaType": INDEX_TYPE,
            "manifests": [descriptor.to_json() for descriptor in descriptors],
        }
        return json.dumps(body, indent=2, sort_keys=True).encode()

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

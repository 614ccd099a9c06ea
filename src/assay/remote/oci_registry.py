"""A repository in an OCI registry: its blobs, and its tagged manifests with what refers to them."""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from assay.errors import BadFormat, IntegrityError, InvalidInput, NotFound, StorageError
from assay.ports.places import Received
from assay.ports.progress import SILENT, Progress
from assay.remote.http import Answer, joined, number
from assay.remote.oci_api import PUSH, Api
from assay.remote.oci_index import EMPTY, INDEX_TYPE, Index
from assay.remote.oci_layout import listed_as
from assay.remote.oci_source import RegistrySource
from assay.remote.oci_upload import upload
from assay.spec.descriptor import Descriptor
from assay.spec.digest import Digest
from assay.spec.manifest import MANIFEST_TYPE, MAX_MANIFEST, Manifest
from assay.streams.copying import digest_file
from assay.trees import Source
from assay.trees.window import FileSource, MemorySource

_ACCEPT = {"Accept": f"{MANIFEST_TYPE}, {INDEX_TYPE}, */*"}
_REFERRERS_TAG = re.compile(r"sha(256-[0-9a-f]{64}|512-[0-9a-f]{64})(\.[a-z]+)?", re.ASCII)
_PAGE = 1000
_MOST_TAGS = 1_000_000
_MOST_REFERRERS = 10_000
_MOST_PAGES = 10_000
_LARGEST_LIST = 256 << 20
_REWRITES = 4
"""How often the list of referrers is written again when others write it at the same time."""


class RegistryBlobs:
    """The blobs of a repository; safe for several threads.

    Args:
        api: the repository.
        mounts: other repositories of the registry that blobs may be taken from without sending them.
    """

    def __init__(self, api: Api, *, mounts: tuple[str, ...] = ()) -> None:
        self._api, self._mounts = api, mounts
        self._sizes: dict[Digest, int] = {}

    def size(self, digest: Digest) -> int | None:
        """Length of a blob in bytes, or None when it is not here."""
        answer = self._api.ask("HEAD", self._api.url(f"blobs/{digest}"))
        length = number(answer.headers.get("content-length", ""))
        if answer.status == 404:
            return None
        if answer.status != 200 or length is None:
            raise self._api.refused(answer)
        self._sizes[digest] = length
        return length

    def open(self, digest: Digest) -> Source:
        """The blob's bytes, readable at any offset.

        Raises:
            NotFound: it is not here (code ``blob-missing``).
        """
        size = self._sizes.get(digest)
        size = self.size(digest) if size is None else size
        if size is None:
            raise NotFound(
                f"no such blob in {self._api.address.place}: {digest}", code="blob-missing", digest=str(digest)
            )
        return RegistrySource(self._api, digest, size)

    def local_file(self, digest: Digest) -> Path | None:  # noqa: ARG002 - nothing lies in a file here
        """None: nothing lies in a file."""
        return None

    def hold(self) -> AbstractContextManager[object]:
        """Nothing: a registry keeps what was just uploaded."""
        return nullcontext()

    def renew(self, digest: Digest) -> int | None:
        """Its length, or None when it is not here."""
        return self.size(digest)

    def add(self, data: bytes) -> Digest:
        """Keep small bytes as a blob."""
        digest = Digest.of(data)
        if self.size(digest) is None:
            self.receive(digest, MemorySource(data))
        return digest

    def add_file(self, file: Path, *, move: bool = False, progress: Progress = SILENT) -> tuple[Digest, int]:
        """Keep the bytes of a file; with *move* the file is removed."""
        digest = digest_file(file)
        size = self.receive(digest, FileSource(file), progress=progress).size
        if move:
            file.unlink()
        return digest, size

    def add_files(
        self,
        files: Sequence[Path],
        *,
        link: bool = False,  # noqa: ARG002 - nothing is taken over
        progress: Progress = SILENT,
    ) -> list[tuple[Digest, int]]:
        """Keep the bytes of many files."""
        return [self.add_file(file, progress=progress) for file in files]

    def receive(
        self,
        digest: Digest,
        source: Source,
        *,
        file: Path | None = None,  # noqa: ARG002 - it has to be sent either way
        progress: Progress = SILENT,
    ) -> Received:
        """Keep the bytes of *source*: see ``assay.ports.places.Receiver``."""
        return upload(self._api, digest, source, mounts=self._mounts, progress=progress)


class RegistryIndex:
    """The tagged manifests of a repository.

    Args:
        api: the repository.
    """

    def __init__(self, api: Api) -> None:
        self._api = api

    @property
    def place(self) -> str:
        """``oci://HOST/REPOSITORY``."""
        return self._api.address.place

    def tags(self) -> Mapping[str, Descriptor]:
        """Every tag and what it points at, asked for when it is looked at; a digest counts as a tag of its own."""
        return _Tags(self)

    def read(self, descriptor: Descriptor) -> Manifest:
        """A manifest, compared with its digest.

        Raises:
            NotFound: it is not here (code ``blob-missing``).
            IntegrityError: its bytes do not match.
        """
        return Manifest.parse(self._checked(descriptor.digest))

    def referrers(self, subject: Digest) -> Sequence[Descriptor]:
        """Manifests whose subject is *subject*, by the registry's list, or by the tag that stands in for it."""
        found: dict[Digest, Descriptor] = {}
        for answer in self._pages(f"referrers/{subject}", {"Accept": INDEX_TYPE}):
            if answer.status != 200 or not answer.headers.get("content-type", "").startswith(INDEX_TYPE):
                return [*(found.values() or self._listed(subject).descriptors)]
            found.update((one.digest, one) for one in self._index(answer.data).descriptors)
            if len(found) > _MOST_REFERRERS:
                raise self._endless(f"more than {_MOST_REFERRERS:,} referrers")
        return [one for one in found.values() if one.media_type == MANIFEST_TYPE]

    def put(self, manifest: Manifest, *, tag: str | None = None) -> None:
        """Keep a manifest, under a tag or without one; what refers to another one is listed with that.

        Raises:
            StorageError: the registry does not take it.
        """
        answer = self._put(tag or str(manifest.digest), manifest.data, MANIFEST_TYPE)
        kept = answer.headers.get("docker-content-digest", str(manifest.digest))
        if kept != str(manifest.digest):
            raise IntegrityError(f"{self.place} keeps the manifest as {kept[:80]}, expected {manifest.digest}")
        if manifest.subject is not None and "oci-subject" not in answer.headers:
            self._list_too(manifest.subject.digest, listed_as(manifest))

    def head(self, label: str) -> Descriptor | None:
        """What a tag, or a digest, points at; None when there is nothing.

        A digest points at itself, whatever the registry says.
        """
        answer = self._api.ask("HEAD", self._api.url(f"manifests/{label}"), _ACCEPT)
        if answer.status == 404:
            return None
        if answer.status != 200:
            raise self._api.refused(answer)
        digest = label if ":" in label else answer.headers.get("docker-content-digest")
        length = number(answer.headers.get("content-length", ""))
        if digest is None or length is None:
            data = self._get(label)
            digest, length = digest or str(Digest.of(data)), len(data)
        return Descriptor(answer.headers.get("content-type", MANIFEST_TYPE), self._digest(digest), length)

    def _digest(self, text: str) -> Digest:
        try:
            return Digest.parse(text)
        except InvalidInput as error:
            raise BadFormat(f"{self.place} names a manifest by no digest: {text!r:.100}", code="place-odd") from error

    def names(self) -> list[str]:
        """Every tag, but for those that stand in for lists of referrers."""
        found: dict[str, None] = {}
        for answer in self._pages(f"tags/list?n={_PAGE}"):
            if answer.status == 404:
                return []
            if answer.status != 200:
                raise self._api.refused(answer)
            try:
                found.update(dict.fromkeys(str(tag) for tag in json.loads(answer.data).get("tags") or ()))
            except (ValueError, TypeError, AttributeError, RecursionError) as error:
                raise BadFormat(f"{self.place} lists its tags in no form that can be read", code="place-odd") from error
            if len(found) > _MOST_TAGS:
                raise self._endless(f"more than {_MOST_TAGS:,} tags")
        return [tag for tag in found if not _REFERRERS_TAG.fullmatch(tag)]

    def _pages(self, path: str, headers: Mapping[str, str] | None = None) -> Iterator[Answer]:
        """The pages of a list, one after the other."""
        url: str | None = self._api.url(path)
        size = 0
        for _ in range(_MOST_PAGES):
            if url is None:
                return
            answer = self._api.ask("GET", url, headers)
            size += len(answer.data)
            if size > _LARGEST_LIST:
                raise self._endless(f"lists of more than {_LARGEST_LIST:,} bytes")
            yield answer
            url = _next(answer)
        raise self._endless("pages without end")

    def _endless(self, what: str) -> StorageError:
        return StorageError(f"{self.place} answers with {what}", code="place-odd", hint="tell whoever runs it")

    def _get(self, label: str) -> bytes:
        answer = self._api.ask("GET", self._api.url(f"manifests/{label}"), _ACCEPT)
        if answer.status == 404:
            raise NotFound(f"no such manifest in {self.place}: {label}", code="blob-missing")
        if answer.status != 200:
            raise self._api.refused(answer)
        return answer.data

    def _checked(self, digest: Digest) -> bytes:
        data = self._get(str(digest))
        if hashlib.new(digest.algorithm, data).hexdigest() != digest.hex:
            raise IntegrityError(
                f"{self.place} gives other bytes for the manifest {digest.short}",
                hint="tell whoever runs that registry",
            )
        return data

    def _put(self, label: str, data: bytes, media_type: str) -> Answer:
        headers = {"Content-Type": media_type}
        answer = self._api.ask("PUT", self._api.url(f"manifests/{label}"), headers, data, actions=PUSH)
        if answer.status not in {201, 202}:
            raise self._api.refused(answer)
        return answer

    def _listed(self, subject: Digest) -> Index:
        try:
            return self._index(self._get(_stand_in(subject)))
        except NotFound:
            return EMPTY

    def _list_too(self, subject: Digest, wanted: Descriptor) -> None:
        """Add to the tag that stands in for the list; others may be doing the same, so it is looked at afterwards."""
        for _ in range(_REWRITES):
            listed = self._listed(subject)
            if any(one.digest == wanted.digest for one in listed.descriptors):
                return
            self._put(_stand_in(subject), listed.with_one(wanted), INDEX_TYPE)
        if all(one.digest != wanted.digest for one in self._listed(subject).descriptors):
            raise StorageError(
                f"{self.place} does not keep the list of what refers to {subject.short}",
                code="registry-refused",
                hint="somebody else may be writing it: run it again",
            )

    def _index(self, data: bytes) -> Index:
        try:
            if len(data) > MAX_MANIFEST:
                raise BadFormat(f"it has {len(data):,} bytes")  # noqa: TRY301 - told with what else may be wrong
            return Index.parse(data, may_lack=True)
        except BadFormat as error:
            raise BadFormat(
                f"{self.place} lists referrers in no form that can be read ({error.message:.100})"
            ) from error


class _Tags(Mapping[str, Descriptor]):
    """The tags of a repository, asked for one by one."""

    def __init__(self, index: RegistryIndex) -> None:
        self._index = index
        self._names: list[str] | None = None
        self._lock = threading.Lock()

    def __getitem__(self, tag: str) -> Descriptor:
        found = self._index.head(tag)
        if found is None:
            raise KeyError(tag)
        return found

    def __iter__(self) -> Iterator[str]:
        return iter(self._listed())

    def __len__(self) -> int:
        return len(self._listed())

    def _listed(self) -> list[str]:
        with self._lock:
            if self._names is None:
                self._names = self._index.names()
            return self._names


def _stand_in(subject: Digest) -> str:
    """The tag under which referrers are listed where the registry has no list of its own (distribution-spec 1.1)."""
    return f"{subject.algorithm}-{subject.hex[:64]}"


def _next(answer: Answer) -> str | None:
    """Where the next page of a list is."""
    found = re.match(r'\s*<([^>]+)>\s*;\s*rel="?next"?', answer.headers.get("link", ""))
    return joined(answer.url, found[1]) if found else None

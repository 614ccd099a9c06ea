"""Reachability: which blobs the names of a registry need, for whom, and what a blob that nobody needs once was.

Names are versions that were neither removed nor purged (aliases and pins only ever hold such versions). A version needs
its manifest, its config, its files, and every statement about its artifact: a statement lives as long as its subject.

Not here: deleting (``garbage``), and how much space it takes (``usage``).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from assay.errors import AssayError, StorageError
from assay.service.registry import Registry, read_manifest
from assay.spec.digest import Digest
from assay.spec.manifest import Manifest
from assay.spec.records import Event, EventKind, Version

_STATED = (EventKind.STATEMENT_ADDED, EventKind.STATEMENTS_DROPPED)


@dataclass(frozen=True, slots=True)
class Said:
    """A statement as the catalog has it: digest of its manifest, and its kind."""

    manifest: Digest
    artifact_type: str


@dataclass(slots=True)
class Needs:
    """What an artifact needs as long as a version is it.

    Args:
        versions: the versions that are it and are not gone.
        manifest: it.
        content: its manifest, config and files.
        statements: manifests, configs and documents of what is said about it.
    """

    versions: list[Version]
    manifest: Manifest
    content: frozenset[Digest]
    statements: set[Digest]

    @property
    def blobs(self) -> Iterator[Digest]:
        """Every blob."""
        yield from self.content
        yield from self.statements - self.content


class Reachability:
    """What the names of a registry need, kept up with its catalog.

    Args:
        registry: whose names.
        without: references of versions that count as removed already, to see what removing them would do.

    Raises:
        StorageError: the manifest of a version is missing or damaged, so that nobody can tell which blobs it needs
            (code ``reachability-unknown``).
    """

    def __init__(self, registry: Registry, *, without: Collection[str] = ()) -> None:
        self._registry = registry
        self._without = frozenset(without)
        self._sequence = _newest(registry)
        self._reached: set[Digest] = set()
        self.artifacts: dict[Digest, Needs] = {}
        self.gone: dict[Digest, Version] = {}
        """Artifacts that only versions have which are gone: the newest of these versions."""
        self.said: dict[Digest, list[Said]] = _statements(registry)
        self.unreadable: list[str] = []
        """Statements about live artifacts that cannot be followed."""
        for model in registry.catalog.models():
            for version in registry.catalog.versions(model.name)[::-1]:
                self._take_version(version)

    def __contains__(self, digest: Digest) -> bool:
        return digest in self._reached

    def update(self) -> None:
        """Take in what was named since; what is no longer named stays reachable, until the next time.

        Raises:
            StorageError: as when it is made.
        """
        self._registry.catalog.catch_up()  # a push that was killed holds nothing, and may be named all the same
        newest = _newest(self._registry)
        if newest == self._sequence:
            return
        since = self._registry.catalog.events(limit=newest - self._sequence)
        while since[-1].sequence > self._sequence + 1:  # others came meanwhile, and took the places of earlier ones
            since = self._registry.catalog.events(limit=since[0].sequence - self._sequence)
        for event in reversed(since):
            if event.sequence > self._sequence:
                self._take_event(event)
        self._sequence = since[0].sequence

    def holders(self) -> dict[Digest, set[Digest]]:
        """Every blob that is needed, with the artifacts that need it."""
        found: dict[Digest, set[Digest]] = defaultdict(set)
        for artifact, needs in self.artifacts.items():
            for digest in needs.blobs:
                found[digest].add(artifact)
        return found

    def dead_statements(self) -> Iterator[tuple[Digest, Said]]:
        """Statements about artifacts that no version is, each with its subject."""
        for subject, statements in self.said.items():
            if subject not in self.artifacts:
                for said in statements:
                    yield subject, said

    def _take_event(self, event: Event) -> None:
        if event.kind is EventKind.VERSION_ADDED:
            version = self._registry.catalog.version(event.name, int(str(event.data["number"])))
            if version is not None:
                self._take_version(version)
        elif event.kind is EventKind.STATEMENT_ADDED:
            subject, said = Digest.parse(str(event.data["subject"])), _said(event)
            if said not in self.said[subject]:
                self.said[subject].append(said)
            if subject in self.artifacts:
                self._take_statement(subject, said)

    def _take_version(self, version: Version) -> None:
        artifact = version.manifest
        if version.gone or version.reference in self._without:
            if artifact not in self.artifacts:
                self.gone[artifact] = version
            return
        self.gone.pop(artifact, None)
        known = self.artifacts.get(artifact)
        if known is not None:
            if version.reference not in {held.reference for held in known.versions}:
                known.versions.append(version)
            return
        manifest = self._manifest_of(version)
        if manifest is None:
            self.gone[artifact] = version
            return
        content = frozenset(blobs_of(manifest))
        self.artifacts[artifact] = Needs([version], manifest, content, set())
        self._reached |= content
        for said in self.said.get(artifact, ()):
            self._take_statement(artifact, said)

    def _take_statement(self, subject: Digest, said: Said) -> None:
        needs = self.artifacts[subject]
        needs.statements.add(said.manifest)
        try:
            needs.statements.update(blobs_of(read_manifest(self._registry.blobs, said.manifest)))
        except StorageError as error:  # it is there and somebody else's, or the disk fails: what it names is needed
            raise StorageError(
                f"cannot tell which blobs a statement about {needs.versions[0].reference} needs: {error.message}; "
                "nothing was freed",
                code="reachability-unknown",
                hint=f"{said.artifact_type} {said.manifest.short} must be readable",
            ) from error
        except AssayError:
            # A purge takes the bytes of statements and leaves the record: they do not come back with the artifact.
            if not any(version.gone for version in self._registry.catalog.by_manifest(subject)):
                self.unreadable.append(f"{said.artifact_type} about {needs.versions[0].reference}")
        self._reached |= needs.statements

    def _manifest_of(self, version: Version) -> Manifest | None:
        """The manifest; None when the version was given up since it was listed."""
        try:
            return self._registry.manifest(version)
        except AssayError as error:
            now = self._registry.catalog.version(version.name, version.number)
            if now is not None and now.gone:
                return None
            raise StorageError(
                f"cannot tell which blobs {version.reference} needs: {error.message}; nothing was freed",
                code="reachability-unknown",
                hint=f"assay verify {version.reference} says more; push its files again, or give the version up with "
                f"assay remove {version.reference} --reason TEXT",
            ) from error


def blobs_of(manifest: Manifest) -> list[Digest]:
    """A manifest and everything it names, itself first."""
    return [manifest.digest, manifest.config.digest, *(layer.digest for layer in manifest.layers)]


def read_closure(registry: Registry, manifest: Digest) -> Sequence[Digest]:
    """A manifest that nothing needs any more and what it names, as far as it is still here; itself first."""
    try:
        return blobs_of(read_manifest(registry.blobs, manifest))
    except AssayError:
        return [manifest]


def _newest(registry: Registry) -> int:
    newest = registry.catalog.events(limit=1)
    return newest[0].sequence if newest else 0


def _statements(registry: Registry) -> dict[Digest, list[Said]]:
    """All statements by subject, in one reading: asking for each subject would take as many."""
    found: dict[Digest, list[Said]] = defaultdict(list)
    for event in reversed(registry.catalog.events(kinds=_STATED)):
        subject = Digest.parse(str(event.data["subject"]))
        if event.kind is EventKind.STATEMENT_ADDED:
            found[subject].append(_said(event))
        else:
            dropped = event.data["manifests"]
            gone = {str(manifest) for manifest in dropped} if isinstance(dropped, list) else set()
            found[subject] = [said for said in found[subject] if str(said.manifest) not in gone]
    return found


def _said(event: Event) -> Said:
    return Said(Digest.parse(str(event.data["manifest"])), str(event.data["artifactType"]))

"""Garbage collection beside pushes of other processes, and killed at any step: nothing that is needed is ever lost."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from assay.artifact.collect import collect as files_of
from assay.errors import Conflict, NotFound
from assay.ports.progress import SILENT, Progress
from assay.service import garbage, materials, publish, removing
from assay.service.registry import Registry, read_manifest
from assay.service.snapshots import snapshot
from assay.service.verify import verify
from assay.settings import Settings
from assay.spec.digest import Digest
from assay.spec.records import Version
from assay.testing.blobs import Counter
from assay.testing.catalog import everything
from assay.wiring.auditing import guard_of
from assay.wiring.places import SNAPSHOTS, open_registry
from assay.wiring.upkeep import folders_of

NOW = timedelta()
DAY = timedelta(days=1)
_SCRIPT = Path(__file__).with_name("collecting.py")
_crashing = importlib.util.spec_from_file_location("crashing", Path(__file__).with_name("crashing.py"))
assert _crashing is not None
assert _crashing.loader is not None
crashing = importlib.util.module_from_spec(_crashing)
_crashing.loader.exec_module(crashing)


def needed_by(registry: Registry, version: Version) -> set[Digest]:
    """Every blob of a version and of its statements, read afresh from what is stored."""
    found = set()
    for digest in (version.manifest, *(said.manifest for said in registry.catalog.referrers(version.manifest))):
        manifest = read_manifest(registry.blobs, digest)
        found |= {digest, manifest.config.digest, *(layer.digest for layer in manifest.layers)}
    return found


def living(registry: Registry) -> list[Version]:
    models = registry.catalog.models()
    return [found for model in models for found in registry.catalog.versions(model.name) if not found.gone]


def collect(registry: Registry, grace: timedelta = NOW) -> garbage.Collected:
    return garbage.collect(registry, garbage.plan(registry, folders=folders_of(registry), grace=grace))


def check_clean(registry: Registry) -> None:
    """Nothing is there but what is needed."""
    needed = {digest for version in living(registry) for digest in needed_by(registry, version)}
    assert set(registry.blobs.digests()) == needed
    home = Path(registry.place)
    assert list((home / "staging").iterdir()) == []
    snapshots = home / SNAPSHOTS
    kept = {path.name for path in snapshots.iterdir()} if snapshots.exists() else set()
    assert kept <= {version.manifest.hex for version in living(registry)}


def killed_in(work: Callable[[Registry], object], home: Path, step: int) -> bool:
    """Do something in a child that dies right before its step number *step*; whether it did die."""
    child = os.fork()
    if child == 0:
        try:
            registry = open_registry(Settings(home, "child"))
            crashing.killed_before(step)
            work(registry)
        except BaseException:  # noqa: BLE001 - told by the exit status
            os._exit(9)
        os._exit(0)
    status = os.waitpid(child, 0)[1]
    assert status == 0 or os.WIFSIGNALED(status), f"failed by itself: {status}"
    return status != 0


def write(folder: Path, parts: dict[str, str]) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for name, text in parts.items():
        (folder / f"{name}.txt").write_text(text)
    return folder


def push(registry: Registry, folder: Path, name: str, note: str | None = None, progress: Progress = SILENT) -> Version:
    guard, claims = guard_of(Settings(Path(registry.place), "tester")), publish.Claims(note=note)
    return publish.push(registry, files_of(folder), name, guard=guard, claims=claims, progress=progress).version


class Interrupted(Counter):
    """Progress during which something happens: when the files are stored, and nothing names them yet."""

    def __init__(self, happens: Callable[[], object]) -> None:
        super().__init__()
        self.happens = happens

    def finish(self) -> None:
        self.happens()


class Begun(Counter):
    """Progress during which something happens: when a collection knows what is needed, and has freed nothing yet."""

    def __init__(self, happens: Callable[[], object]) -> None:
        super().__init__()
        self.happens = happens

    def start(self, label: str, total: int) -> None:
        super().start(label, total)
        self.happens()


_PARTS = st.dictionaries(st.sampled_from("abc"), st.sampled_from(["one", "two", "three"]), min_size=1)
_NAMES = st.sampled_from(["m", "n"])
_NOTES = st.sampled_from([None, "good", "bad"])
_STEPS = st.integers(1, 140)


class HousekeepingMachine(RuleBasedStateMachine):
    """Pushes, removals, aliases, pins, statements, snapshots, collections and kills, in any order."""

    TestCase: Any

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.home = self.folder / "home"
        self.registry = open_registry(Settings(self.home, "tester"), create=True)
        self.files: dict[Digest, dict[str, str]] = {}
        self.said: dict[str, set[str]] = {}

    def teardown(self) -> None:
        shutil.rmtree(self.folder)

    def reopen(self) -> None:
        """As the next process does: what a killed one journalled is taken in."""
        self.registry = open_registry(Settings(self.home, "tester"))

    def one_of(self, number: int) -> Version:
        versions = living(self.registry)
        return versions[number % len(versions)]

    @rule(name=_NAMES, parts=_PARTS, note=_NOTES)
    def push(self, name: str, parts: dict[str, str], note: str | None) -> None:
        version = push(self.registry, write(self.folder / "model", parts), name, note)
        self.files[version.manifest] = parts
        if note is not None:
            self.said.setdefault(version.reference, set()).add(note)

    @rule(name=_NAMES, parts=_PARTS, note=_NOTES)
    def collect_within_a_push(self, name: str, parts: dict[str, str], note: str | None) -> None:
        collector = open_registry(Settings(self.home, "collector"))
        source = write(self.folder / "model", parts)
        version = push(self.registry, source, name, note, progress=Interrupted(lambda: collect(collector)))
        self.files[version.manifest] = parts
        if note is not None:
            self.said.setdefault(version.reference, set()).add(note)

    @rule(name=_NAMES, parts=_PARTS, note=_NOTES)
    def push_within_a_collection(self, name: str, parts: dict[str, str], note: str | None) -> None:
        planned = garbage.plan(self.registry, folders=folders_of(self.registry), grace=NOW)
        self.push(name, parts, note)
        garbage.collect(self.registry, planned)

    @rule(name=_NAMES, parts=_PARTS, note=_NOTES)
    def push_again_what_is_about_to_be_freed(self, name: str, parts: dict[str, str], note: str | None) -> None:
        self.give_up(name, parts, note)
        collector = open_registry(Settings(self.home, "collector"))
        planned = garbage.plan(collector, folders=folders_of(collector), grace=NOW)
        garbage.collect(collector, planned, progress=Begun(lambda: self.push(name, parts, note)))

    @rule(name=_NAMES, parts=_PARTS, note=_NOTES)
    def collect_what_a_push_is_about_to_name(self, name: str, parts: dict[str, str], note: str | None) -> None:
        self.give_up(name, parts, note)
        collector, catalog = open_registry(Settings(self.home, "collector")), self.registry.catalog
        add_version = catalog.add_version

        def collected_first(*arguments: Any, **named: Any) -> tuple[Version, bool]:
            collect(collector)
            return add_version(*arguments, **named)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(catalog, "add_version", collected_first)
            self.push(name, parts, note)

    def give_up(self, name: str, parts: dict[str, str], note: str | None) -> None:
        """Push something and remove it, under every name that lets go of it: it is garbage then, and still there."""
        artifact = push(self.registry, write(self.folder / "model", parts), name, note).manifest
        self.files[artifact] = parts
        for version in living(self.registry):
            if version.manifest == artifact:
                with suppress(Conflict):
                    removing.remove(self.registry, version, reason="old")
                    self.said.pop(version.reference, None)

    @rule(name=_NAMES, parts=_PARTS, note=_NOTES, step=_STEPS)
    def push_and_be_killed(self, name: str, parts: dict[str, str], note: str | None, step: int) -> None:
        source = write(self.folder / "model", parts)
        before = {version.reference for version in living(self.registry)}
        if killed_in(lambda registry: push(registry, source, name, note), self.home, step):
            self.reopen()
            for version in living(self.registry):
                if version.reference not in before:
                    self.files[version.manifest] = parts
        else:
            self.reopen()
            self.push(name, parts, note)

    @precondition(lambda self: living(self.registry))
    @rule(number=st.integers(0, 9))
    def remove(self, number: int) -> None:
        version = self.one_of(number)
        held = version.pinned is not None or any(
            alias.number == version.number for alias in self.registry.catalog.aliases(version.name)
        )
        if held:
            with pytest.raises(Conflict):
                removing.remove(self.registry, version, reason="old")
        else:
            removing.remove(self.registry, version, reason="old")
            self.said.pop(version.reference, None)

    @precondition(lambda self: living(self.registry))
    @rule(number=st.integers(0, 9), alias=st.sampled_from(["champion", "beta"]))
    def move_alias(self, number: int, alias: str) -> None:
        version = self.one_of(number)
        now = self.registry.catalog.alias(version.name, alias)
        self.registry.catalog.move_alias(
            version.name, alias, version.number, expect=now.number if now else None, actor="ada"
        )

    @rule(name=_NAMES, alias=st.sampled_from(["champion", "beta"]))
    def remove_alias(self, name: str, alias: str) -> None:
        try:
            self.registry.catalog.remove_alias(name, alias, actor="ada")
        except NotFound:
            assert self.registry.catalog.alias(name, alias) is None

    @precondition(lambda self: living(self.registry))
    @rule(number=st.integers(0, 9), pinned=st.booleans())
    def pin(self, number: int, pinned: bool) -> None:
        version = self.one_of(number)
        if pinned:
            removing.pin(self.registry, version, reason="audit")
        else:
            removing.unpin(self.registry, version)

    @precondition(lambda self: living(self.registry))
    @rule(number=st.integers(0, 9), text=st.sampled_from(["good", "better"]))
    def say_something(self, number: int, text: str) -> None:
        version = self.one_of(number)
        materials.attach(self.registry, version, "https://assay.dev/statement/note/v1", {"text": text})
        self.said.setdefault(version.reference, set()).add(text)

    @precondition(lambda self: living(self.registry))
    @rule(number=st.integers(0, 9))
    def load(self, number: int) -> None:
        manifest = self.registry.manifest(self.one_of(number))
        with snapshot(self.registry.blobs, manifest, self.home / SNAPSHOTS) as folder:
            assert folder.is_dir()

    @rule()
    def time_passes(self) -> None:
        for digest in self.registry.blobs.digests():
            file = self.registry.blobs.local_file(digest)
            assert file is not None
            earlier = file.stat().st_mtime - 2 * DAY.total_seconds()
            os.utime(file, (earlier, earlier))

    @rule()
    def collect_with_grace(self) -> None:
        young = {found.digest for found in self.registry.blobs.inventory() if not _older_than_a_day(found.added)}
        collect(self.registry, DAY)
        assert young <= set(self.registry.blobs.digests())

    @rule(grace=st.sampled_from([NOW, DAY]), step=_STEPS)
    def collect_and_be_killed(self, grace: timedelta, step: int) -> None:
        killed_in(lambda registry: collect(registry, grace), self.home, step)
        self.reopen()

    @rule()
    def collect_twice(self) -> None:
        collect(self.registry)
        collect(self.registry)
        check_clean(self.registry)

    @rule()
    def reindex(self) -> None:
        before = everything(self.registry.catalog)
        self.registry.catalog.reindex()
        assert everything(self.registry.catalog) == before

    @invariant()
    def what_is_needed_is_there_and_whole(self) -> None:
        for version in living(self.registry):
            assert verify(self.registry, version).ok, version.reference
            tree = self.registry.tree(self.registry.manifest(version))
            found = {path.removesuffix(".txt"): tree.source(path).read(0, 99).decode() for path in tree.paths}
            assert found == self.files[version.manifest]
            notes = {str(said.predicate["text"]) for said in self.registry.statements(version.manifest, "note")}
            assert self.said.get(version.reference, set()) <= notes


def _older_than_a_day(added: datetime) -> bool:
    return added < datetime.now(UTC) - DAY


TestHousekeeping = HousekeepingMachine.TestCase
TestHousekeeping.settings = settings(
    deadline=None, max_examples=15, stateful_step_count=20, suppress_health_check=[HealthCheck.too_slow]
)


def started(*arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-W", "error", str(_SCRIPT), *(str(argument) for argument in arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def answer_of(process: subprocess.Popen[str]) -> str:
    out, error = process.communicate(timeout=200)
    assert process.returncode == 0, error
    return out


def test_three_processes_push_what_is_collected_all_the_while_and_nothing_needed_is_lost(tmp_path: Path) -> None:
    home = tmp_path / "home"
    collector = started("collect", home)
    pushers = [started("push", home, who, 25) for who in ("ada", "bob", "eve")]
    expected = [reference for pusher in pushers for reference in answer_of(pusher).split()]
    (home / "stop").touch()
    freed = int(answer_of(collector))

    registry = open_registry(Settings(home, "tester"))
    assert freed > 50
    versions = living(registry)
    assert sorted(version.reference for version in versions) == sorted(expected)
    for version in versions:
        assert verify(registry, version).ok
        assert len(registry.statements(version.manifest, "note")) == 1
    collect(registry)
    collect(registry)
    check_clean(registry)


def test_killed_at_any_step_of_a_collection_the_store_is_whole_and_the_next_ones_finish(tmp_path: Path) -> None:
    first = tmp_path / "first"
    registry = open_registry(Settings(first, "tester"), create=True)
    kept = push(registry, write(tmp_path / "model", {"a": "one", "b": "two"}), "m", "good")
    gone = push(registry, write(tmp_path / "model", {"a": "one", "b": "three"}), "m", "bad")
    with snapshot(registry.blobs, registry.manifest(gone), first / SNAPSHOTS):
        pass
    removing.remove(registry, gone, reason="old")
    registry.blobs.add(b"never named")
    (first / "staging/left").write_bytes(b"half-written")
    seen: set[frozenset[Digest]] = set()
    for step in range(1, 400):
        home = tmp_path / f"home-{step}"
        shutil.copytree(first, home)
        died = killed_in(collect, home, step)
        after = open_registry(Settings(home, "tester"))
        seen.add(frozenset(after.blobs.digests()))
        assert verify(after, kept).ok
        assert len(after.statements(kept.manifest)) == len(registry.statements(kept.manifest))
        for referrer in after.referrers(gone.manifest):  # what the catalog still names of it is whole
            after.statement(referrer)
        collect(after)
        collect(after)
        check_clean(after)
        if not died:
            break
        if step % 4:  # pushing takes longest
            continue
        again = push(after, write(tmp_path / "model", {"a": "one", "b": "three"}), "m", "bad")
        assert (again.number, verify(after, again).ok) == (3, True)
        assert [str(said.predicate["text"]) for said in after.statements(again.manifest, "note")] == ["bad"]
    assert not died
    assert len(seen) > 5

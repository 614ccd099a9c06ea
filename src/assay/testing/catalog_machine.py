"""Random changes of a catalog (``assay.ports.catalog.Catalog``), compared with dictionaries after every step.

To run it over a catalog of your own::

    class MyCatalogMachine(CatalogMachine):
        def open_catalog(self, folder: Path) -> Catalog:
            return MyCatalog(folder / "names")


    TestMyCatalogMachine = MyCatalogMachine.TestCase
"""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from assay.errors import Conflict, NotFound
from assay.ports.catalog import Catalog
from assay.spec.digest import Digest
from assay.spec.records import MARKS, EventKind
from assay.testing.catalog import STATEMENT, artifact


@dataclass
class _Line:
    """What the machine expects of one model: manifests by number, their marks, aliases."""

    manifests: list[Digest] = field(default_factory=list)
    purged: set[int] = field(default_factory=set)
    removed: set[int] = field(default_factory=set)
    pinned: set[int] = field(default_factory=set)
    yanked: set[int] = field(default_factory=set)
    aliases: dict[str, int] = field(default_factory=dict)

    def holding(self, manifest: Digest) -> list[int]:
        return [number for number in self.unpurged(manifest) if number not in self.removed]

    def unpurged(self, manifest: Digest) -> list[int]:
        return [
            number for number, found in enumerate(self.manifests, 1) if found == manifest and number not in self.purged
        ]


_NAMES = st.sampled_from(["m", "m/a", "n"])
_ALIASES = st.sampled_from(["champion", "beta"])
_SEEDS = st.integers(0, 4)
_NUMBERS = st.integers(0, 4)


class CatalogMachine(RuleBasedStateMachine):
    """Random changes, reopenings and reindexings, compared with dictionaries after every step."""

    TestCase: Any

    def open_catalog(self, folder: Path) -> Catalog:
        """The catalog in *folder*; empty the first time."""
        raise NotImplementedError

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.catalog = self.open_catalog(self.folder)
        self.lines: dict[str, _Line] = {}
        self.statements: dict[Digest, list[Digest]] = {}
        self.events = 0

    def teardown(self) -> None:
        """Leave nothing behind."""
        shutil.rmtree(self.folder)

    @rule(name=_NAMES, seed=_SEEDS)
    def add_version(self, name: str, seed: int) -> None:
        line = self.lines.setdefault(name, _Line())
        manifest = artifact(seed)
        known = line.holding(manifest)
        version, new = self.catalog.add_version(name, manifest, size=seed, entries=1, actor="ada")
        assert new is not bool(known)
        if new:
            line.manifests.append(manifest)
            self.events += 1
        assert version.number == (known[0] if known else len(line.manifests))

    @rule(name=_NAMES, alias=_ALIASES, number=_NUMBERS, expect=st.none() | _NUMBERS, right=st.booleans())
    def move_alias(self, name: str, alias: str, number: int, expect: int | None, right: bool) -> None:  # noqa: FBT001
        line = self.lines.get(name, _Line())
        now = line.aliases.get(alias)
        expect = now if right else expect
        gone = number in line.removed or (number in line.purged and now != number)
        if not 1 <= number <= len(line.manifests) or gone:
            with pytest.raises(NotFound):
                self.catalog.move_alias(name, alias, number, expect=expect, actor="ada")
        elif now != number and (number in line.yanked or now != expect):
            with pytest.raises(Conflict):
                self.catalog.move_alias(name, alias, number, expect=expect, actor="ada")
        else:
            assert self.catalog.move_alias(name, alias, number, expect=expect, actor="ada").number == number
            line.aliases[alias] = number
            self.events += now != number

    @rule(name=_NAMES, alias=_ALIASES, expect=st.none() | _NUMBERS)
    def remove_alias(self, name: str, alias: str, expect: int | None) -> None:
        now = self.lines.get(name, _Line()).aliases.get(alias)
        if now is not None and expect in {None, now}:
            self.catalog.remove_alias(name, alias, actor="ada", expect=expect)
            del self.lines[name].aliases[alias]
            self.events += 1
        else:
            with pytest.raises(NotFound if now is None else Conflict):
                self.catalog.remove_alias(name, alias, actor="ada", expect=expect)

    @rule(seed=_SEEDS, statement=_SEEDS)
    def add_referrer(self, seed: int, statement: int) -> None:
        known = self.statements.setdefault(artifact(seed), [])
        manifest = artifact(("statement", statement))
        new = self.catalog.add_referrer(artifact(seed), manifest, STATEMENT, size=3, actor="ada")
        assert new is (manifest not in known)
        if new:
            known.append(manifest)
            self.events += 1

    @rule(seed=_SEEDS)
    def purge(self, seed: int) -> None:
        manifest = artifact(seed)
        hit = [(name, number) for name in sorted(self.lines) for number in self.lines[name].unpurged(manifest)]
        named = any(manifest in line.manifests for line in self.lines.values())
        versions = self.catalog.mark_purged(manifest, reason="leaked", actor="ada")
        assert [(version.name, version.number) for version in versions] == hit
        for name, number in hit:
            self.lines[name].purged.add(number)
        self.events += bool(hit) or not named

    @rule(seed=_SEEDS, statements=st.sets(_SEEDS))
    def drop_referrers(self, seed: int, statements: set[int]) -> None:
        known = self.statements.setdefault(artifact(seed), [])
        doomed = [artifact(("statement", statement)) for statement in statements]
        hit = [manifest for manifest in known if manifest in doomed]
        assert self.catalog.drop_referrers(artifact(seed), doomed, actor="ada") == len(hit)
        self.statements[artifact(seed)] = [manifest for manifest in known if manifest not in hit]
        self.events += bool(hit)

    @rule(name=_NAMES, number=_NUMBERS, kind=st.sampled_from([kind for kind in MARKS if kind is not EventKind.REMOVED]))
    def mark(self, name: str, number: int, kind: EventKind) -> None:
        line = self.lines.get(name, _Line())
        if not 1 <= number <= len(line.manifests) or number in line.removed:
            with pytest.raises(NotFound):
                self.catalog.mark(name, number, kind, reason="r", actor="ada")
            return
        mark, sets = MARKS[kind]
        marked: set[int] = getattr(line, mark)
        self.events += (number in marked) is not sets
        assert getattr(self.catalog.mark(name, number, kind, reason="r", actor="ada"), mark) == ("r" if sets else None)
        (marked.add if sets else marked.discard)(number)

    @rule(name=_NAMES, number=_NUMBERS)
    def remove_version(self, name: str, number: int) -> None:
        line = self.lines.get(name, _Line())
        if not 1 <= number <= len(line.manifests) or number in line.removed:
            error: type[Exception] = NotFound
        elif number in line.pinned or number in line.aliases.values():
            error = Conflict
        else:
            self.catalog.mark(name, number, EventKind.REMOVED, reason="r", actor="ada")
            line.removed.add(number)
            self.events += 1
            return
        with pytest.raises(error):
            self.catalog.mark(name, number, EventKind.REMOVED, reason="r", actor="ada")

    @rule()
    def reopen(self) -> None:
        self.catalog = self.open_catalog(self.folder)

    @rule()
    def reindex(self) -> None:
        assert self.catalog.reindex() == self.events

    @invariant()
    def says_what_the_model_says(self) -> None:
        assert [model.name for model in self.catalog.models()] == sorted(
            name for name, line in self.lines.items() if line.manifests
        )
        for name, line in self.lines.items():
            versions = list(self.catalog.versions(name))[::-1]
            assert [version.manifest for version in versions] == line.manifests
            assert {version.number for version in versions if version.purged} == line.purged
            assert {version.number for version in versions if version.removed} == line.removed
            assert {version.number for version in versions if version.pinned} == line.pinned
            assert {version.number for version in versions if version.yanked} == line.yanked
            assert {alias.alias: alias.number for alias in self.catalog.aliases(name)} == line.aliases
        for subject, statements in self.statements.items():
            assert [referrer.manifest for referrer in self.catalog.referrers(subject)] == statements
        assert [event.sequence for event in self.catalog.events()] == list(range(self.events, 0, -1))

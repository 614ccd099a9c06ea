"""Random changes to a blob store that packs, compared with a dictionary after each of them.

To run it over a store of your own::

    class MyStoreMachine(PackingMachine):
        def fresh_store(self, folder: Path) -> PackingStore:
            return MyStore(folder / "blobs")


    TestMyStoreMachine = MyStoreMachine.TestCase

Stores open the same place again when ``fresh_store`` is called with the same folder.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, precondition, rule

from assay.ports.packs import ToPack
from assay.spec.digest import Digest
from assay.testing.packs import HEAD, PackingStore, read, stretches, weights


class PackingMachine(RuleBasedStateMachine):
    """Random changes to a store that packs, compared with a dictionary after every step."""

    known: Bundle[Digest] = Bundle("known")
    TestCase: Any

    def fresh_store(self, folder: Path) -> PackingStore:
        """A store in a folder that is empty, or holds what an earlier one left."""
        raise NotImplementedError

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(dir=_quick()))
        (self.folder / "place").mkdir()
        self.store = self.fresh_store(self.folder / "place")
        self.model: dict[Digest, bytes] = {}

    def teardown(self) -> None:
        """Leave nothing behind."""
        shutil.rmtree(self.folder)

    @rule(target=known, seed=st.integers(0, 2), tune=st.integers(0, 2), count=st.integers(1, 2))
    def add(self, seed: int, tune: int, count: int) -> Digest:
        data = weights(seed, tune=tune, count=count)
        digest = self.store.add(data)
        self.model[digest] = data
        return digest

    @rule(target=known, data=st.binary(max_size=20))
    def add_file(self, data: bytes) -> Digest:
        file = self.folder / "source"
        file.write_bytes(data)
        digest, _ = self.store.add_file(file)
        self.model[digest] = data
        return digest

    @rule(digests=st.lists(known, max_size=4), whole=st.booleans())
    def pack(self, digests: list[Digest], whole: bool) -> None:  # noqa: FBT001 - hypothesis passes by name
        wanted = list(self.model) if whole else digests
        tensors = {one: self.model[one] for one in wanted if self.model.get(one, b"").startswith(b"head")}
        done = self.store.pack(
            [
                ToPack(
                    one, stretches(tensors[one], count=(len(tensors[one]) - HEAD) // 70_000) if one in tensors else ()
                )
                for one in wanted
            ]
        )
        assert set(done.packed) == set(wanted) & set(self.model)
        assert not any(self.store.is_raw(one) for one in done.packed)
        assert all(self.store.is_packed(one) for one in done.packed)

    @rule(digest=known)
    def unpack(self, digest: Digest) -> None:
        packed = self.store.is_packed(digest)
        assert self.store.unpack(digest) is packed
        assert not packed or self.store.is_raw(digest)

    @rule(digest=known)
    def delete(self, digest: Digest) -> None:
        assert self.store.delete(digest) is (self.model.pop(digest, None) is not None)

    @rule(digests=st.lists(known, max_size=3))
    def sweep(self, digests: list[Digest]) -> None:
        with self.store.sweep() as sweep:
            for digest in digests:
                assert sweep.idle(digest) is (digest in self.model)
                assert sweep.delete(digest) == len(self.model.pop(digest, b""))

    @rule(digest=known)
    def renew(self, digest: Digest) -> None:
        assert self.store.renew(digest) == (len(self.model[digest]) if digest in self.model else None)

    @rule(digest=known)
    def set_aside(self, digest: Digest) -> None:
        """Where both copies are there, the packed one is good and stays."""
        both = self.store.is_raw(digest) and self.store.is_packed(digest)
        self.store.set_aside(digest)
        if not both:
            self.model.pop(digest, None)

    @rule(least=st.sampled_from([0.0, 0.25]))
    def compact(self, least: float) -> None:
        before = self.store.pack_use()
        freed = self.store.compact(least=least)
        after = self.store.pack_use()
        assert before.stored - after.stored == freed
        assert after.dead == 0 or least > 0

    @rule()
    def reindex(self) -> None:
        assert self.store.reindex_packs() == self.store.pack_use().packs

    @rule()
    def open_again(self) -> None:
        self.store = self.fresh_store(self.folder / "place")

    @invariant()
    def holds_what_the_model_holds(self) -> None:
        assert {one.digest: one.size for one in self.store.inventory()} == {
            digest: len(data) for digest, data in self.model.items()
        }
        for digest, data in self.model.items():
            assert self.store.size(digest) == len(data)
            assert read(self.store, digest) == data

    @invariant()
    @precondition(lambda self: self.model)
    def packs_are_whole(self) -> None:
        assert list(self.store.check_packs()) == []


def _quick() -> str | None:
    """Memory where there is such a place: the machine is about states, not about disks."""
    return "/dev/shm" if Path("/dev/shm").is_dir() else None  # noqa: S108 - the folder in it has a random name

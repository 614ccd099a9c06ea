"""Random changes to a blob store, compared with a dictionary after each of them.

To run it over a store of your own::

    class MyStoreMachine(BlobStoreMachine):
        def fresh_store(self, folder: Path) -> BlobStore:
            return MyStore(folder / "blobs")


    TestMyStoreMachine = MyStoreMachine.TestCase
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, rule

from assay.ports.blobs import BlobStore
from assay.spec.digest import Digest


class BlobStoreMachine(RuleBasedStateMachine):
    """Random adds, deletes and reads, compared with a dictionary after every step."""

    known: Bundle[Digest] = Bundle("known")
    TestCase: Any

    def fresh_store(self, folder: Path) -> BlobStore:
        """An empty store; *folder* is an empty folder that it may use."""
        raise NotImplementedError

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        (self.folder / "place").mkdir()
        self.store = self.fresh_store(self.folder / "place")
        self.model: dict[Digest, bytes] = {}

    def teardown(self) -> None:
        """Leave nothing behind."""
        shutil.rmtree(self.folder)

    @rule(target=known, data=st.binary(max_size=40))
    def add(self, data: bytes) -> Digest:
        digest = self.store.add(data)
        self.model[digest] = data
        return digest

    @rule(target=known, data=st.binary(max_size=40), move=st.booleans())
    def add_file(self, data: bytes, move: bool) -> Digest:  # noqa: FBT001 - hypothesis passes by name
        file = self.folder / "source"
        file.write_bytes(data)
        digest, size = self.store.add_file(file, move=move)
        assert size == len(data)
        assert file.exists() is not move
        self.model[digest] = data
        return digest

    @rule(digest=known)
    def delete(self, digest: Digest) -> None:
        assert self.store.delete(digest) is (self.model.pop(digest, None) is not None)

    @rule(digest=known)
    def set_aside(self, digest: Digest) -> None:
        self.store.set_aside(digest)
        self.model.pop(digest, None)

    @rule(digest=known)
    def renew(self, digest: Digest) -> None:
        assert self.store.renew(digest) == (len(self.model[digest]) if digest in self.model else None)

    @rule(digest=known)
    def sweep(self, digest: Digest) -> None:
        with self.store.sweep() as sweep:
            assert sweep.idle(digest) is (digest in self.model)
            assert sweep.delete(digest) == len(self.model.pop(digest, b""))

    @invariant()
    def holds_what_the_model_holds(self) -> None:
        assert set(self.store.digests()) == set(self.model)
        assert {one.digest: one.size for one in self.store.inventory()} == {
            digest: len(data) for digest, data in self.model.items()
        }
        for digest, data in self.model.items():
            assert self.store.size(digest) == len(data)
            assert self.store.open(digest).read(0, 100) == data

"""The contract of exchanging packed blobs, over packs in a folder."""

from __future__ import annotations

from pathlib import Path

from assay.blobs.packs.store import PackedStore
from assay.ports.packs import ToPack
from assay.testing.exchange import ExchangeContract, ExchangingStore
from assay.testing.packs import read, stretches, weights


class TestExchange(ExchangeContract):
    def fresh_store(self, folder: Path) -> ExchangingStore:
        return PackedStore(folder)


def test_a_base_is_read_from_another_pack_that_has_it_when_the_one_it_lay_in_goes(tmp_path: Path) -> None:
    """As another machine's compaction may leave it, where both packs were written without knowing of each other."""
    base, tune = weights(1), weights(1, tune=1)
    giver, taker = (PackedStore(tmp_path / name) for name in ("giver", "taker"))
    digests = [giver.add(base), giver.add(tune)]
    giver.pack([ToPack(digest, stretches(base), tuple(digests[:1])) for digest in digests])
    [alone] = [taker.add(base)]
    taker.pack([ToPack(alone, stretches(base))])
    [first] = (tmp_path / "taker/packs").glob("*.pack")
    parts = {part.id for part in giver.parts(digests[1]) or ()}
    assert taker.lacking(parts) < parts  # so the base need not come, and does all the same
    taker.take_in(giver.hand_over(digests[1:], parts))
    assert read(taker, digests[1]) == tune

    first.unlink()

    assert read(PackedStore(tmp_path / "taker"), digests[1]) == tune
    assert taker.size(digests[0]) is None
    assert list(taker.check_packs()) == []

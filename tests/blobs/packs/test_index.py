"""The index by itself: digests that begin alike, what is counted, what is found again; and the files beside packs."""

from __future__ import annotations

import itertools
import threading
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from assay.blobs.packs import gone
from assay.blobs.packs.gone import Gone
from assay.blobs.packs.index import PackIndex
from assay.blobs.packs.lookups import BlobRow
from assay.packing.codec import WORDS, Words
from assay.packing.directory import Directory, Hint, PackedBlob
from assay.packing.segments import Segment
from assay.spec.digest import Digest

FLOATS = WORDS["float32"]


def segment(identity: bytes, *, base: Segment | None = None, size: int = 4000) -> Segment:
    depth = 0 if base is None else base.depth + 1
    return Segment(identity, size, FLOATS, None if base is None else base.id, depth, 8, 100, identity[-8:])


def alike(*numbers: int, start: bytes = b"\x11" * 8) -> list[bytes]:
    """Digests with the same first eight bytes."""
    return [start + bytes([number]) * 24 for number in numbers]


def take_in(
    index: PackIndex, name: str, *segments: Segment, blobs: dict[Digest, list[Segment]], **more: object
) -> None:
    listed = [
        PackedBlob(one, sum(part.size for part in parts), tuple(part.id for part in parts))
        for one, parts in blobs.items()
    ]
    hints = more.get("hints", {})
    assert isinstance(hints, dict)
    held = Directory(segments, tuple(listed), hints)
    with index.change():
        index.take_in_segments(name, 1000, held, Gone())
        index.take_in_blobs(name, held, Gone(), 5)


@pytest.fixture
def index() -> PackIndex:
    return PackIndex(None)


@settings(max_examples=60, deadline=None)
@given(
    order=st.permutations(range(5)),
    gone_first=st.lists(st.integers(0, 4), unique=True, max_size=4),
    start=st.sampled_from([b"\x11" * 8, b"\x7f" + b"\xff" * 7]),
)
def test_digests_that_begin_alike_are_told_apart_whatever_comes_and_goes(
    order: list[int], gone_first: list[int], start: bytes
) -> None:
    index = PackIndex(None)
    ids = alike(*range(5), start=start)
    digests = [Digest("sha256", one.hex()) for one in ids]
    for number in order:
        held = segment(ids[number], size=4000 + 4 * number)
        take_in(index, f"{number}", held, blobs={digests[number]: [held]})
    assert all(index.blob(digests[number]) == BlobRow(digests[number], 4000 + 4 * number, 5) for number in order)
    for number in gone_first:
        with index.change():
            assert index.forget(digests[number])
            index.lose(ids[number], f"{number}")
    left = [number for number in order if number not in gone_first]
    assert {row.digest for row in index.blobs()} == {digests[number] for number in left}
    assert index.among(digests).keys() == {digests[number] for number in left}
    for number in range(5):
        found, row = index.segment(ids[number]), index.blob(digests[number])
        assert (found is not None) is (row is not None) is (number in left)
        if found is not None:
            assert found.segment.size == 4000 + 4 * number
            (part,) = index.parts(digests[number]) or ()
            assert index.segment(part[0]) == found
            assert index.segments([part[0]]) == {part[0]: found}
    for number in gone_first:
        held = segment(ids[number], size=4000 + 4 * number)
        take_in(index, f"again {number}", held, blobs={digests[number]: [held]})
    assert {row.digest for row in index.blobs()} == set(digests)
    assert {index.segment(one).segment.size for one in ids} == {4000 + 4 * number for number in range(5)}  # type: ignore[union-attr]


def test_one_that_begins_alike_is_found_behind_others_when_the_first_goes(index: PackIndex) -> None:
    first, second = alike(1, 2, start=b"\x11" * 8)
    between = b"\x11" * 7 + b"\x12" + b"\x03" * 24
    held = [segment(one) for one in (first, between, second)]
    digests = [Digest("sha256", one.hex()) for one in (first, between, second)]
    take_in(index, "p", *held, blobs=dict(zip(digests, ([one] for one in held), strict=True)))
    with index.change():
        index.forget(digests[0])
        index.lose(first, "p")
    assert index.blob(digests[2]) is not None
    assert index.segment(second) is not None


def test_both_in_one_pack_may_begin_alike(index: PackIndex) -> None:
    held = [segment(one) for one in alike(1, 2, 3)]
    digests = [Digest("sha256", one.hex()) for one in alike(4, 5, 6)]
    take_in(index, "p", *held, blobs=dict(zip(digests, ([one] for one in held), strict=True)))
    assert {row.digest for row in index.blobs()} == set(digests)
    assert [index.segment(one.id).segment for one in held] == held  # type: ignore[union-attr]


def test_sha512_and_sha256_live_side_by_side(index: PackIndex) -> None:
    held = segment(b"\x01" * 32)
    digests = [Digest("sha256", "ab" * 32), Digest("sha512", "ab" * 64)]
    take_in(index, "p", held, blobs={one: [held] for one in digests})
    assert {row.digest for row in index.blobs()} == set(digests)
    with index.change():
        index.forget(digests[0])
    assert index.blob(digests[0]) is None
    assert index.blob(digests[1]) is not None


def test_uses_are_counted_through_every_change(index: PackIndex) -> None:
    base = segment(b"\x01" * 32)
    tune = segment(b"\x02" * 32, base=base)
    one, two, both = (Digest("sha256", f"{number:064x}") for number in range(3))
    take_in(index, "p", base, tune, blobs={one: [base], two: [tune], both: [base, tune, base]})
    assert index.segment(base.id).uses == 3  # type: ignore[union-attr]
    assert index.leaning(base.id) == [tune.id]
    with index.change():
        index.forget(one)
        index.forget(both)
    assert index.segment(base.id).uses == 0  # type: ignore[union-attr]
    assert [found[0] for found in index.unused()] == [base.id]
    take_in(index, "q", blobs={both: [base, tune, base]})
    assert index.segment(base.id).uses == 2  # type: ignore[union-attr]
    assert index.unused() == []
    assert index.totals() == (2, 4000 + 12_000)


def test_a_blob_that_two_packs_list_is_gone_when_neither_does(index: PackIndex) -> None:
    held, digest = segment(b"\x01" * 32), Digest("sha256", "ab" * 32)
    for name in ("p", "q"):
        take_in(index, name, held, blobs={digest: [held]})
    assert sorted(index.listing(digest)) == ["p", "q"]
    assert (index.pack("p").blobs, index.pack("q").blobs) == (1, 1)  # type: ignore[union-attr]
    assert (index.pack("p").spare, index.pack("q").spare) == (0, 100)  # type: ignore[union-attr]
    with index.change():
        index.unlist(digest, "p")
    assert index.listing(digest) == ["q"]
    assert index.listed_by("q") == [digest]
    with index.change():
        index.unlist(digest, "p")
        assert index.blob(digest) is not None
        index.unlist(digest, "q")
    assert index.blob(digest) is None
    assert index.segment(held.id).uses == 0  # type: ignore[union-attr]


def test_tensors_are_found_by_shape_and_name_the_latest_first(index: PackIndex) -> None:
    held = [segment(bytes([number]) * 32, size=8000 if number == 3 else 4000) for number in range(1, 6)]
    names = ["a", "b", "a", "a", "b"]
    for number, (one, name) in enumerate(zip(held, names, strict=True)):
        blob = Digest("sha256", f"{number:064x}")
        take_in(index, f"{number}", one, blobs={blob: [one]}, hints={one.id: Hint(name, "float32", b"sample")})
    assert [found.id for found in index.kin(4000, FLOATS, "a", 9)] == [held[3].id, held[0].id]
    assert [found.id for found in index.kin(4000, FLOATS, "a", 1)] == [held[3].id]
    assert index.kin(4000, Words(4), "a", 9) == []
    assert len(index.strangers(4000, FLOATS, 9)) == 4
    (found,) = index.tensors(Digest("sha256", f"{1:064x}"))
    assert (found.hint, found.size, found.words) == (Hint("b", "float32", b"sample"), 4000, FLOATS)
    with index.change():
        index.lose(held[3].id, "3")
    assert [found.id for found in index.kin(4000, FLOATS, "a", 9)] == [held[0].id]


def test_two_processes_read_and_write_one_file(tmp_path: Path) -> None:
    one, other = PackIndex(tmp_path / "index"), PackIndex(tmp_path / "index")
    held, digest = segment(b"\x01" * 32), Digest("sha256", "ab" * 32)
    take_in(one, "p", held, blobs={digest: [held]})
    assert other.blob(digest) is not None
    with other.change():
        other.renew(digest, 99)
    assert one.blob(digest) == BlobRow(digest, 4000, 99)


def test_all_that_is_asked_in_one_look_is_answered_from_one_state(tmp_path: Path) -> None:
    one, other = PackIndex(tmp_path / "index"), PackIndex(tmp_path / "index")
    held, digest = segment(b"\x01" * 32), Digest("sha256", "ab" * 32)
    writer = threading.Thread(target=lambda: take_in(other, "p", held, blobs={digest: [held]}))
    with one.look():
        assert one.packs() == {}
        writer.start()
        writer.join(timeout=1)
        with one.look():  # as when one question asks another
            assert one.packs() == {}
        assert one.blob(digest) is None
    writer.join()
    assert list(one.packs()) == ["p"]
    with one.change(), one.look():
        one.renew(digest, 99)
    assert other.blob(digest) == BlobRow(digest, 4000, 99)


def test_a_change_that_fails_changes_nothing(index: PackIndex) -> None:
    held, digest = segment(b"\x01" * 32), Digest("sha256", "ab" * 32)
    take_in(index, "p", held, blobs={digest: [held]})

    def fail() -> None:
        with index.change():
            index.forget(digest)
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert index.blob(digest) is not None


LINES = st.lists(
    st.one_of(
        st.tuples(st.just("blob"), st.binary(min_size=32, max_size=32).map(lambda raw: f"sha256:{raw.hex()}")),
        st.tuples(st.just("bad"), st.binary(min_size=32, max_size=32).map(bytes.hex)),
        st.tuples(st.just("moved"), st.binary(min_size=32, max_size=32).map(bytes.hex)),
    ),
    max_size=5,
)


@given(told=LINES, cut=st.integers(0, 2000))
@example(told=[("bad", "00" * 32), ("blob", f"sha256:{'00' * 32}")], cut=181)  # all but the newline
@example(told=[("bad", "00" * 32), ("blob", f"sha256:{'00' * 32}")], cut=180)  # nor the last digit of the check
def test_a_line_that_a_crash_cut_off_does_not_count_and_those_before_and_after_do(
    told: list[tuple[str, str]], cut: int
) -> None:
    data = b"".join(gone.lines("name", kind, [what]) for kind, what in told)  # type: ignore[arg-type]
    torn = data[:cut]
    # What matches its check counts, and the line after it begins on one of its own: the newline is not needed.
    whole = list(itertools.takewhile(lambda one: one[0] - 1 <= len(torn), _ends(told)))
    after = gone.parse("name", torn + gone.lines("name", "bad", ["ff" * 32]))
    assert after.bad == {bytes.fromhex(what) for _, kind, what in whole if kind == "bad"} | {b"\xff" * 32}
    assert {str(one) for one in after.blobs} == {what for _, kind, what in whole if kind == "blob"}
    assert after.moved == {what for _, kind, what in whole if kind == "moved"}


def _ends(told: list[tuple[str, str]]) -> list[tuple[int, str, str]]:
    ends, at = [], 0
    for kind, what in told:
        at += len(gone.lines("name", kind, [what]))  # type: ignore[arg-type]
        ends.append((at, kind, what))
    return ends


def test_lines_of_another_pack_and_of_later_releases_do_not_count() -> None:
    line = gone.lines("name", "bad", ["ff" * 32])
    assert gone.parse("name", line).bad == {b"\xff" * 32}
    assert gone.parse("other", line).bad == set()
    assert gone.parse("name", line.replace(b"f", b"e", 1)).bad == set()
    assert gone.parse("name", gone.lines("name", "new-kind", ["x"]) + line).bad == {b"\xff" * 32}  # type: ignore[arg-type]
    assert gone.parse("name", b"\xff\x00 bad \n" + line).bad == {b"\xff" * 32}


def test_no_two_segments_are_each_others_base_whatever_the_order_in_which_packs_are_found(index: PackIndex) -> None:
    """Three processes that pack at once: one writes Y, one X as the difference to it, one X, and Y as that to it."""
    y, x = segment(b"y" * 32), segment(b"x" * 32)
    leaning_x, leaning_y = segment(x.id, base=y), segment(y.id, base=x)
    packs = {"y": (y,), "x to y": (leaning_x,), "both": (x, leaning_y)}
    blob = Digest.of(b"x and y")
    for order in itertools.permutations(packs):
        index = PackIndex(None)
        for name in order:
            take_in(index, name, *packs[name], blobs={blob: [x, y]})
        assert index.is_complete(blob), order
        assert [index.segment(one.id).segment.depth for one in (x, y)] == [0, 0]  # type: ignore[union-attr]
        rows = index.packs()
        assert {name: row.kept + row.spare for name, row in rows.items()} == {"y": 100, "x to y": 100, "both": 200}
        assert sum(row.kept for row in rows.values()) == 200


def test_a_blob_is_complete_where_all_of_its_segments_and_their_bases_are_there(index: PackIndex) -> None:
    base = segment(b"b" * 32)
    tune, blob = segment(b"t" * 32, base=base), Digest.of(b"tune")
    take_in(index, "tune", tune, blobs={blob: [tune]})
    assert not index.is_complete(blob)
    take_in(index, "base", base, blobs={})
    assert index.is_complete(blob)
    with index.change():
        index.lose(base.id, "base")
    assert not index.is_complete(blob)
    assert not index.is_complete(Digest.of(b"never packed"))

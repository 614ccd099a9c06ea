"""Packs as they are written: what is stored once, what as a difference, what it costs, and what goes wrong."""

from __future__ import annotations

import errno
import io
import random
import struct
import subprocess
import sys
import textwrap
import threading
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pack_stock import Packs
from safetensors.torch import save_file

from assay.errors import BadFormat, IntegrityError, StorageError
from assay.packing import codec, jobs, kin, pipeline
from assay.packing.codec import BLOCK, WORDS, Words
from assay.packing.directory import Hint
from assay.packing.writing import write_pack
from assay.ports.packs import Effort, Stretch, ToPack
from assay.spec.digest import Digest
from assay.trees.window import FileSource, MemorySource

MIB = 1 << 20
Blob = tuple[bytes, list[Stretch]]


def weights(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 0.02, count).astype("<f4")


def tuned(values: np.ndarray, seed: int = 100, size: float = 1e-4) -> np.ndarray:
    return values + (np.random.default_rng(seed).laplace(0, size, len(values))).astype("<f4")


def model(**tensors: np.ndarray) -> Blob:
    """A blob of a header and tensors."""
    blob, stretches = bytearray(repr({name: one.shape for name, one in tensors.items()}).encode()), []
    for name, one in tensors.items():
        stretches.append(Stretch(len(blob), one.nbytes, name, "float32"))
        blob += one.tobytes()
    return bytes(blob), stretches


def packed(*blobs: Blob, effort: Effort = Effort.DEFAULT) -> Packs:
    packs = Packs()
    packs.pack(*blobs, effort=effort)
    for blob, _ in blobs:
        assert packs.read(Digest.of(blob)) == blob
    return packs


def bases(packs: Packs) -> dict[str, str | None]:
    """Names of tensors, and of what they are stored as the difference to (where names are given once)."""
    return {
        packs.hints[one.id].name: packs.hints[one.base].name if one.base is not None else None
        for one, _ in packs.segments.values()
        if one.id in packs.hints
    }


# What comes back.


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_any_blobs_with_any_tensors_in_any_packs_are_read_back(data: st.DataObject) -> None:
    pool = [
        weights(64 * 1024 + 16, 1),
        tuned(weights(64 * 1024 + 16, 1)),
        weights(3000, 2),
        tuned(weights(3000, 2)),
        np.zeros(70_000, "<f4"),
    ]
    packs, blobs = Packs(), []
    for _ in range(data.draw(st.integers(1, 3))):
        group = []
        for _ in range(data.draw(st.integers(0, 4))):
            blob, tensors = bytearray(), []
            for number in range(data.draw(st.integers(0, 4))):
                blob += data.draw(st.binary(max_size=700))
                chosen = data.draw(st.sampled_from(pool)).tobytes()
                dtype = data.draw(st.sampled_from(["float32", "float32", "float16", "int8", "int64"]))
                tensors.append(Stretch(len(blob), len(chosen), f"t{number}", dtype))
                blob += chosen
            group.append((bytes(blob), tensors))
        written = packs.pack(*group, effort=data.draw(st.sampled_from(Effort)))
        assert written.damaged == written.left == ()
        blobs += [blob for blob, _ in group]
    for blob in blobs:
        assert packs.read(Digest.of(blob)) == blob


def test_long_tensors_are_read_back_alone_and_as_differences() -> None:
    base = weights((jobs.HELD + 3 * MIB) // 4 + 100)
    packs = packed(model(a=base), model(a=tuned(base)))
    assert [one.depth for one, _ in packs.segments.values() if one.size > jobs.HELD] == [0, 1]


# What is stored once.


def test_safetensors_and_pt_of_the_same_weights_share_them_whatever_order_and_metadata(tmp_path: Path) -> None:
    tensors = {f"layer.{n}.weight": torch.from_numpy(weights(90_000 + n, n)) for n in range(4)}
    tensors["long"] = torch.from_numpy(weights(jobs.HELD // 4 + 5000, 9))
    save_file(tensors, tmp_path / "a.safetensors")
    save_file(tensors, tmp_path / "b.safetensors", {"note": "other metadata " * 50})
    save_file(
        {f"z.{name}"[:: -1 if name == "long" else 1]: one for name, one in tensors.items()}, tmp_path / "c.safetensors"
    )
    torch.save(dict(reversed(tensors.items())), tmp_path / "d.pt")
    packs, raw = Packs(), sum(one.nbytes for one in tensors.values())
    first = packs.pack(*files(tmp_path / "a.safetensors"))
    assert first.same == 0
    later = packs.pack(*files(*(tmp_path / name for name in ("b.safetensors", "c.safetensors", "d.pt"))))
    assert later.same == 3 * raw
    assert later.size < 20_000


def files(*paths: Path) -> list[Blob]:
    return [(path.read_bytes(), torch_tensors(path) if path.suffix == ".pt" else safe_tensors(path)) for path in paths]


def safe_tensors(path: Path) -> list[Stretch]:
    import json

    data = path.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    head = json.loads(data[8 : 8 + length])
    return [
        Stretch(
            8 + length + found["data_offsets"][0], found["data_offsets"][1] - found["data_offsets"][0], name, "float32"
        )
        for name, found in head.items()
        if name != "__metadata__"
    ]


def torch_tensors(path: Path) -> list[Stretch]:
    data, found = path.read_bytes(), []
    for one in zipfile.ZipFile(path).infolist():
        if "/data/" in one.filename:
            name, extra = struct.unpack("<HH", data[one.header_offset + 26 : one.header_offset + 30])
            found.append(Stretch(one.header_offset + 30 + name + extra, one.file_size, one.filename, "float32"))
    return found


@pytest.mark.parametrize("size", [2000, 300_000, jobs.HELD + 4 * MIB], ids=["small", "held", "long"])
def test_the_same_tensor_is_stored_once_in_a_pack_and_across_packs(size: int) -> None:
    values = weights(size // 4)
    packs = Packs()
    written = packs.pack(model(a=values, tied=values), model(b=values))
    assert written.same == 2 * values.nbytes
    written = packs.pack(model(c=values, x=weights(1000, 5)))
    assert written.same == values.nbytes
    assert sum(one.size == values.nbytes for one, _ in packs.segments.values()) == 1


def test_a_long_tensor_that_looks_known_by_its_sample_and_is_not_is_stored() -> None:
    one = weights(jobs.HELD // 4 + MIB)
    other = one.copy()
    places = set(np.linspace(0, len(one) - 1, kin.SAMPLED, dtype=np.int64).tolist())
    other[next(place for place in range(len(one)) if place not in places)] = 1
    packs = packed(model(a=one), model(a=other))
    assert bases(packs) == {"a": "a"}
    assert packs.size < 0.9 * (one.nbytes + MIB)


def test_long_tensors_of_the_same_bytes_and_another_dtype_are_stored_once() -> None:
    values = weights(jobs.HELD // 4 + MIB).tobytes()
    packs = packed(
        (values, [Stretch(0, len(values), "a", "float32")]), (b"x" + values, [Stretch(1, len(values), "a", "int32")])
    )
    assert sum(one.size == len(values) for one, _ in packs.segments.values()) == 1


def test_an_unknown_format_that_changed_in_one_place_is_stored_but_for_that_place() -> None:
    before = bytes(random.Random(1).choices(b"abcdefgh \n", k=2 * MIB))
    after = before[:MIB] + b"inserted" + before[MIB:]
    packs = Packs()
    packs.pack((before, []))
    written = packs.pack((after, []))
    assert written.same > 0.9 * len(after)


def test_a_blob_that_is_given_twice_is_listed_once() -> None:
    blob = model(a=weights(1000))
    packs = Packs()
    written = packs.pack(blob, blob)
    assert len(written.directory.blobs) == 1


# Differences.


@pytest.mark.parametrize("count", [4096, 100_000, jobs.HELD // 4 + MIB], ids=["small", "held", "long"])
@pytest.mark.parametrize("together", [True, False], ids=["in one pack", "in two"])
def test_a_fine_tune_is_stored_as_the_difference_to_its_base(count: int, together: bool) -> None:
    base = model(a=weights(count, 1), b=weights(count, 2))
    tune = model(a=tuned(weights(count, 1)), b=tuned(weights(count, 2)))
    packs = Packs()
    if together:
        packs.pack(base, tune)
    else:
        packs.pack(base)
        packs.pack(tune, near=[Digest.of(base[0])])
        assert packs.asked[-1][1] == (Digest.of(base[0]),)
    assert packs.read(Digest.of(tune[0])) == tune[0]
    stored = [one.stored for one, _ in packs.segments.values() if one.base is not None]
    assert len(stored) == 2
    assert sum(stored) < 0.7 * 8 * count
    assert bases(packs) == {"a": "a", "b": "b"}


def test_a_renamed_fine_tune_finds_its_base_by_its_sample() -> None:
    names = ["a", "b", "c", "d"]
    base = model(**{name: weights(100_000, seed) for seed, name in enumerate(names)})
    tune = model(**{f"x.{name}": tuned(weights(100_000, seed)) for seed, name in reversed([*enumerate(names)])})
    packs = packed(base, tune)
    assert bases(packs) == {**dict.fromkeys(names), **{f"x.{name}": name for name in names}}


def test_unrelated_tensors_stand_alone_even_under_one_name() -> None:
    packs = packed(model(a=weights(100_000, 1), b=weights(3000, 3)), model(a=weights(100_000, 2), b=weights(3000, 4)))
    assert {one.depth for one, _ in packs.segments.values()} == {0}


def test_the_closest_of_several_is_the_base() -> None:
    first = weights(100_000)
    second = tuned(first, 1, 3e-3)
    third = tuned(second, 2, 1e-5)
    packs = packed(model(first=first), model(second=second), model(third=third))
    assert bases(packs) == {"first": None, "second": "first", "third": "second"}


def test_chains_of_differences_are_bounded() -> None:
    line = [weights(100_000)]
    for step in range(8):
        line.append(tuned(line[-1], step, 3e-3 / 3**step))
    packs = Packs()
    for number in range(0, len(line), 3):  # some bases are in the same pack, some in others
        packs.pack(*(model(a=one) for one in line[number : number + 3]))
    assert max(one.depth for one, _ in packs.segments.values()) == kin.MAX_DEPTH
    for one in line:
        assert packs.read(Digest.of(model(a=one)[0])) == model(a=one)[0]


def test_the_smallest_effort_gives_smaller_packs() -> None:
    base = weights(500_000) * np.exp(weights(500_000, 7) * 100, dtype=np.float32)  # exponents of many sizes
    tune = base + weights(500_000, 8) * np.float32(1e-3)
    blobs = model(a=base), model(a=tune)
    assert packed(*blobs, effort=Effort.SMALLEST).size < 0.98 * packed(*blobs).size


def test_a_block_that_a_difference_does_not_help_stands_alone() -> None:
    base = weights(2 * BLOCK // 4, 1)
    tune = np.concatenate([tuned(base, size=1e-6)[: BLOCK // 4], weights(BLOCK // 4, 2)])
    packs = packed(model(a=base), model(a=tune))
    [stored] = [one.stored for one, _ in packs.segments.values() if one.base is not None]
    alone = next(one.stored for one, _ in packs.segments.values() if one.size == base.nbytes)
    assert stored < 0.757 * alone  # 0.762 where every block is a difference


def test_a_base_that_is_damaged_is_not_used() -> None:
    base, tune = model(a=weights(100_000)), model(a=tuned(weights(100_000)))
    packs = Packs()
    packs.pack(base)
    for segment in packs.hints:
        packs.segments[segment] = (packs.segments[segment][0], MemorySource(bytes(len(packs.files[0]))))
    packs.pack(tune)
    assert packs.read(Digest.of(tune[0])) == tune[0]


# What it costs.


def incompressible(kind: str) -> Blob:
    chance = random.Random(3)
    if kind == "unknown":
        return chance.randbytes(3 * MIB + 77), []
    if kind == "tiny tensors":
        count, size, dtype = 3000, 700, "int8"
    elif kind == "middling tensors":
        count, size, dtype = 60, 60_000, "int8"
    elif kind == "sampled tensors":
        count, size, dtype = 20, kin.LEAST_SAMPLED, "uint8"
    else:
        count, size, dtype = 1, jobs.HELD + 5 * MIB + 1, "int8"
    tensors = [Stretch(50 + size * n, size, f"model.layers.{n}.attention.weight", dtype) for n in range(count)]
    return chance.randbytes(50 + size * count), tensors


@pytest.mark.parametrize("kind", ["unknown", "tiny tensors", "middling tensors", "sampled tensors", "long tensor"])
def test_what_does_not_compress_costs_a_per_mille_at_most(kind: str) -> None:
    blob = incompressible(kind)
    packs = packed(blob)
    assert packs.size <= 1.001 * len(blob[0]) + 400  # and what a directory of one blob takes


@pytest.mark.parametrize("size", [4 << 10, 20 << 10, 100 << 10, 300 << 10])
def test_small_blobs_that_do_not_compress_cost_little_each(size: int) -> None:
    blobs: list[Blob] = [(random.Random(seed).randbytes(size), []) for seed in range(50)]
    assert packed(*blobs).size <= sum(1.001 * len(blob) + 150 for blob, _ in blobs) + 200


# Damage.


def test_a_blob_that_does_not_match_its_digest_is_left_out_and_others_are_not() -> None:
    good, bad = model(a=weights(1000, 1)), model(a=weights(1000, 2))
    file = io.BytesIO()
    wanted = [
        (ToPack(Digest.of(b"something else"), bad[1]), MemorySource(bad[0])),
        (ToPack(Digest.of(good[0]), good[1]), MemorySource(good[0])),
    ]
    written = write_pack(file, wanted, Packs())
    assert written.damaged == (Digest.of(b"something else"),)
    packs = Packs()
    packs.add(file.getvalue())
    assert list(packs.parts) == [Digest.of(good[0])]
    assert packs.read(Digest.of(good[0])) == good[0]


class _Short(MemorySource):
    """Says that it has more than it has."""

    __slots__ = ()

    @property
    def size(self) -> int:
        return len(self.data) + 1000


@pytest.mark.parametrize("tensors", [True, False])
def test_a_blob_whose_source_ends_early_is_damaged_even_if_nulls_would_match(tensors: bool) -> None:
    blob = weights(1000).tobytes() + bytes(1000)
    stretches = [Stretch(0, len(blob), "a", "float32")] if tensors else []
    wanted = ToPack(Digest.of(blob), stretches)
    written = write_pack(io.BytesIO(), [(wanted, _Short(blob[:-1000]))], Packs())
    assert written.damaged == (Digest.of(blob),)


class _Changing(MemorySource):
    """Gives other bytes from the second reading of a place on."""

    __slots__ = ("seen",)

    def __init__(self, data: bytes) -> None:
        super().__init__(data)
        self.seen: set[int] = set()

    def read(self, offset: int, length: int) -> bytes:
        found = super().read(offset, length)
        if length < 65_536:
            return found
        again, _ = offset in self.seen, self.seen.add(offset)
        return bytes([found[0] ^ 1]) + found[1:] if again else found


def test_a_base_that_changes_while_it_is_packed_does_not_spoil_what_is_stored_as_a_difference_to_it() -> None:
    base, tune = model(a=weights(100_000)), model(a=tuned(weights(100_000)))
    file = io.BytesIO()
    write_pack(
        file,
        [
            (ToPack(Digest.of(base[0]), base[1]), _Changing(base[0])),
            (ToPack(Digest.of(tune[0]), tune[1]), MemorySource(tune[0])),
        ],
        Packs(),
    )
    packs = Packs()
    packs.add(file.getvalue())
    assert packs.read(Digest.of(tune[0])) == tune[0]


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_a_pack_with_a_flipped_bit_never_gives_other_bytes(data: st.DataObject) -> None:
    blob = model(a=weights(3000), b=weights(70_000, 2))
    file = io.BytesIO()
    write_pack(file, [(ToPack(Digest.of(blob[0]), blob[1]), MemorySource(blob[0]))], Packs())
    spoilt = bytearray(file.getvalue())
    spoilt[data.draw(st.integers(0, len(spoilt) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    packs = Packs()
    try:
        packs.add(bytes(spoilt))
        found = packs.read(Digest.of(blob[0]))
    except (IntegrityError, BadFormat):
        return
    assert found == blob[0]


# What goes wrong.


@pytest.mark.parametrize("spoilt", range(2))
def test_what_does_not_decode_to_what_was_encoded_is_never_written(
    spoilt: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    encode, calls = codec.encode, iter(range(1000))

    def wrong(*args: Any, **options: Any) -> list[bytes | np.ndarray]:
        parts = encode(*args, **options)
        if next(calls) == spoilt:
            parts[1] = np.frombuffer(bytes(parts[1]), np.uint8) ^ np.uint8(1)
        return parts

    monkeypatch.setattr(codec, "encode", wrong)
    base, tune = weights(100_000), tuned(weights(100_000))
    with pytest.raises(IntegrityError, match="does not decode to what was encoded"):
        Packs().pack(model(a=base), model(a=tune))


class _Full(io.BytesIO):
    def write(self, data: object) -> int:
        if self.tell() > MIB:
            raise OSError(errno.ENOSPC, "no space left on device")
        return super().write(data)  # type: ignore[arg-type]


class _Vanishing(MemorySource):
    __slots__ = ()

    def read(self, offset: int, length: int) -> bytes:
        if offset > 6 * MIB:
            raise StorageError("the place is gone")
        return super().read(offset, length)


class _Interrupting:
    def start(self, what: str, total: int) -> None: ...

    def advance(self, count: int) -> None:
        raise KeyboardInterrupt

    def finish(self) -> None: ...


def _fill_up(blob: Blob) -> None:
    write_pack(_Full(), [(ToPack(Digest.of(blob[0]), blob[1]), MemorySource(blob[0]))], Packs())


def _vanish(blob: Blob) -> None:
    write_pack(io.BytesIO(), [(ToPack(Digest.of(blob[0]), blob[1]), _Vanishing(blob[0]))], Packs())


def _interrupt(blob: Blob) -> None:
    wanted = [(ToPack(Digest.of(blob[0]), blob[1]), MemorySource(blob[0]))]
    write_pack(io.BytesIO(), wanted, Packs(), progress=_Interrupting())


@pytest.mark.parametrize(
    ("do", "error"),
    [(_fill_up, OSError), (_vanish, StorageError), (_interrupt, KeyboardInterrupt)],
    ids=["the disk is full", "the source vanishes", "somebody interrupts"],
)
def test_when_something_fails_the_error_is_told_and_no_thread_stays(
    do: Callable[[Blob], None], error: type[BaseException]
) -> None:
    blob = model(a=weights(400_000), b=weights(5 * MIB // 2, 2), c=weights(400_000, 3))
    with pytest.raises(error):
        do(blob)
    assert not [one for one in threading.enumerate() if one.name.startswith(("assay-pack", "assay-sum"))]


def test_a_file_that_takes_a_part_of_what_it_is_given_gets_all_of_it() -> None:
    class Partial(io.BytesIO):
        def write(self, data: object) -> int:
            return super().write(memoryview(data)[:1000])  # type: ignore[arg-type]

    blob = model(a=weights(50_000))
    file = Partial()
    write_pack(file, [(ToPack(Digest.of(blob[0]), blob[1]), MemorySource(blob[0]))], Packs())
    packs = Packs()
    packs.add(file.getvalue())
    assert packs.read(Digest.of(blob[0])) == blob[0]


# Several packs, and the same one again.


def test_a_full_pack_takes_no_further_blob_and_says_which_are_left() -> None:
    blobs = [model(a=weights(500_000, seed)) for seed in range(5)]
    packs = Packs()
    written = packs.pack(*blobs, limit=3 * MIB)
    assert len(written.directory.blobs) == 2
    assert written.left == tuple(Digest.of(blob) for blob, _ in blobs[2:])
    assert packs.pack(*blobs[2:], limit=1).left == tuple(Digest.of(blob) for blob, _ in blobs[3:])


def test_duplicates_do_not_fill_a_pack() -> None:
    blob = weights(500_000).tobytes()
    copies: list[Blob] = [(bytes([n]) + blob, [Stretch(1, len(blob), "a", "float32")]) for n in range(5)]
    assert Packs().pack(*copies, limit=3 * MIB).left == ()


@pytest.mark.parametrize("workers", [1, 3, 8])
def test_the_same_blobs_give_the_same_pack_with_any_number_of_threads(
    workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = {"long": weights(jobs.HELD // 4 + MIB), **{f"t{n}": weights(30_000 + 9000 * n, n) for n in range(12)}}
    tune = {name: tuned(one) for name, one in base.items()}
    blobs = [model(**base), model(**tune), model(**{name: tuned(one, 5) for name, one in tune.items()})]
    expected = packed(*blobs).files
    monkeypatch.setattr(pipeline.os, "sched_getaffinity", lambda _: set(range(workers)))
    assert packed(*blobs).files == expected


def test_a_file_is_packed_from_where_it_lies(tmp_path: Path) -> None:
    blob = model(a=weights(2_000_000))
    (tmp_path / "blob").write_bytes(blob[0])
    with (tmp_path / "pack").open("w+b") as file:
        write_pack(file, [(ToPack(Digest.of(blob[0]), blob[1]), FileSource(tmp_path / "blob"))], Packs())
    packs = Packs()
    packs.add((tmp_path / "pack").read_bytes())
    assert packs.read(Digest.of(blob[0])) == blob[0]


LARGE = """
import hashlib, sys
sys.path.insert(0, {builders!r})
import numpy as np
from pack_stock import Packs
from assay.packing.writing import write_pack
from assay.ports.packs import Stretch, ToPack
from assay.spec.digest import Digest

BIT = np.random.default_rng(1).normal(0, 0.02, 1 << 20).astype("<f4").tobytes()

class Endless:
    size = {mib} << 20
    def read(self, offset, length):
        start = offset % len(BIT)
        return (BIT[start:] + BIT * (length // len(BIT) + 1))[: min(length, self.size - offset)]

state = hashlib.sha256()
for _ in range({mib} // 4):
    state.update(BIT)
tensors = [Stretch(0, {mib} << 20, "large", "float32")] if {tensor} else []
wanted = ToPack(Digest("sha256", state.hexdigest()), tensors)
def peak():  # of this program alone: ru_maxrss begins with what the parent had when it forked
    return int(next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1])

before = peak()
with open("/dev/null", "wb") as file:
    written = write_pack(file, [(wanted, Endless())], Packs())
assert written.damaged == () and written.left == (), written
print(peak() - before)
"""


@pytest.mark.parametrize("tensor", [True, False], ids=["one tensor", "unknown format"])
def test_memory_does_not_grow_with_the_blob(tensor: bool) -> None:
    builders = str(Path(__file__).parent.parent / "builders")

    def taken(mib: int) -> int:
        script = textwrap.dedent(LARGE).format(builders=builders, mib=mib, tensor=tensor)
        return int(subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True).stdout)

    small, large = taken(64), taken(320)
    assert large < small + 20_000  # KiB
    assert large < 150_000


def test_words_of_dtypes_are_all_packed_and_read_back() -> None:
    for dtype, words in WORDS.items():
        values = np.random.default_rng(1).integers(0, 50, 40_000 * words.width).astype(np.uint8).tobytes()
        packed((values, [Stretch(0, len(values), "a", dtype)]))


# Other packs come and go while one is written.


class Shifting(Packs):
    """A stock to which somebody adds a pack, or in which something goes, after so many questions for bases."""

    def __init__(self, *, after: int, gone: Digest | None = None, come: Blob | None = None) -> None:
        super().__init__()
        self._after, self._gone, self._come = after, gone, come

    def alike(self, size: int, words: Words, hint: Hint, near: Sequence[Digest]) -> Sequence[tuple[bytes, Hint, int]]:
        """See ``Stock``."""
        found = super().alike(size, words, hint, near)
        if len(self.asked) == self._after:
            for part in self.parts.get(self._gone, ()) if self._gone is not None else ():
                self.segments.pop(part, None)
            if self._come is not None:
                other = Packs()
                other.pack(self._come)
                self.add(other.files[0])
            return super().alike(size, words, hint, near) if self._come is not None else found
        return found


@pytest.mark.parametrize("count", [50_000, 5 * MIB // 4], ids=["held", "long"])
@pytest.mark.parametrize("after", range(1, 9))
def test_what_another_process_packs_meanwhile_otherwise_does_not_contradict_this_pack(after: int, count: int) -> None:
    base = weights(count, 9)
    second, third, fourth = (tuned(base, seed) for seed in (1, 2, 3))
    second[:] = third + (second - base) / 8  # closest to each other: the third is a difference to the second
    packs = Shifting(after=after, come=model(a=second))
    blobs = [model(a=one) for one in (base, second, third, fourth)]
    packs.pack(*blobs)
    for blob, _ in blobs:
        assert packs.read(Digest.of(blob)) == blob


@pytest.mark.parametrize("count", [50_000, 5 * MIB // 4], ids=["held", "long"])
@pytest.mark.parametrize("after", [1, 2])
def test_a_base_that_goes_and_comes_back_in_this_pack_stands_alone_there(after: int, count: int) -> None:
    base = weights(count, 9)
    first = model(a=base)
    packs = Shifting(after=after, gone=Digest.of(first[0]))
    packs.pack(first)
    packs.asked.clear()
    again, other = model(a=base, b=tuned(base, 5)), model(a=tuned(base, 6))
    tune = model(a=tuned(base, 7))
    packs.pack(tune, other, again)
    assert packs.read(Digest.of(again[0])) == again[0]
    for one in packs.segments.values():
        held = one[0]
        if held.base in packs.segments:
            assert packs.segments[held.base][0].depth < held.depth

"""``assay pack-store``, ``assay unpack`` and what other commands say of packs, as they are typed."""

from __future__ import annotations

import json
import shutil
import struct
from collections.abc import Callable
from pathlib import Path

import jsonschema
import numpy as np
import pytest
import zstandard
from model_files import safetensors
from packs import id_of

import assay

TEXT, NUMBER, FLAG = ({"type": kind} for kind in ("string", "integer", "boolean"))
MAYBE = {"type": ["integer", "null"]}


def exactly(**fields: dict) -> dict:
    return {"type": "object", "properties": fields, "required": [*fields], "additionalProperties": False}


def items(schema: dict) -> dict:
    return {"type": "array", "items": schema}


PACKED = exactly(
    dry_run=FLAG,
    blobs=NUMBER,
    raw=NUMBER,
    stored=MAYBE,
    at_most=MAYBE,
    same=MAYBE,
    differing=MAYBE,
    already=exactly(blobs=NUMBER, bytes=NUMBER),
    versions=items(exactly(reference=TEXT, blobs=NUMBER, bytes=NUMBER)),
    spared=items(exactly(why=TEXT, of=TEXT, blobs=NUMBER, bytes=NUMBER)),
    damaged=items(exactly(digest=TEXT, files=items(TEXT))),
)
UNPACKED = items(exactly(reference=TEXT, blobs=NUMBER, bytes=NUMBER))
FAULTS = exactly(packs=NUMBER, bytes=NUMBER, ok=FLAG, faults=items(exactly(pack=TEXT, what=TEXT, blobs=items(TEXT))))
SIZE = 4 * 100_000


def weights(step: float = 0.0) -> bytes:
    values = np.random.default_rng(1).normal(0, 0.05, 100_000).astype("<f4")
    return (values + np.random.default_rng(2).normal(0, 1, 100_000).astype("<f4") * np.float32(step)).tobytes()


@pytest.fixture(autouse=True)
def home(tmp_path: Path, run, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home with a base, and a tune of it with two versions, the second of them aliased ``live``."""
    monkeypatch.setenv("ASSAY_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("ASSAY_ACTOR", "tester")
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model").mkdir()
    for name, step, options in (("base", 0, ()), ("tune", 1e-6, ()), ("tune", 2e-6, ("--alias", "live"))):
        write(tmp_path, weights(step))
        assert run("push", "./model", name, *options)[0] == 0
    return tmp_path / "home"


def write(folder: Path, raw: bytes) -> None:
    (folder / "model/model.safetensors").write_bytes(safetensors(weight=("F32", [100_000], raw)))


def answer(outcome: tuple[int, str, str], schema: dict, *, status: int = 0) -> dict:
    assert outcome[0] == status, outcome[2]
    body = json.loads(outcome[1])
    jsonschema.validate(body, schema)
    return body


def disk(home: Path) -> int:
    return sum(
        path.stat().st_size for place in ("blobs", "packs") for path in (home / place).rglob("*") if path.is_file()
    )


def test_a_dry_run_says_what_would_be_packed_and_changes_nothing(run, home: Path) -> None:
    before = sorted(home.rglob("*"))
    body = answer(run("pack-store", "--dry-run", "--json"), PACKED)
    assert (body["dry_run"], body["blobs"], body["stored"]) == (True, 3, None)
    assert 2 * SIZE < body["at_most"] < 3 * SIZE
    status, out, err = run("pack-store", "--dry-run")
    assert status == 0
    assert "tune:2" in out
    assert "3 files, 1.20 MB would be packed into about 99" in err
    assert not (home / "packs").exists()
    assert [path for path in sorted(home.rglob("*")) if "catalog" not in path.name and "lineage" not in str(path)] == [
        path for path in before if "catalog" not in path.name and "lineage" not in str(path)
    ]


def test_a_family_takes_little_more_than_its_base_and_the_disk_says_so(run, home: Path) -> None:
    before = disk(home)
    body = answer(run("pack-store", "--json"), PACKED)
    assert (body["blobs"], body["damaged"], body["at_most"]) == (3, [], None)
    assert body["differing"] == 2 * SIZE
    assert body["stored"] < 0.6 * body["raw"]
    assert disk(home) < 0.7 * before
    again = answer(run("pack-store", "--json"), PACKED)
    assert (again["blobs"], again["already"]["blobs"], again["versions"]) == (0, 3, [])
    assert "nothing to pack" in run("pack-store")[2]
    assert [run("verify", "--all")[0], run("pull", "tune:2", "out")[0]] == [0, 0]
    assert Path("out/model.safetensors").read_bytes() == Path("model/model.safetensors").read_bytes()


def test_what_stays_raw_is_told_with_its_reason(run) -> None:
    body = answer(run("pack-store", "--keep-raw", "live", "--json"), PACKED)
    assert [one["reference"] for one in body["versions"]] == ["base:1", "tune:1"]
    assert {"why": "kept-raw", "of": "tune:live", "blobs": 1}.items() <= body["spared"][0].items()
    err = run("pack-store", "--keep-raw", "live")[2]
    assert "1 file, 400 kB stay raw for tune:live" in err
    assert "2 files, 800 kB: packed already" in err
    assert run("pack-store", "--keep-raw", "lvie")[0] == 2
    assert "too young: tune:2" in run("pack-store", "--older-than", "1d")[2]
    assert run("pack-store", "--older-than", "soon")[0] == 2


def test_references_narrow_it(run) -> None:
    assert [one["reference"] for one in answer(run("pack-store", "tune", "--json"), PACKED)["versions"]] == [
        "tune:1",
        "tune:2",
    ]
    assert answer(run("pack-store", "base:1", "--smallest", "--json"), PACKED)["blobs"] == 1
    assert run("pack-store", "nobody")[0] == 2


def test_a_push_can_pack(run, home: Path, tmp_path: Path) -> None:
    write(tmp_path, weights(3e-6))
    status, out, err = run("push", "./model", "tune", "--packed")
    assert (status, out.split()[0]) == (0, "tune:3")
    assert "1 file, 400 kB packed into" in err
    assert json.loads(run("show", "tune:3", "--json")[1])["files"][0]["packed"] is True
    assert "packed" in run("show", "tune:3")[1]
    assert "packed" not in run("show", "tune:2")[1]


def test_unpack_gives_raw_copies_back(run) -> None:
    run("pack-store")
    body = answer(run("unpack", "tune", "--json"), UNPACKED)
    assert [(one["reference"], one["blobs"]) for one in body] == [("tune:1", 1), ("tune:2", 1)]
    assert json.loads(run("pull", "tune:1", "out", "--link", "--json")[1])["linked"] is True
    assert json.loads(run("pull", "base:1", "other", "--link", "--json")[1])["linked"] is False
    assert run("unpack", "base:1")[1] == "base:1  1 file, 400 kB raw again\n"
    assert run("unpack")[0] == 64


def test_du_says_what_is_packed_and_what_it_takes(run, home: Path) -> None:
    assert json.loads(run("du", "--json")[1])["packs"] is None
    run("pack-store", "tune")
    body = json.loads(run("du", "--json")[1])
    assert (body["packs"]["packs"], body["packs"]["blobs"], body["packs"]["dead"]) == (1, 2, 0)
    assert body["packed"] == body["packs"]["raw"] > body["packs"]["stored"]
    assert body["packs"]["stored"] == sum(path.stat().st_size for path in (home / "packs").glob("*.pack"))
    tune = next(model for model in body["models"] if model["name"] == "tune")
    assert tune["packed"] == body["packed"]
    assert {row["reference"]: row["packed"] > 0 for row in tune["versions"]} == {"tune:2": True, "tune:1": True}
    on_disk = sum(path.lstat().st_size for path in home.rglob("*") if path.is_file())
    assert abs(body["total"] - on_disk) < 0.05 * on_disk
    status, out, err = run("du")
    assert status == 0
    assert "Packed" in out
    assert "1 pack of" in err
    assert "packed" in run("du", "tune:1")[1]


def test_collecting_writes_packs_anew_without_what_nothing_needs(run, home: Path) -> None:
    run("pack-store")
    stored = json.loads(run("du", "--json")[1])["packs"]["stored"]
    run("unalias", "tune", "live", "--reason", "old")
    for reference in ("tune:1", "tune:2"):
        assert run("remove", reference, "--reason", "old", "--yes")[0] == 0
    dry = json.loads(run("gc", "--grace", "0", "--json")[1])
    assert (dry["packs"]["blobs"], dry["packs"]["freed"]) == (2, None)
    assert 0 < dry["packs"]["about"] <= dry["freed"] < stored
    assert "only in packs: 2 blobs" in run("gc", "--grace", "0")[2]
    done = json.loads(run("gc", "--grace", "0", "--yes", "--json")[1])
    assert done["packs"]["freed"] > 0
    after = json.loads(run("du", "--json")[1])["packs"]
    assert (after["blobs"], after["dead"]) == (1, 0)
    assert after["stored"] == stored - done["packs"]["freed"]
    assert (run("verify", "--all")[0], run("pull", "base", "out")[0]) == (0, 0)
    assert weights() in Path("out/model.safetensors").read_bytes()


def test_a_little_that_nothing_needs_stays_until_it_is_more(run) -> None:
    run("pack-store")
    run("unalias", "tune", "live", "--reason", "old")
    assert run("remove", "tune:2", "--reason", "old", "--yes")[0] == 0
    _, _, err = run("gc", "--grace", "0", "--yes")
    assert "stay in packs until a quarter of one is unneeded" in err
    assert "needed by nothing: assay gc --yes" in run("du")[2]


def segments_of(home: Path) -> list[dict]:
    """Every segment of every pack, as its directory lists it."""
    found = []
    for pack in (home / "packs").glob("*.pack"):
        data = pack.read_bytes()
        offset, length = struct.unpack("<QQ", data[-64:-48])
        found += json.loads(zstandard.ZstdDecompressor().decompress(data[offset : offset + length]))["segments"]
    return found


def test_purging_takes_packed_bytes_away_for_good_also_where_others_were_stored_by_them(run, home: Path) -> None:
    run("pack-store")
    tensor = id_of(weights(1e-6)).hex()
    assert tensor in {one["id"] for one in segments_of(home)}
    assert tensor in {one.get("base") for one in segments_of(home)}
    assert run("purge", "tune:1", "--reason", "leaked", "--yes")[0] == 0
    assert tensor not in {one[field] for one in segments_of(home) for field in ("id", "base") if field in one}
    assert (run("verify", "--all")[0], run("pull", "tune:2", "out")[0]) == (0, 0)
    assert Path("out/model.safetensors").read_bytes() == Path("model/model.safetensors").read_bytes()
    body = json.loads(run("du", "--json")[1])["packs"]
    assert (body["blobs"], body["dead"]) == (2, 0)


def spoil(home: Path, where: Callable[[int], int]) -> None:
    pack = max((home / "packs").glob("*.pack"), key=lambda path: path.stat().st_size)
    data = bytearray(pack.read_bytes())
    data[where(len(data))] ^= 1
    pack.chmod(0o644)
    pack.write_bytes(data)


def test_damage_in_a_pack_is_told_in_a_sentence_and_mended_by_the_next_push(run, home: Path, tmp_path: Path) -> None:
    run("pack-store")
    spoil(home, lambda size: 1000)  # in the base
    packs = json.loads(run("verify", "--all", "--json")[1])[-1]
    jsonschema.validate(packs, FAULTS)
    assert (packs["ok"], len(packs["faults"])) == (False, 1)
    assert len(packs["faults"][0]["blobs"]) == 3
    for name, step in (("base", 0), ("tune", 1e-6), ("tune", 2e-6)):
        write(tmp_path, weights(step))
        assert run("push", "./model", name)[0] == 0
    assert run("verify", "--all")[0] == 0


def test_a_damaged_pack_is_told_to_people(run, home: Path) -> None:
    run("pack-store")
    spoil(home, lambda size: 1000)
    status, out, err = run("verify", "--all")
    assert status == 1
    assert "damaged base:1" in out
    assert "damaged 1 pack" in out
    assert "segments are damaged; 3 blobs cannot be read" in out
    assert "push or copy the original files" in err


def test_every_byte_of_a_pack_is_looked_at(run, home: Path, tmp_path: Path) -> None:
    run("pack-store", "base")
    (pack,) = (home / "packs").glob("*.pack")
    intact = pack.read_bytes()
    assert run("verify", "--all")[0] == 0
    for place in (0, 7, 8, len(intact) // 2, len(intact) - 65, len(intact) - 12, len(intact) - 1):
        copy = tmp_path / f"copy-{place}"
        shutil.copytree(home, copy)
        spoiled = bytearray(intact)
        spoiled[place] ^= 1
        (copy / "packs" / pack.name).chmod(0o644)
        (copy / "packs" / pack.name).write_bytes(spoiled)
        assert run("--home", copy, "verify", "--all", "--json")[0] == 1, place


def test_a_pack_whose_directory_is_damaged_is_told(run, home: Path) -> None:
    run("pack-store")
    spoil(home, lambda size: size - 100)
    status, out, _ = run("verify", "--all")
    assert status == 1
    assert "pack " in out


def test_a_damaged_file_is_not_packed_and_the_exit_status_says_so(run, home: Path) -> None:
    file = max((home / "blobs").rglob("*"), key=lambda path: path.stat().st_size if path.is_file() else 0)
    file.chmod(0o644)
    data = bytearray(file.read_bytes())
    data[5000] ^= 1
    file.write_bytes(data)
    status, _, err = run("pack-store")
    assert status == 1
    assert "does not match its digest and stays as it is" in err
    assert file.read_bytes() == data


def test_python_packs_and_unpacks(home: Path) -> None:
    done = assay.pack_store("tune", keep_raw="live", home=home)
    assert done.blobs == 1
    assert assay.pack_store(older_than="1d", home=home).blobs == 0
    assert assay.unpack("tune:1", home=home) > SIZE


def test_links_made_for_loading_do_not_keep_raw_bytes(run, home: Path) -> None:
    assay.load("base", home=home)
    assert list((home / "snapshots").glob("*/model.safetensors"))
    run("pack-store", "base")
    assert not list((home / "snapshots").glob("*/model.safetensors"))
    assert np.asarray(assay.load("base", home=home)["weight"]).tobytes() == weights()


def test_the_index_of_the_packs_is_made_again_when_it_is_lost(run, home: Path) -> None:
    run("pack-store")
    for file in (home / "packs").glob("index*"):
        file.unlink()
    assert run("verify", "--all")[0] == 0
    shutil.rmtree(home / "snapshots", ignore_errors=True)
    assert run("pull", "tune:2", "out")[0] == 0

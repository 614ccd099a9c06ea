"""The saved corpus of ``make fuzz``: every promise of its targets holds on every input."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from fuzz_targets import Broken, bundle, check, files_of, forbidden_names, targets
from fuzz_unpickler import Unpickler

from fuzz import CORPUS, KEPT_BYTES, KEPT_LARGEST, changed

ROUNDS = 100
"""Accidents that happen to each input, the same in every run."""


def inputs(name: str) -> list[bytes]:
    return [file.read_bytes() for file in sorted((CORPUS / name).glob("*"))]


@pytest.mark.parametrize("name", targets())
def test_every_promise_holds_on_the_saved_corpus_and_close_to_it(name: str) -> None:
    saved = inputs(name)
    assert saved, f"tools/fuzz.py --keep {name} makes a corpus"
    chance = random.Random(name)
    for data in saved:
        check(name, data)
    for _ in range(ROUNDS):
        check(name, changed(chance, chance.choice(saved), chance.choice(saved)))


def test_the_corpus_is_small_and_has_no_strays() -> None:
    files = [file for file in CORPUS.rglob("*") if file.is_file()]
    assert {file.parent.name for file in files} <= set(targets())
    assert max(file.stat().st_size for file in files) <= KEPT_LARGEST
    assert sum(file.stat().st_size for file in files) <= 300_000


@pytest.mark.parametrize(
    "stream", [b"cos\nsystem\n(S'x'\ntR.", b"\x80\x04\x8c\x02os\x8c\x06system\x93", b"(S'x'\nios\nsystem\n."]
)
def test_the_locked_unpickler_records_names_and_resolves_nothing(stream: bytes, tmp_path: Path) -> None:
    assert forbidden_names(stream) == {("os", "system")}


def test_the_locked_unpickler_survives_streams_that_kill_it() -> None:
    unpickler = Unpickler()
    try:
        assert unpickler.names(b"\x80\x04\x8c\x02os\x8c\x06system\x93" + b"(" * 20_000_000) in (
            None,
            frozenset({("os", "system")}),
        )
        assert unpickler.names(b"cbuiltins\nlen\n.") == {("builtins", "len")}
    finally:
        unpickler.close()


def test_it_notices_what_the_machine_does_not_see(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Unpickler, "names", lambda self, data: frozenset({("os", "system")}))
    with pytest.raises(Broken, match="the machine saw"):
        check("pickle-machine", b"cbuiltins\nlen\n.")


def test_several_files_are_one_input() -> None:
    files = {"a/config.json": b"{}", "b.bin": b"one\ntwo\n"}
    assert files_of(bundle(files), "m") == files
    assert files_of(b"plain", "m") == {"m": b"plain"}
    assert KEPT_BYTES * len(targets()) <= 330_000

"""Push: one artifact, one number, and statements beside it."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from assay.artifact.collect import collect
from assay.errors import Conflict, InvalidInput, NotFound, Refused, StorageError
from assay.service import publish
from assay.service.publish import Base, Claims
from assay.service.registry import Registry
from assay.settings import Settings
from assay.spec.digest import Digest
from assay.spec.reference import Reference
from assay.wiring.auditing import guard_of


def test_a_file_that_goes_while_a_push_begins_is_named(registry: Registry, model: Path) -> None:
    files = collect(model)
    (model / "settings.json").unlink()

    with pytest.raises(NotFound, match=r"settings\.json"):
        publish.push(registry, files, "m", guard=guard_of(Settings(Path(registry.place), "tester")))
    assert registry.catalog.models() == []


def test_the_first_push_is_version_one_and_the_next_change_version_two(push, model: Path) -> None:
    first = push(model)
    (model / "settings.json").write_text('{"threshold": 0.6}')
    second = push(model)

    assert (first.version.reference, first.new) == ("team/model:1", True)
    assert (second.version.reference, second.new) == ("team/model:2", True)
    assert first.version.manifest != second.version.manifest


def test_pushing_the_same_content_again_gives_the_same_version_and_attaches_what_is_new(
    push, registry: Registry, model: Path
) -> None:
    first = push(model, claims=Claims(metrics={"auc": 0.9}))
    os.utime(model / "README.md", (0, 0))
    (model / "README.md").chmod(0o600)
    again = push(model, claims=Claims(metrics={"auc": 0.9}, note="checked"))

    assert again.version == first.version
    assert not again.new
    assert again.statements == ("note",)
    kinds = [statement.kind for statement in registry.statements(first.version.manifest)]
    assert kinds == ["description", "metrics", "audit", "note"]


def test_another_model_with_the_same_content_shares_the_digest_but_has_its_own_number(push, model: Path) -> None:
    push(model, "a")
    (model / "README.md").write_text("changed")
    push(model, "b")
    shared = push(model, "a")

    assert shared.version.reference == "a:2"


def test_every_claim_becomes_a_statement_about_the_artifact(push, registry: Registry, model: Path) -> None:
    base = push(model, "base").version
    (model / "README.md").write_text("fine-tuned")
    claims = Claims(
        metrics={"f1": 0.5}, params={"lr": 0.1}, bases=(Base("base:1"),), run="https://runs.example/7", note="a note",
        environment={"python": {"version": "3.11.7"}},
    )  # fmt: skip
    version = push(model, "tuned", claims=claims).version

    said = {found.kind: found.predicate for found in registry.statements(version.manifest)}
    assert said["metrics"] == {"metrics": {"f1": 0.5}}
    assert said["params"] == {"params": {"lr": 0.1}}
    assert said["base"]["manifest"] == str(base.manifest)
    assert said["run"] == {"uri": "https://runs.example/7", "system": "https", "source": "given"}
    assert said["note"] == {"text": "a note"}
    assert said["environment"] == {"python": {"version": "3.11.7"}}
    assert said["description"]["summary"]["parameters"] == 6


def test_a_base_that_is_not_here_is_kept_as_it_was_said(push, registry: Registry, model: Path) -> None:
    version = push(model, claims=Claims(bases=(Base("sentence-transformers/all-MiniLM-L6-v2"),))).version

    (said,) = registry.statements(version.manifest, "base")
    name = "sentence-transformers/all-MiniLM-L6-v2"
    assert said.predicate == {"relation": "finetuned-from", "name": name, "source": "given"}


def test_a_base_version_that_does_not_exist_is_an_error_before_anything_is_stored(
    push, registry: Registry, model: Path
) -> None:
    push(model, "base")
    stored = set(registry.blobs.digests())
    (model / "README.md").write_text("changed")

    with pytest.raises(NotFound):
        push(model, "tuned", claims=Claims(bases=(Base("base:7"),)))
    assert set(registry.blobs.digests()) == stored


def test_a_bad_name_or_alias_is_refused_before_anything_is_stored(push, registry: Registry, model: Path) -> None:
    for options in ({"name": "Bad Name"}, {"alias": "3"}, {"alias": "two words"}):
        with pytest.raises(InvalidInput):
            push(model, **options)

    assert list(registry.blobs.digests()) == []


def test_an_alias_follows_the_push_and_resolves(push, registry: Registry, model: Path) -> None:
    push(model, alias="champion")
    (model / "README.md").write_text("changed")
    push(model, alias="champion")

    assert registry.resolve(Reference.parse("team/model:champion")).number == 2
    assert registry.resolve(Reference.parse("team/model:1")).number == 1
    assert registry.resolve(Reference.parse("team/model")).number == 2


def test_a_digest_names_a_version_and_must_agree_with_the_label(push, registry: Registry, model: Path) -> None:
    version = push(model).version

    assert registry.resolve(Reference.parse(f"team/model@{version.manifest}")) == version
    assert registry.resolve(Reference.parse(f"team/model:1@{version.manifest}")) == version
    with pytest.raises(InvalidInput):
        registry.resolve(Reference.parse("team/model:1@sha256:" + "0" * 64))


@pytest.mark.parametrize(
    ("text", "code"),
    [("nothing", "model-not-found"), ("team/model:9", "version-not-found"), ("team/model:nobody", "alias-not-found")],
)
def test_what_is_not_there_is_named_with_a_hint(push, registry: Registry, model: Path, text: str, code: str) -> None:
    push(model)

    with pytest.raises(NotFound) as caught:
        registry.resolve(Reference.parse(text))
    assert caught.value.code == code
    assert caught.value.hint


def test_a_file_that_changes_while_it_is_read_stores_no_version(push, registry: Registry, model: Path) -> None:
    class Meddler:
        """Appends to the weights as soon as their first bytes are stored."""

        def start(self, what: str, total: int) -> None: ...

        def advance(self, count: int) -> None:
            with (model / "model.safetensors").open("ab") as handle:
                handle.write(b"more")

        def finish(self) -> None: ...

    with pytest.raises(Conflict) as caught:
        push(model / "model.safetensors", progress=Meddler())
    assert caught.value.code == "source-changed"
    assert registry.catalog.version("team/model") is None


def test_moving_takes_the_files_over_and_leaves_none_behind(push, registry: Registry, model: Path) -> None:
    version = push(model, move=model).version

    assert [path for path in model.rglob("*") if path.is_file()] == []
    assert registry.manifest(version).size == version.size


def test_moving_loses_nothing_when_the_push_fails_late(
    push, registry: Registry, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise StorageError("the journal cannot be written", code="store-full")

    before = {path: path.read_bytes() for path in model.rglob("*") if path.is_file()}
    monkeypatch.setattr(registry.catalog, "add_version", full)

    with pytest.raises(StorageError):
        push(model, move=model)

    assert {path: path.read_bytes() for path in model.rglob("*") if path.is_file()} == before


def during(monkeypatch: pytest.MonkeyPatch, registry: Registry, meddle: Callable[[], object]) -> None:
    """Have something happen after the files were stored, before the version has its number."""
    real = registry.catalog.add_version

    def add_version(*given: Any, **named: Any) -> object:
        meddle()
        return real(*given, **named)

    monkeypatch.setattr(registry.catalog, "add_version", add_version)


def replace(file: Path, data: bytes) -> None:
    (file.parent / "new").write_bytes(data)
    (file.parent / "new").replace(file)


def test_moving_leaves_what_was_saved_over_a_file_meanwhile_and_says_so(
    registry: Registry, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    newer, said = model / "settings.json", []
    during(monkeypatch, registry, lambda: replace(newer, b'{"threshold": 0.6}'))
    guard = guard_of(Settings(Path(registry.place), "tester"), warn=said.append)

    publish.push(registry, collect(model), "m", guard=guard, move=model)

    assert {path: path.read_bytes() for path in model.rglob("*") if path.is_file()} == {newer: b'{"threshold": 0.6}'}
    assert len(said) == 1
    assert str(newer) in said[0]


def test_moving_leaves_a_file_that_was_written_to_and_damages_no_blob_by_that(
    push, registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "twins"
    folder.mkdir()
    for name in ("a", "b"):
        (folder / name).write_bytes(b"same")
    blob = registry.blobs.local_file

    def write_to_what_the_store_let_go() -> None:
        for file in folder.iterdir():
            stored = blob(Digest.of(b"same"))
            if stored is not None and not stored.samefile(file):
                file.chmod(0o644)
                file.write_bytes(b"mine")

    during(monkeypatch, registry, write_to_what_the_store_let_go)

    push(folder, move=folder)

    assert [path.read_bytes() for path in folder.iterdir()] == [b"mine"]
    assert (blob(Digest.of(b"same")) or Path()).read_bytes() == b"same"


def test_what_a_move_leaves_shares_nothing_with_the_store(
    push, registry: Registry, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = model / "README.md"
    with log.open("ab") as writing:  # opened before the store took it over
        during(monkeypatch, registry, lambda: writing.write(b"more") and writing.flush())
        push(model, move=model)

    assert log.read_bytes() == b"# A model\nmore"
    assert (log.stat().st_nlink, log.stat().st_mode & 0o200) == (1, 0o200)


def test_an_original_that_cannot_be_removed_shares_nothing_with_the_store(
    push, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept, real = model / "settings.json", Path.unlink

    def unlink(path: Path, *, missing_ok: bool = False) -> None:
        if path == kept:
            raise PermissionError(errno.EPERM, "Operation not permitted")  # as in an immutable folder
        real(path, missing_ok=missing_ok)

    monkeypatch.setattr(Path, "unlink", unlink)
    with pytest.raises(StorageError, match="the original cannot be removed"):
        push(model, move=model)

    assert (kept.read_text(), kept.stat().st_nlink) == ('{"threshold": 0.5}', 1)


def test_moving_takes_files_of_equal_bytes_and_links_within_the_folder(push, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    (folder / "sub").mkdir(parents=True)
    for name in ("a", "b", "sub/c"):
        (folder / name).write_bytes(b"same")
    (folder / "link").symlink_to("a")
    (folder / "linked").symlink_to("sub")

    assert push(folder, move=folder).version.entries == 5
    assert list(folder.iterdir()) == [folder / "sub"]
    assert list((folder / "sub").iterdir()) == []


def test_moving_a_snapshot_of_a_cache_removes_its_links_and_leaves_the_other_revisions_whole(
    push, registry: Registry, tmp_path: Path
) -> None:
    cache = tmp_path / "models--org--name"
    (cache / "blobs").mkdir(parents=True)
    (cache / "blobs" / "aa").write_text('{"a": 1}')
    for revision in ("one", "two"):
        (cache / "snapshots" / revision).mkdir(parents=True)
        (cache / "snapshots" / revision / "config.json").symlink_to("../../blobs/aa")

    version = push(cache / "snapshots/one", move=cache / "snapshots/one").version

    assert list((cache / "snapshots/one").iterdir()) == []
    other = cache / "snapshots/two/config.json"
    other.write_text('{"a": 2}')
    (entry,) = registry.manifest(version).entries()
    assert registry.blobs.open(entry.digest).read(0, entry.size) == b'{"a": 1}'


def refuse_by_policy(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> str | None:
    (Path(registry.place) / "policy.toml").write_text('extends = "strict"\n')
    return None


def refuse_the_alias(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> str | None:
    return "champion"


def fail_late(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> str | None:
    def full() -> None:
        raise StorageError("the journal cannot be written", code="store-full")

    during(monkeypatch, registry, full)
    return None


@pytest.mark.parametrize("shut", [refuse_by_policy, refuse_the_alias, fail_late])
def test_what_a_refused_or_failed_move_leaves_is_as_it_was_and_shares_nothing_with_the_store(
    push, registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shut
) -> None:
    folder = tmp_path / "odd"
    folder.mkdir()
    for name, data in {"a.pkl": b"cposix\nsystem\n.", "b.txt": b"same", "c.txt": b"same"}.items():
        (folder / name).write_bytes(data)
        (folder / name).chmod(0o640)
        os.utime(folder / name, ns=(7, 7))
    alias = shut(registry, monkeypatch)

    with pytest.raises((Refused, StorageError)):
        push(folder, alias=alias, move=folder)

    found = {path.name: path.stat() for path in folder.iterdir()}
    assert {(oct(stat.st_mode), stat.st_nlink) for stat in found.values()} == {("0o100640", 1)}
    assert found["a.pkl"].st_mtime_ns == 7
    (folder / "a.pkl").write_bytes(b"other bytes")
    stored = registry.blobs.local_file(Digest.of(b"cposix\nsystem\n."))
    assert stored is not None
    assert stored.read_bytes() == b"cposix\nsystem\n."


def test_unknown_files_are_stored_and_honestly_called_unknown(push, tmp_path: Path) -> None:
    (tmp_path / "mystery.dat").write_bytes(b"\x07\x01 nobody knows this \xff" * 50)

    pushed = push(tmp_path / "mystery.dat")

    assert pushed.inspection.summary()["format"] == "unknown"
    assert pushed.inspection.unknown == ("mystery.dat",)

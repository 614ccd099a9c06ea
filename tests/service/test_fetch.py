"""Pull: verified files, complete or not at all, resumable."""

from __future__ import annotations

import errno
import hashlib
import json
import os
from pathlib import Path

import pytest
from store_faults import contents, damage

from assay.errors import Conflict, IntegrityError, InvalidInput, NotFound, StorageError
from assay.service import fetch, transfer
from assay.service.registry import Registry
from assay.spec.digest import Digest
from assay.spec.records import Version
from assay.wiring.places import open_layout


def test_what_is_pulled_is_byte_for_byte_what_was_pushed(push, registry: Registry, model: Path, tmp_path: Path) -> None:
    version = push(model).version

    pulled = fetch.pull(registry, version, tmp_path / "out")

    assert contents(tmp_path / "out") == contents(model)
    assert (pulled.files, pulled.size, pulled.resumed) == (5, version.size, 0)
    assert [path.name for path in tmp_path.iterdir() if "assay-pull" in path.name] == []


def test_pushing_what_was_pulled_is_the_same_version(push, registry: Registry, model: Path, tmp_path: Path) -> None:
    version = push(model).version
    fetch.pull(registry, version, tmp_path / "out")

    assert push(tmp_path / "out").version == version


def test_a_single_file_keeps_its_base_name(push, registry: Registry, model: Path, tmp_path: Path) -> None:
    version = push(model / "model.safetensors").version
    fetch.pull(registry, version, tmp_path / "out")

    assert list(contents(tmp_path / "out")) == ["model.safetensors"]


@pytest.mark.parametrize(
    ("patterns", "expected"),
    [
        (("*.json",), {"settings.json"}),
        (("extra/",), {"extra/empty.bin", "extra/größe 名.txt"}),
        (("*.md", "*.safetensors"), {"README.md", "model.safetensors"}),
    ],
)
def test_only_matching_files_are_written(
    push, registry: Registry, model: Path, tmp_path: Path, patterns: tuple[str, ...], expected: set[str]
) -> None:
    fetch.pull(registry, push(model).version, tmp_path / "out", only=patterns)

    assert set(contents(tmp_path / "out")) == expected


def test_a_pattern_that_matches_nothing_is_an_error(push, registry: Registry, model: Path, tmp_path: Path) -> None:
    with pytest.raises(NotFound) as caught:
        fetch.pull(registry, push(model).version, tmp_path / "out", only=("*.gguf",))

    assert caught.value.code == "no-match"
    assert not (tmp_path / "out").exists()


def test_a_destination_that_holds_something_is_left_alone(
    push, registry: Registry, model: Path, tmp_path: Path
) -> None:
    version = push(model).version
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("precious")

    with pytest.raises(Conflict) as caught:
        fetch.pull(registry, version, tmp_path / "out")

    assert caught.value.code == "destination-not-empty"
    assert contents(tmp_path / "out") == {"mine.txt": b"precious"}


def test_an_empty_destination_is_used(push, registry: Registry, model: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    fetch.pull(registry, push(model).version, tmp_path / "out")

    assert contents(tmp_path / "out") == contents(model)


def test_a_flipped_bit_in_the_store_never_reaches_the_destination(
    push, registry: Registry, model: Path, tmp_path: Path
) -> None:
    version = push(model).version
    damage(registry, (model / "model.safetensors").read_bytes())

    with pytest.raises(IntegrityError) as caught:
        fetch.pull(registry, version, tmp_path / "out")

    assert caught.value.details["path"] == "model.safetensors"
    assert not (tmp_path / "out").exists()


def test_an_interrupted_pull_goes_on_where_it_stopped(push, registry: Registry, model: Path, tmp_path: Path) -> None:
    version = push(model).version
    last = (model / "settings.json").read_bytes()  # by path: what comes before it is written before it fails
    damaged = damage(registry, last)
    with pytest.raises(IntegrityError):
        fetch.pull(registry, version, tmp_path / "out")
    damaged.write_bytes(last)

    pulled = fetch.pull(registry, version, tmp_path / "out")

    assert pulled.resumed > 0
    assert contents(tmp_path / "out") == contents(model)


def test_half_written_and_tampered_leftovers_are_not_trusted(
    push, registry: Registry, model: Path, tmp_path: Path
) -> None:
    version = push(model).version
    staging = tmp_path / f".out.assay-pull-{version.manifest.hex[:12]}"
    staging.mkdir()
    (staging / "README.md").write_bytes(b"# A modem\n")  # right size, wrong bytes
    (staging / "stranger").write_bytes(b"from another pull")
    began = f".{hashlib.sha256(b'settings.json').hexdigest()[:32]}\\part"
    (staging / began).write_bytes((model / "settings.json").read_bytes() + b"and more")  # longer than it will be

    fetch.pull(registry, version, tmp_path / "out")

    assert contents(tmp_path / "out") == contents(model)


def test_linked_files_share_the_stored_bytes_and_are_read_only(
    push, registry: Registry, model: Path, tmp_path: Path
) -> None:
    version = push(model).version
    fetch.pull(registry, version, tmp_path / "out", link=True)

    stored = registry.blobs.local_file(Digest.of((model / "README.md").read_bytes()))
    assert stored is not None
    assert (tmp_path / "out" / "README.md").samefile(stored)
    assert (tmp_path / "out" / "README.md").stat().st_mode & 0o222 == 0


def test_links_to_another_file_system_are_refused_with_the_way_out(
    push, registry: Registry, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    version = push(model).version

    def link(source: object, target: object) -> None:
        # The one thing that is simulated: a second file system to link to.
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", link)
    with pytest.raises(InvalidInput) as caught:
        fetch.pull(registry, version, tmp_path / "out", link=True)
    assert caught.value.code == "cannot-link"
    assert not (tmp_path / "out").exists()


def test_files_of_equal_bytes_are_pulled_side_by_side(push, registry: Registry, tmp_path: Path) -> None:
    (tmp_path / "shards").mkdir()
    for number in range(300):
        (tmp_path / "shards" / f"{number}.bin").write_bytes(b"same" * 5000)
    version = push(tmp_path / "shards").version

    for turn in range(5):
        fetch.pull(registry, version, tmp_path / f"out-{turn}")

        assert contents(tmp_path / f"out-{turn}") == contents(tmp_path / "shards")


def test_a_pattern_that_cannot_be_read_is_an_error(push, registry: Registry, model: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput) as caught:
        fetch.pull(registry, push(model).version, tmp_path / "out", only=("\\",))

    assert caught.value.code == "invalid-pattern"
    assert list(tmp_path.glob(".out*")) == []


def test_missing_bytes_are_named_by_file_before_anything_is_written(
    push, registry: Registry, home: Path, model: Path, tmp_path: Path
) -> None:
    version = push(model).version
    (home / "blobs/sha256" / Digest.of((model / "README.md").read_bytes()).hex).unlink()

    with pytest.raises(NotFound, match=r"team/model:1 is not whole: the bytes of README.md are missing") as caught:
        fetch.pull(registry, version, tmp_path / "out")

    assert caught.value.code == "blob-missing"
    assert "push the original files again" in (caught.value.hint or "")
    assert list(tmp_path.glob(".out*")) == []


def test_a_destination_below_a_file_is_named_as_what_it_is(
    push, registry: Registry, model: Path, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("mine")

    with pytest.raises(StorageError, match="file is not a folder"):
        fetch.pull(registry, push(model).version, tmp_path / "file" / "out")


@pytest.fixture
def long_digests(registry: Registry, tmp_path: Path) -> tuple[Version, dict[str, bytes]]:
    """An artifact of another tool that names everything by sha512, copied here; and its files."""
    files = {"small.json": b'{"a": 1}', "large.bin": os.urandom(5 << 20)}
    layout = tmp_path / "layout"
    (layout / "blobs/sha512").mkdir(parents=True)

    def put(media_type: str, data: bytes, **annotations: str) -> dict[str, object]:
        name = hashlib.sha512(data).hexdigest()
        (layout / "blobs/sha512" / name).write_bytes(data)
        described = {"mediaType": media_type, "digest": f"sha512:{name}", "size": len(data)}
        return {**described, "annotations": {f"org.opencontainers.image.{key}": on for key, on in annotations.items()}}

    manifest = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": put("application/vnd.oci.empty.v1+json", b"{}"),
        "layers": [put("application/octet-stream", data, title=path) for path, data in files.items()],
    }
    tagged = put(str(manifest["mediaType"]), json.dumps(manifest).encode(), **{"ref.name": "v1"})
    (layout / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')
    (layout / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [tagged]}))
    copied = transfer.copy_in(registry, "foreign", *open_layout(layout), tag="v1").version
    assert copied is not None
    return copied, files


def test_what_another_tool_named_by_sha512_is_pulled(
    long_digests: tuple[Version, dict[str, bytes]], registry: Registry, tmp_path: Path
) -> None:
    version, files = long_digests

    fetch.pull(registry, version, tmp_path / "out")

    assert contents(tmp_path / "out") == files


def test_a_pull_of_what_was_named_by_sha512_goes_on_where_it_stopped(
    long_digests: tuple[Version, dict[str, bytes]], registry: Registry, tmp_path: Path
) -> None:
    version, files = long_digests
    staging = tmp_path / f".out.assay-pull-{version.manifest.hex[:12]}"
    staging.mkdir()
    (staging / "large.bin").write_bytes(files["large.bin"])

    assert fetch.pull(registry, version, tmp_path / "out").resumed == len(files["large.bin"])
    assert contents(tmp_path / "out") == files


@pytest.fixture
def half(push, registry: Registry, tmp_path: Path):
    """A version with one large file, and what a pull that was killed in the middle of it leaves."""
    data = os.urandom(10 << 20)
    (tmp_path / "large.bin").write_bytes(data)
    version = push(tmp_path / "large.bin").version
    staging = tmp_path / f".out.assay-pull-{version.manifest.hex[:12]}"
    staging.mkdir()
    name = f".{hashlib.sha256(b'large.bin').hexdigest()[:32]}\\part"
    (staging / name).write_bytes(data[: 9 << 20])
    return version, data, staging / name


def test_a_pull_goes_on_within_a_large_file(half, registry: Registry, tmp_path: Path) -> None:
    version, data, _ = half

    pulled = fetch.pull(registry, version, tmp_path / "out")

    assert pulled.resumed == 8 << 20
    assert contents(tmp_path / "out") == {"large.bin": data}


def test_a_beginning_that_is_damaged_is_not_believed(half, registry: Registry, tmp_path: Path) -> None:
    version, data, part = half
    part.write_bytes(b"other" + data[5 : 9 << 20])

    assert fetch.pull(registry, version, tmp_path / "out").resumed == 0
    assert contents(tmp_path / "out") == {"large.bin": data}


def test_a_pull_by_links_leaves_no_beginnings(half, registry: Registry, tmp_path: Path) -> None:
    version, data, _ = half

    fetch.pull(registry, version, tmp_path / "out", link=True)

    assert contents(tmp_path / "out") == {"large.bin": data}


def staging_of(version: Version, folder: Path) -> Path:
    """Where a pull to a new folder gathers the files."""
    return folder.parent / f".{folder.name}.assay-pull-{version.manifest.hex[:12]}"


def test_a_plain_pull_after_an_interrupted_pull_by_links_shares_nothing_with_the_store(
    push, registry: Registry, model: Path, tmp_path: Path
) -> None:
    version = push(model).version
    staging = staging_of(version, tmp_path / "out")
    staging.mkdir()
    stored = registry.blobs.local_file(Digest.of((model / "README.md").read_bytes()))
    assert stored is not None
    os.link(stored, staging / "README.md")

    fetch.pull(registry, version, tmp_path / "out")

    assert contents(tmp_path / "out") == contents(model)
    assert {path.stat().st_nlink for path in (tmp_path / "out").rglob("*") if path.is_file()} == {1}


def test_a_pull_by_links_after_an_interrupted_plain_one_gives_links_only(
    push, registry: Registry, model: Path, tmp_path: Path
) -> None:
    version = push(model).version
    staging = staging_of(version, tmp_path / "out")
    staging.mkdir()
    (staging / "README.md").write_bytes((model / "README.md").read_bytes())

    assert fetch.pull(registry, version, tmp_path / "out", link=True).linked
    assert {path.stat().st_nlink for path in (tmp_path / "out").rglob("*") if path.is_file()} == {2}


@pytest.fixture
def precious(tmp_path: Path) -> Path:
    """A folder that a link leads to, and nobody may clear."""
    (tmp_path / "precious" / "sub").mkdir(parents=True)
    (tmp_path / "precious" / "mine.txt").write_text("mine")
    (tmp_path / "precious" / "sub" / "empty.bin").write_text("mine")
    return tmp_path / "precious"


def test_a_link_in_the_place_of_the_staging_folder_is_refused_and_not_followed(
    push, registry: Registry, model: Path, tmp_path: Path, precious: Path
) -> None:
    version = push(model).version
    staging_of(version, tmp_path / "out").symlink_to(precious)
    before = contents(precious)

    with pytest.raises(StorageError, match="no folder of yours") as caught:
        fetch.pull(registry, version, tmp_path / "out")

    assert caught.value.code == "destination-not-writable"
    assert contents(precious) == before
    assert not (tmp_path / "out").exists()


def test_links_in_the_staging_folder_are_not_followed(
    push, registry: Registry, model: Path, tmp_path: Path, precious: Path
) -> None:
    version = push(model).version
    staging = staging_of(version, tmp_path / "out")
    staging.mkdir()
    (staging / "extra").symlink_to(precious / "sub")
    (staging / "README.md").symlink_to(model / "README.md")
    before = contents(precious)

    fetch.pull(registry, version, tmp_path / "out")

    assert contents(precious) == before
    assert contents(tmp_path / "out") == contents(model)
    assert [path for path in (tmp_path / "out").rglob("*") if path.is_symlink()] == []


def test_a_staging_folder_of_somebody_else_is_refused(
    push, registry: Registry, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    version = push(model).version
    staging_of(version, tmp_path / "out").mkdir()
    somebody = os.geteuid() + 1
    monkeypatch.setattr(os, "geteuid", lambda: somebody)

    with pytest.raises(StorageError, match="no folder of yours"):
        fetch.pull(registry, version, tmp_path / "out")


def test_what_an_interrupted_pull_of_other_files_left_is_not_in_the_destination(
    push, registry: Registry, model: Path, tmp_path: Path
) -> None:
    version = push(model).version
    (staging_of(version, tmp_path / "out") / "extra").mkdir(parents=True)

    fetch.pull(registry, version, tmp_path / "out", only=("*.md",))

    assert [path.name for path in (tmp_path / "out").iterdir()] == ["README.md"]


def test_an_empty_folder_in_which_somebody_stands_is_filled_not_replaced(
    push, registry: Registry, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    version = push(model).version
    (tmp_path / "out").mkdir()
    monkeypatch.chdir(tmp_path / "out")
    standing = Path.cwd().stat()

    fetch.pull(registry, version, Path())

    assert os.path.samestat(standing, (tmp_path / "out").stat())
    assert contents(Path()) == contents(model)


def test_a_pull_into_an_empty_folder_goes_on_where_it_stopped(
    push, registry: Registry, model: Path, tmp_path: Path
) -> None:
    version = push(model).version
    last = (model / "settings.json").read_bytes()
    damaged = damage(registry, last)
    (tmp_path / "out").mkdir()
    with pytest.raises(IntegrityError):
        fetch.pull(registry, version, tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").iterdir()] == [f".assay-pull-{version.manifest.hex[:12]}"]
    damaged.write_bytes(last)

    assert fetch.pull(registry, version, tmp_path / "out").resumed > 0
    assert contents(tmp_path / "out") == contents(model)


def test_what_is_put_into_the_folder_while_it_is_pulled_to_stays_alone_there(
    push, registry: Registry, model: Path, tmp_path: Path
) -> None:
    version = push(model).version
    (tmp_path / "out").mkdir()
    stranger = tmp_path / "out" / "settings.json"

    class Meddler:
        def start(self, what: str, total: int) -> None: ...

        def advance(self, count: int) -> None:
            stranger.write_bytes(b"mine")

        def finish(self) -> None: ...

    with pytest.raises(Conflict, match="put there meanwhile"):
        fetch.pull(registry, version, tmp_path / "out", progress=Meddler())
    assert {path.name for path in (tmp_path / "out").iterdir() if not path.name.startswith(".")} == {"settings.json"}
    assert stranger.read_bytes() == b"mine"
    stranger.unlink()

    assert fetch.pull(registry, version, tmp_path / "out").resumed == version.size
    assert contents(tmp_path / "out") == contents(model)


def test_a_folder_that_a_killed_pull_began_to_fill_is_refused_with_the_way_out(
    push, registry: Registry, model: Path, tmp_path: Path
) -> None:
    version = push(model).version
    (tmp_path / "out" / f".assay-pull-{version.manifest.hex[:12]}").mkdir(parents=True)
    (tmp_path / "out" / "README.md").write_bytes(b"# A model\n")

    with pytest.raises(Conflict) as caught:
        fetch.pull(registry, version, tmp_path / "out")

    assert caught.value.code == "destination-not-empty"
    assert "an interrupted pull left .assay-pull-" in (caught.value.hint or "")

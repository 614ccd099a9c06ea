"""DVC repositories as DVC and GTO write them; ``tests/interop/test_other_registries.py`` has them made by the real ones."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from assay.errors import NotFound
from assay.importers.dvc import DvcRepository
from assay.importers.git_plumbing import Git
from assay.importers.gto import releases


class Repository:
    """A DVC repository that is written by hand."""

    def __init__(self, folder: Path, git: Callable[..., str]) -> None:
        self.folder = folder
        self.git = git
        (folder / ".dvc").mkdir()
        (folder / ".dvc" / "config").write_text("")
        (folder / ".dvc" / ".gitignore").write_text("/cache\n/config.local\n")

    def cached(self, data: bytes, *, cache: str = ".dvc/cache/files/md5", end: str = "") -> str:
        """Put bytes into the cache; their MD5."""
        md5 = hashlib.md5(data).hexdigest() + end
        file = self.folder / cache / md5[:2] / md5[2:]
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)
        return md5

    def tracked(self, path: str, files: dict[str, bytes]) -> None:
        """Track a folder with a ``.dvc`` file."""
        listing = [{"md5": self.cached(data), "relpath": name} for name, data in files.items()]
        md5 = self.cached(json.dumps(listing).encode(), end=".dir")
        self.write(f"{path}.dvc", {"outs": [{"md5": md5, "hash": "md5", "path": Path(path).name}]})

    def write(self, path: str, body: object) -> None:
        file = self.folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(yaml.safe_dump(body))

    def commit(self, message: str, *tags: str) -> None:
        self.git("add", "--all")
        self.git("commit", "--quiet", "--message", message)
        for tag in tags:
            self.git("tag", "--annotate", "--message", tag, tag)


@pytest.fixture
def repository(tmp_path: Path, git: Callable[..., str]) -> Repository:
    """A model in a stage's output and one in a tracked folder, each at two versions."""
    made = Repository(tmp_path / "repository", git)
    clf = {"path": "models/clf.pkl", "type": "model", "desc": "a classifier", "labels": ["a", "b"], "meta": {"x": 1}}
    for number in (1, 2):
        md5 = made.cached(f"clf {number}".encode())
        made.write("dvc.lock", {"stages": {"t": {"outs": [{"path": "models/clf.pkl", "hash": "md5", "md5": md5}]}}})
        made.write(
            "dvc.yaml",
            {
                "stages": {"t": {"cmd": "x", "metrics": [{"scores.json": {"cache": False}}]}},
                "artifacts": {"clf": clf, "net": {"path": "models/net"}},
            },
        )
        made.write("params.yaml", {"train": {"lr": number / 10}, "layers": [1, 2]})
        made.write("scores.json", {"auc": 0.8 + number / 100, "by": {"class": 0.5}, "name": "x"})
        made.tracked("models/net", {"config.json": b"{}", "sub/w.bin": f"net {number}".encode()})
        made.commit(f"commit {number}", f"clf@v1.{number}.0", *([f"net@v0.0.{number}"] if number == 2 else []))
    git("tag", "--annotate", "--message", "s", "clf#prod#1", "clf@v1.1.0^{}")
    git("tag", "--annotate", "--message", "s", "clf#staging#2", "clf@v1.2.0^{}")
    git("tag", "--annotate", "--message", "s", "clf#prod#3", "clf@v1.2.0^{}")
    return made


def test_versions_that_tags_name_are_offered_in_order_with_their_stages(repository: Repository, read) -> None:
    found = read(DvcRepository(repository.folder))
    assert {key: offered.aliases for key, (offered, _) in found.items()} == {
        ("clf", "v1.1.0"): (),
        ("clf", "v1.2.0"): ("prod", "staging"),
        ("net", "v0.0.2"): (),
    }


def test_bytes_are_those_of_the_commit_out_of_the_cache(repository: Repository, read) -> None:
    found = read(DvcRepository(repository.folder))
    assert found["clf", "v1.1.0"][1] == {"clf.pkl": b"clf 1"}
    assert found["clf", "v1.2.0"][1] == {"clf.pkl": b"clf 2"}
    assert found["net", "v0.0.2"][1] == {"config.json": b"{}", "sub/w.bin": b"net 2"}


def test_parameters_metrics_and_notes_of_the_commit_come_along(repository: Repository, read) -> None:
    offered = read(DvcRepository(repository.folder))["clf", "v1.1.0"][0]
    assert offered.params == {"train.lr": 0.1, "layers": [1, 2]}
    assert offered.metrics == pytest.approx({"auc": 0.81, "by.class": 0.5})
    assert (offered.note, offered.tags) == ("a classifier", {"type": "model", "labels": "a, b", "x": "1"})
    assert offered.actor == "Ada"


def test_a_model_without_tags_is_offered_as_it_is_checked_out(repository: Repository, read) -> None:
    repository.git("tag", "--delete", "net@v0.0.2")
    head = repository.git("rev-parse", "HEAD")
    assert read(DvcRepository(repository.folder))["net", head[:12]][1]["sub/w.bin"] == b"net 2"


def test_a_registration_or_stage_that_was_taken_back_no_longer_counts(repository: Repository) -> None:
    repository.git("tag", "--annotate", "--message", "s", "clf#prod!#4", "clf@v1.2.0^{}")
    repository.git("tag", "--annotate", "--message", "s", "clf@v1.1.0!", "clf@v1.1.0^{}")
    (only,) = releases(Git(repository.folder))["clf"]
    assert (only.version, only.stages) == ("v1.2.0", ("staging",))


def test_versions_come_in_the_order_of_numbers(repository: Repository) -> None:
    repository.git("tag", "clf@v1.10.0", "clf@v1.1.0^{}")
    versions = [release.version for release in releases(Git(repository.folder))["clf"]]
    assert versions == ["v1.1.0", "v1.2.0", "v1.10.0"]


def test_a_cache_or_remote_elsewhere_is_found_through_the_configuration(repository: Repository, read) -> None:
    cache, remote = repository.folder.parent / "cache", repository.folder.parent / "remote"
    (repository.folder / ".dvc" / "cache").rename(cache)
    (repository.folder / ".dvc" / "config").write_text(
        f"[cache]\n    dir = {cache}\n['remote \"far\"']\n    url = {remote}\n"
    )
    assert read(DvcRepository(repository.folder))["clf", "v1.1.0"][1] == {"clf.pkl": b"clf 1"}
    cache.rename(remote)
    assert read(DvcRepository(repository.folder))["clf", "v1.1.0"][1] == {"clf.pkl": b"clf 1"}


def test_the_cache_of_older_releases_is_read_and_its_checksums_are_not_taken_for_those_of_the_bytes(
    repository: Repository,
) -> None:
    md5 = repository.cached(b"text\r\n", cache=".dvc/cache")
    repository.write("old.pkl.dvc", {"outs": [{"md5": md5, "path": "old.pkl"}]})
    repository.write("dvc.yaml", {"artifacts": {"old": {"path": "old.pkl"}}})
    repository.commit("old", "old@v1.0.0")
    (found,) = [offered for offered in DvcRepository(repository.folder).offered() if offered.model == "old"]
    with found.open() as files:
        assert files.paths["old.pkl"].read_bytes() == b"text\r\n"
        assert not files.checksums


def test_a_model_that_git_itself_holds_is_read_from_git(repository: Repository, read) -> None:
    (repository.folder / "small.json").write_text("{}")
    repository.write("sub/dvc.yaml", {"artifacts": {"small": {"path": "../small.json"}, "deep": {"path": "w"}}})
    (repository.folder / "sub" / "w").mkdir()
    (repository.folder / "sub" / "w" / "a").write_text("1")
    repository.commit("in git", "sub=deep@v1.0.0")
    found = {model: files for (model, _), (_, files) in read(DvcRepository(repository.folder)).items()}
    assert found["sub/deep"] == {"a": b"1"}
    assert found["sub/small"] == {"small.json": b"{}"}


def test_bytes_that_are_in_no_cache_are_an_error_that_says_how_to_fetch_them(
    repository: Repository, unreadable
) -> None:
    for file in (repository.folder / ".dvc" / "cache").rglob("*"):
        if file.is_file() and file.read_bytes() == b"clf 1":
            file.unlink()
    assert "not in DVC's cache" in unreadable(DvcRepository(repository.folder))["v1.1.0"]


def test_a_list_of_files_cannot_name_one_outside(repository: Repository, unreadable) -> None:
    repository.tracked("models/net", {"../../evil": b"x"})
    repository.commit("hostile", "net@v9.0.0")
    assert "v9.0.0" in unreadable(DvcRepository(repository.folder))


def test_a_folder_without_dvc_is_refused(tmp_path: Path, git: Callable[..., str]) -> None:
    with pytest.raises(NotFound) as caught:
        list(DvcRepository(tmp_path / "repository").offered())
    assert caught.value.code == "import-source-missing"

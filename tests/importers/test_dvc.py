"""DVC repositories as DVC and GTO write them; ``tests/interop/test_other_registries.py`` has them made by the real ones."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from assay.errors import AssayError, NotFound
from assay.importers import dvc
from assay.importers.dvc import DvcRepository
from assay.importers.dvc_cache import Cache
from assay.importers.git_plumbing import Git, GitCommit, GitEntry
from assay.importers.gto import Release, releases
from assay.spec.json import canonical


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


def test_the_first_form_of_a_lock_file_is_read(repository: Repository, read) -> None:
    md5 = repository.cached(b"first form")
    repository.write("old/dvc.lock", {"train": {"cmd": "x", "outs": [{"path": "m.pkl", "md5": md5}]}})
    repository.write("old/dvc.yaml", {"stages": {"train": {"cmd": "x"}}, "artifacts": {"m": {"path": "m.pkl"}}})
    repository.commit("old")
    found = {model: files for (model, _), (_, files) in read(DvcRepository(repository.folder)).items()}
    assert found["old/m"] == {"m.pkl": b"first form"}


def test_paths_of_a_stage_are_counted_from_its_working_folder(repository: Repository, read) -> None:
    md5 = repository.cached(b"made in work")
    outs = [{"path": "m.pkl", "md5": md5, "hash": "md5"}]
    repository.write("dvc.lock", {"schema": "2.0", "stages": {"train@a": {"outs": outs}}})
    stage = {"cmd": "x", "wdir": "work", "metrics": [{"scores.json": {}}, "plot.csv"]}
    repository.write("dvc.yaml", {"stages": {"train": stage}, "artifacts": {"m": {"path": "work/m.pkl"}}})
    repository.write("work/scores.json", {"auc": 0.5})
    repository.write("tracked.dvc", {"wdir": "work", "outs": [{"path": "n.pkl", "md5": md5}]})
    repository.write("sub/dvc.yaml", {"artifacts": {"n": {"path": "../work/n.pkl"}}})
    repository.git("tag", "--delete", "clf@v1.1.0", "clf@v1.2.0", "net@v0.0.2")
    repository.commit("in a folder")
    found = {model: (offered, files) for (model, _), (offered, files) in read(DvcRepository(repository.folder)).items()}
    assert found["m"][1] == {"m.pkl": b"made in work"}
    assert found["sub/n"][1] == {"n.pkl": b"made in work"}
    assert found["m"][0].metrics == {"auc": 0.5}


def test_documents_that_unfold_without_end_are_told_and_dates_are_text(repository: Repository, unreadable) -> None:
    bomb = "\n".join(["a0: &a0 [x]", *(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 12))])
    (repository.folder / "params.yaml").write_text(bomb)
    repository.commit("hostile", "clf@v3.0.0")
    (repository.folder / "params.yaml").write_text("when: 2024-01-31\n")
    (repository.folder / "dvc.yaml").write_text("artifacts: {clf: {path: params.yaml, meta: {made: 2024-01-31}}}")
    repository.commit("dated", "clf@v4.0.0")
    assert "unfolds" in unreadable(DvcRepository(repository.folder))["v3.0.0"]
    *_, newest = [found for found in DvcRepository(repository.folder).offered() if found.model == "clf"]
    assert (newest.params, newest.tags) == ({"when": "2024-01-31"}, {"made": "2024-01-31"})


def test_a_cache_cannot_hand_out_a_file_of_this_machine(repository: Repository, tmp_path: Path, unreadable) -> None:
    (tmp_path / "secret").write_text("key")
    md5 = hashlib.md5(b"x").hexdigest()
    stolen = repository.folder / ".dvc" / "cache" / md5[:2] / md5[2:]
    stolen.parent.mkdir(parents=True, exist_ok=True)
    stolen.symlink_to(tmp_path / "secret")
    repository.write("clf.pkl.dvc", {"outs": [{"md5": md5, "path": "clf.pkl"}]})
    repository.write("dvc.yaml", {"artifacts": {"stolen": {"path": "clf.pkl"}}})
    repository.commit("hostile", "stolen@v1.0.0")
    assert "leads out of" in unreadable(DvcRepository(repository.folder))["v1.0.0"]


def test_remotes_that_are_not_read_are_named_where_bytes_are_missing(repository: Repository, unreadable) -> None:
    (repository.folder / ".dvc" / "config").write_bytes(
        b"['remote \"far\"']\r\n    url = s3://ada:secret@bucket/models\r\n['remote \"odd\"']\r\n    url = ~nobody/x\r\n"
    )
    for file in (repository.folder / ".dvc" / "cache").rglob("*"):
        if file.is_file():
            file.unlink()
    message = unreadable(DvcRepository(repository.folder))["v1.1.0"]
    assert "s3://bucket/models" in message
    assert "secret" not in message


def test_a_release_comes_after_its_candidates(repository: Repository) -> None:
    for number in ("2.0.0", "2.0.0-rc.2", "2.0.0-rc.10", "2.0.0-alpha"):
        repository.git("tag", f"net@v{number}", "HEAD")
    versions = [release.version for release in releases(Git(repository.folder))["net"]]
    assert versions == ["v0.0.2", "v2.0.0-alpha", "v2.0.0-rc.2", "v2.0.0-rc.10", "v2.0.0"]


def test_a_model_that_was_deprecated_is_left_out_until_it_is_registered_again(repository: Repository, read) -> None:
    repository.git("tag", "--annotate", "--message", "s", "clf@deprecated", "HEAD")
    repository.git("tag", "--annotate", "--message", "s", "net@v0.0.2!", "HEAD")
    assert read(DvcRepository(repository.folder)) == {}
    repository.git("tag", "--annotate", "--message", "s", "clf@v2.0.0", "HEAD")
    assert list(read(DvcRepository(repository.folder))) == [("clf", "v2.0.0")]


class Said:
    """Stands for git where only documents count."""

    def __init__(self, documents: dict[str, bytes]) -> None:
        self.documents = documents

    def entries(self, _: str) -> dict[str, GitEntry]:
        return {path: GitEntry(path, path, len(data)) for path, data in self.documents.items()}

    def read(self, entry: GitEntry, _: int) -> bytes:
        return self.documents[entry.object]

    def commits(self, wanted: list[str]) -> list[GitCommit]:
        return [GitCommit(commit, "a", "2026-01-01T00:00:00Z", "s") for commit in wanted]


KEYS = st.sampled_from(
    "artifacts path desc meta labels type stages train outs md5 hash metrics wdir schema clf m.pkl".split()
)
VALUES = st.recursive(
    st.none()
    | st.integers()
    | st.floats()
    | st.dates()
    | st.sampled_from(["m.pkl", "../..", "", "0" * 32, "md5", "w"]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(KEYS | st.integers(0, 1), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from(["dvc.yaml", "dvc.lock", "m.pkl.dvc", "params.yaml", "m.json"]), VALUES))
def test_documents_may_say_anything(documents: dict[str, object]) -> None:
    said = {"dvc.yaml": {"artifacts": {"clf": {"path": "m.pkl"}}, "metrics": ["m.json"]}, **documents}
    commit = dvc.Commit(Said({path: yaml.safe_dump(body).encode() for path, body in said.items()}), "c" * 40)
    try:
        for declared in dvc._models(commit):
            offered = dvc._offer(commit, Cache((Path("/nowhere"),)), declared.name, Release("v1", commit.id, (), None))
            canonical([dict(offered.params), dict(offered.metrics), dict(offered.tags), offered.note])
            with offered.open():
                pass
    except AssayError:
        pass

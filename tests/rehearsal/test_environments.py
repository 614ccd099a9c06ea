"""Clean environments: what goes in, who builds them, that they are shared, and what is said when it fails."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import subprocess
import sys
import tarfile
import threading
import time
import zipfile
from pathlib import Path

import pytest

from assay.environment import building
from assay.environment.building import MARK, Environment, Options, environment_for
from assay.environment.installing import explain
from assay.environment.interpreters import ask, find
from assay.environment.requirements import OWN, Wanted, wanted
from assay.errors import AssayError, CouldNot, InvalidInput, NotFound

HERE = ".".join(map(str, sys.version_info[:2]))


def test_an_installer_that_is_interrupted_ends_with_all_that_it_started(tmp_path: Path) -> None:
    started: list[int] = []

    def interrupt(line: str) -> None:
        started.append(int(line))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        building._run(["sh", "-c", "sleep 600 & echo $!; wait"], tmp_path, interrupt, "pip", _wanted())

    status = Path(f"/proc/{started[0]}/stat")
    for _ in range(600):
        if not status.exists() or status.read_text().rpartition(")")[2].split()[0] == "Z":
            break
        time.sleep(0.05)
    else:
        pytest.fail("it still runs")


def _wanted(*requirements: str) -> Wanted:
    return Wanted(requirements, (), (), None, False, "description", ())


@pytest.fixture
def index(tmp_path: Path) -> str:
    """A package index with ``leaf`` 1.0 and 2.0, and ``stem`` 1.0 that needs ``leaf==1.0``."""
    root = tmp_path / "index"
    for name, version, needs in (
        ("leaf", "1.0", ""),
        ("leaf", "2.0", ""),
        ("stem", "1.0", "Requires-Dist: leaf==1.0\n"),
    ):
        _wheel(root / name, name, version, needs)
    for folder in root.iterdir():
        links = [f'<a href="{file.name}">{file.name}</a>' for file in sorted(folder.glob("*.whl"))]
        (folder / "index.html").write_text("<!DOCTYPE html><html><body>" + "\n".join(links) + "</body></html>")
    return root.as_uri() + "/"


def _wheel(folder: Path, name: str, version: str, needs: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    info = f"{name}-{version}.dist-info"
    files = {
        f"{name}.py": f"VERSION = {version!r}\n",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{needs}",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = ""
    for path, text in files.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
        record += f"{path},sha256={digest},{len(text)}\n"
    files[f"{info}/RECORD"] = record + f"{info}/RECORD,,\n"
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as archive:
        for path, text in files.items():
            archive.writestr(path, text)


def _build(wanted: Wanted, index: str, cache: Path | None, **options) -> tuple[Environment, str]:
    """The environment, and what a program in it finds."""
    chosen = Options(builder=options.pop("builder", "pip"), indexes=(index,), cache=cache)
    with environment_for(wanted, find(None, None), chosen, told=lambda _: None) as made:
        code = "import json, sys, leaf; print(json.dumps([leaf.VERSION, [p for p in sys.path if 'site' in p]]))"
        done = subprocess.run([made.python, "-I", "-c", code], capture_output=True, text=True)
        return made, done.stdout


def test_an_environment_holds_what_was_asked_for_and_nothing_else(tmp_path: Path, index: str) -> None:
    made, found = _build(_wanted("stem==1.0"), index, tmp_path / "cache")

    version, paths = json.loads(found)
    assert version == "1.0"
    assert dict(made.installed) == {"leaf": "1.0", "stem": "1.0"}
    assert all(path.startswith(str(made.folder)) for path in paths)
    assert not (made.folder / "bin" / "pip").exists()


def test_a_second_rehearsal_uses_the_environment_of_the_first(tmp_path: Path, index: str) -> None:
    first, _ = _build(_wanted("leaf==1.0"), index, tmp_path / "cache")
    again, _ = _build(_wanted("leaf==1.0"), index, tmp_path / "cache")
    other, _ = _build(_wanted("leaf==2.0"), index, tmp_path / "cache")

    assert (first.reused, again.reused, other.reused) == (False, True, False)
    assert first.folder == again.folder != other.folder
    assert again.installed == first.installed


def test_an_environment_that_was_not_finished_is_made_again(tmp_path: Path, index: str) -> None:
    first, _ = _build(_wanted("leaf==1.0"), index, tmp_path / "cache")
    (first.folder / MARK).unlink()
    (first.folder / "left-over").write_text("x")

    again, found = _build(_wanted("leaf==1.0"), index, tmp_path / "cache")

    assert not again.reused
    assert not (again.folder / "left-over").exists()
    assert "1.0" in found


def test_two_that_need_the_same_environment_make_it_once(tmp_path: Path, index: str) -> None:
    made: list[Environment] = []
    threads = [
        threading.Thread(target=lambda: made.append(_build(_wanted("leaf==1.0"), index, tmp_path / "cache")[0]))
        for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(one.reused for one in made) == [False, True, True]


def test_without_a_cache_nothing_is_left(index: str) -> None:
    made, found = _build(_wanted("leaf==1.0"), index, None)

    assert "1.0" in found
    assert not made.folder.exists()


def test_environments_that_nobody_used_for_long_are_removed(tmp_path: Path, index: str, monkeypatch) -> None:
    old, _ = _build(_wanted("leaf==1.0"), index, tmp_path / "cache")
    monkeypatch.setattr(building, "KEPT_DAYS", -1)

    _build(_wanted("leaf==2.0"), index, tmp_path / "cache")

    assert not old.folder.exists()


def test_a_requirement_that_no_index_has_is_named_and_nothing_is_left(tmp_path: Path, index: str) -> None:
    with pytest.raises(CouldNot, match=r"no index has leaf==3\.0 as a wheel .*; it has 1\.0, 2\.0") as raised:
        _build(_wanted("leaf==3.0"), index, tmp_path / "cache")

    assert raised.value.code == "requirement-missing"
    assert [path for path in (tmp_path / "cache").iterdir() if path.is_dir()] == []


def test_a_package_that_would_have_to_be_built_is_not_unless_the_person_says_so(tmp_path: Path, index: str) -> None:
    folder = tmp_path / "index" / "source"
    folder.mkdir()
    marker = tmp_path / "it-ran"
    script = f"open({str(marker)!r}, 'w').close()\nraise SystemExit(1)\n".encode()
    with tarfile.open(folder / "source-1.0.tar.gz", "w:gz") as archive:
        for name, data in (("setup.py", script), ("PKG-INFO", b"Metadata-Version: 2.1\nName: source\nVersion: 1.0\n")):
            member = tarfile.TarInfo(f"source-1.0/{name}")
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    (folder / "index.html").write_text('<!DOCTYPE html><html><body><a href="source-1.0.tar.gz">x</a></body></html>')

    with pytest.raises(CouldNot, match=r"no index has source==1\.0 as a wheel") as raised:
        _build(_wanted("source==1.0"), index, tmp_path / "cache")

    assert raised.value.code == "requirement-missing"
    assert not marker.exists()


def test_requirements_that_contradict_each_other_are_said_to(tmp_path: Path, index: str) -> None:
    with pytest.raises(CouldNot, match="contradict each other") as raised:
        _build(_wanted("stem==1.0", "leaf==2.0"), index, tmp_path / "cache")

    assert raised.value.code == "requirements-clash"


def test_an_index_that_cannot_be_reached_is_said_to_be(tmp_path: Path, monkeypatch) -> None:
    options = Options(builder="pip", indexes=("https://127.0.0.1:9/simple",), cache=tmp_path / "cache")
    monkeypatch.setenv("PIP_RETRIES", "1")
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)

    making = environment_for(_wanted("leaf==1.0"), find(None, None), options, told=lambda _: None)
    with pytest.raises(CouldNot, match="the package index cannot be reached") as raised:
        making.__enter__()
    assert raised.value.code == "network-unreachable"


@pytest.mark.parametrize(
    ("builder", "lines", "code", "said"),
    [
        ("uv", ["  x No solution found when resolving dependencies:", "  ╰─▶ Because nothere was not found in the package registry and you require"], "requirement-missing", "nothere==1"),
        ("uv", ["  ╰─▶ Because there is no version of nothere==1 and you require nothere==1, we can conclude that your", "requirements are unsatisfiable."], "requirement-missing", "nothere==1"),
        ("uv", ["error: Request failed", "  Caused by: error sending request for url (https://pypi.org/simple/nothere/)"], "network-unreachable", "cannot be reached"),
        ("pip", ["ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device"], "store-full", "disk is full"),
        ("pip", ["something odd", "ERROR: it broke"], "environment-failed", "pip failed: ERROR: it broke"),
        ("pip", [], "environment-failed", "it said nothing"),
    ],
    ids=["uv unknown", "uv version", "uv network", "disk", "other", "silence"],
)  # fmt: skip
def test_what_an_installer_says_becomes_one_sentence(builder: str, lines: list[str], code: str, said: str) -> None:
    error = explain(builder, lines, ["nothere==1"])

    assert error.code == code
    assert said in error.message
    assert "\n" not in error.message


def _environment(**distributions: str) -> dict:
    return {"distributions": {name.replace("_", "-"): version for name, version in distributions.items()},
            "python": {"version": "3.11.4"}}  # fmt: skip


def test_recorded_versions_are_exact_and_local_labels_are_stripped() -> None:
    found = wanted(_environment(torch="2.13.0+cpu", numpy="2.4.6"), ["torch", "safetensors"], what="x")

    assert found.requirements == ("numpy==2.4.6", "safetensors", "torch==2.13.0")
    assert (found.python, found.cpu, found.source) == ("3.11.4", True, "environment")
    assert not any(text.startswith("numpy") for text in found.own)


def test_another_name_of_the_same_module_is_enough() -> None:
    assert wanted(_environment(xgboost_cpu="3.2.0"), ["xgboost"], what="x").requirements == ("xgboost-cpu==3.2.0",)
    assert wanted(_environment(tensorflow_cpu="2.21.0"), ["tensorflow==2.21.0"], what="x").requirements == (
        "tensorflow-cpu==2.21.0",
    )


def test_what_came_with_an_accelerator_only_comes_with_it_again() -> None:
    found = wanted(_environment(torch="2.13.0+cu130", nvidia_cublas="13.0.1", triton="3.5.0"), [], what="x")

    assert found.requirements == ("torch==2.13.0",)
    assert found.constraints == ("nvidia-cublas==13.0.1", "triton==3.5.0")
    assert found.cpu
    assert not wanted(_environment(numpy="2.4.6"), [], what="x").cpu


def test_without_a_record_the_files_say_what_is_needed_and_what_examples_are_made_of_comes_along() -> None:
    found = wanted(None, ["scikit-learn==1.9.1"], ["pandas"], what="x")

    assert found.requirements == ("pandas", "scikit-learn==1.9.1")
    assert (found.source, found.python) == ("description", None)


def test_what_a_library_needs_and_does_not_require_comes_along_once() -> None:
    assert wanted(None, ["transformers"], what="x").requirements == ("torch", "transformers")
    assert wanted(None, ["keras==3.15.1"], what="x").requirements == ("keras==3.15.1", "tensorflow")
    assert wanted(None, ["keras", "jax"], what="x").requirements == ("jax", "keras")
    assert wanted(_environment(keras="3.15.1", tensorflow_cpu="2.21.0"), [], what="x").requirements == (
        "keras==3.15.1",
        "tensorflow-cpu==2.21.0",
    )


def test_local_code_is_told() -> None:
    found = wanted({**_environment(numpy="2.4.6"), "local_code": ["ourlib"]}, [], what="x")

    assert found.notes == ("recorded as local code, which no index has: ourlib",)


def test_nothing_recorded_is_a_clear_refusal() -> None:
    with pytest.raises(CouldNot, match="no requirements are recorded for a/b:1") as raised:
        wanted(None, [], what="a/b:1")
    assert raised.value.code == "no-requirements"


@pytest.mark.parametrize(
    ("distributions", "described"),
    [
        ({"evil --index-url http://x": "1"}, []),
        ({"numpy": "1; import os"}, []),
        ({"numpy": "file:///tmp/x"}, []),
        ({}, ["x @ https://example.org/x.whl"]),
        ({}, ["-r other.txt"]),
        ({}, ["numpy\n--index-url http://x"]),
    ],
    ids=["option in name", "code in version", "address as version", "address", "option", "second line"],
)
def test_nothing_but_names_and_versions_reaches_an_installer(distributions: dict, described: list[str]) -> None:
    with pytest.raises(InvalidInput) as raised:
        wanted({"distributions": distributions}, described, what="x")
    assert raised.value.code == "bad-requirement"


def test_what_the_loaders_import_is_what_is_installed_for_them() -> None:
    code = (
        "import sys, importlib.metadata as m; import assay.rehearsal.trying; "
        "mods = {name.partition('.')[0] for name in sys.modules}; owners = m.packages_distributions(); "
        "print(sorted({o.lower().replace('_', '-') for x in mods for o in owners.get(x, ())}))"
    )
    done = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, check=True)

    found = set(json.loads(done.stdout.replace("'", '"'))) - {"assay", "setuptools", "markupsafe", "typing-extensions"}
    assert found == set(OWN)


def test_an_interpreter_is_found_by_version_by_path_and_by_its_environment() -> None:
    running = find(None, None)

    assert find(HERE, None).minor == HERE
    assert find(sys.executable, "2.7.1").path == running.path
    assert ask(Path(sys.prefix)).version == running.version
    assert Path(sys.prefix) in ask(Path(sys.prefix)).folders


@pytest.mark.parametrize("asked", ["3.99", "/nowhere/python", "/dev/null"])
def test_an_interpreter_that_is_not_there_is_said_so(asked: str) -> None:
    with pytest.raises(NotFound) as raised:
        find(asked, None)
    assert raised.value.code == "no-python"


def test_pip_is_taken_when_only_pip_knows_where_packages_are(tmp_path: Path, index: str, monkeypatch) -> None:
    uv = tmp_path / "uv"
    uv.write_text("#!/bin/sh\nexit 1\n")
    uv.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    for name in ("UV_INDEX_URL", "UV_DEFAULT_INDEX", "UV_INDEX", "UV_EXTRA_INDEX_URL", "UV_FIND_LINKS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PIP_INDEX_URL", index)

    with environment_for(_wanted("leaf==1.0"), find(None, None), Options(), told=lambda _: None) as made:
        assert made.builder == "pip"
    with pytest.raises(AssayError):
        _build(_wanted("leaf==1.0"), index, None, builder="auto")  # an index was named: uv, which fails here

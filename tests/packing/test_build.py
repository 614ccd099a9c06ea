"""The kernels are compiled where there is a compiler, and not missed where there is none."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from assay.packing import native, planes

ROOT = Path(__file__).parents[2]
COMPILER = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
needs_compiler = pytest.mark.skipif(COMPILER is None, reason="no C compiler here")


@pytest.fixture
def build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The build hook, at work in a folder of its own."""
    found = importlib.util.spec_from_file_location("hatch_build", ROOT / "hatch_build.py")
    assert found is not None
    assert found.loader is not None
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    source = shutil.copy(module.SOURCE, tmp_path)
    monkeypatch.setattr(module, "SOURCE", Path(source))
    monkeypatch.setattr(module, "LIBRARY", Path(source).with_suffix(".so"))
    monkeypatch.delenv("CC", raising=False)
    return module


@needs_compiler
def test_this_environment_was_installed_with_the_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ASSAY_NATIVE", raising=False)
    assert native.kernels() is not planes, "install again (pip install -e .), or: python hatch_build.py"


@needs_compiler
def test_the_hook_makes_a_library_that_works(build: Any) -> None:
    library = build.compile_kernels()
    split = np.empty((2, 2), np.uint8)
    native.Native(library).split(np.array([1, 2, 3, 4], np.uint8), 2, rotate=False, base=None, into=split)
    assert split.tolist() == [[1, 3], [2, 4]]
    assert [file.name for file in library.parent.iterdir() if file.is_dir()] == []


@needs_compiler
def test_the_source_gives_no_warnings(build: Any, tmp_path: Path) -> None:
    strict = ["-Wall", "-Wextra", "-Wpedantic", "-Werror"]
    subprocess.run([COMPILER, *build.FLAGS, *strict, "-o", str(tmp_path / "strict.so"), str(build.SOURCE)], check=True)


@pytest.mark.parametrize("compiler", ["false", "no-such-compiler", ""])
def test_without_a_compiler_that_works_there_is_no_library_and_an_old_one_goes(
    build: Any, compiler: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CC", compiler)
    monkeypatch.setenv("PATH", "/usr/bin:/bin" if compiler == "false" else "/nowhere")
    build.LIBRARY.write_bytes(b"old")
    assert build.compile_kernels() is None
    assert not build.LIBRARY.exists()
    assert "without compiled kernels" in capfd.readouterr().err

"""The how-to for adding a format, done exactly as it says, in a package outside of ours."""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
from pathlib import Path

import pytest
from doc_blocks import ROOT, blocks


@pytest.fixture
def plugin(tmp_path: Path) -> Path:
    """A folder that Python sees as an installed distribution with the how-to's entry point."""
    code, entry_point, test = blocks(ROOT / "docs/how-to/add-a-format.md")
    (tmp_path / "my_formats").mkdir()
    (tmp_path / "my_formats/__init__.py").write_text("")
    (tmp_path / "my_formats/tinynet.py").write_text(code.text)
    (tmp_path / "test_tinynet.py").write_text(test.text)
    information = tmp_path / "my_formats-1.0.dist-info"
    information.mkdir()
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: my-formats\nVersion: 1.0\n")
    line = entry_point.text.strip().splitlines()[-1].replace('"', "")
    (information / "entry_points.txt").write_text(f"[assay.formats]\n{line}\n")
    return tmp_path


def _run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environ = {**os.environ, "PYTHONPATH": str(folder), "ASSAY_HOME": str(folder / "home")}
    return subprocess.run([sys.executable, *arguments], cwd=folder, env=environ, capture_output=True, text=True)


def test_a_format_of_another_package_describes_its_files(plugin: Path) -> None:
    header = b'{"kind": "Tiny", "shape": [2, 2]}'
    (plugin / "m.bin").write_bytes(b"TINY" + struct.pack("<I", len(header)) + header + struct.pack("<4f", 1, 2, 3, 4))

    done = _run(plugin, "-m", "assay", "inspect", "./m.bin", "--json")

    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout)["summary"]
    assert (summary["format"], summary["architecture"], summary["parameters"]) == ("tinynet", "Tiny", 4)


def test_its_tensors_are_mapped_lazily(plugin: Path) -> None:
    header = b'{"kind": "Tiny", "shape": [2, 2]}'
    (plugin / "m.bin").write_bytes(b"TINY" + struct.pack("<I", len(header)) + header + struct.pack("<4f", 1, 2, 3, 4))

    done = _run(plugin, "-c", "import assay; print(assay.open('./m.bin').tensors['weights'][1].tolist())")

    assert done.stdout.strip() == "[3.0, 4.0]", done.stderr


def test_the_shipped_contract_suite_proves_it(plugin: Path) -> None:
    done = _run(plugin, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_tinynet.py")

    assert done.returncode == 0, done.stdout + done.stderr
    assert " passed" in done.stdout


def test_a_broken_plugin_is_left_out_with_a_warning_and_hides_nothing(plugin: Path) -> None:
    (plugin / "my_formats/tinynet.py").write_text("raise RuntimeError('half installed')\n")
    (plugin / "m.npy").write_bytes(
        b"\x93NUMPY\x01\x00\x3e\x00" + b"{'descr':'<f4','fortran_order':False,'shape':(0,),}".ljust(61) + b"\n"
    )

    done = _run(plugin, "-m", "assay", "inspect", "./m.npy", "--json")

    assert done.returncode == 0, done.stderr
    assert "assay.formats plugin tinynet" in done.stderr
    assert json.loads(done.stdout)["summary"]["format"] in {"npy", "npz"}

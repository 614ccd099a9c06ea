"""The package as a whole: quick to import, light to install, honest about its surface."""

from __future__ import annotations

import subprocess
import sys

import assay

_FRAMEWORKS = {"torch", "tensorflow", "keras", "sklearn", "onnx", "onnxruntime", "transformers", "xgboost", "lightgbm"}


def _python(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_importing_assay_imports_no_framework_and_nothing_heavy() -> None:
    loaded = set(_python("import sys, assay; print(*{name.partition('.')[0] for name in sys.modules})").split())

    assert not loaded & (_FRAMEWORKS | {"numpy", "sqlalchemy", "rich", "click", "yaml"})


def test_the_command_line_imports_no_framework() -> None:
    loaded = set(_python("import sys, assay.cli.main; print(*{n.partition('.')[0] for n in sys.modules})").split())

    assert not loaded & _FRAMEWORKS


def test_every_public_name_resolves_and_is_documented() -> None:
    for name in assay.__all__:
        assert getattr(assay, name).__doc__
        assert name in dir(assay)


def test_the_public_names_are_pinned() -> None:
    names = (
        "AssayError Example add_base approve bill_of_materials bisect confirm_base convert diff du evaluate gc "
        "hub_cache import_from inspect lineage load load_tensors metrics open pack_store pin promote pull push rehearse remove retract_base "
        "rollback scan show sign signatures stream_tensors "
        "unalias unpack unpin verify versions vulnerabilities yank"
    )
    assert assay.__all__ == names.split()

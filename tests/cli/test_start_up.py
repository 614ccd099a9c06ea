"""What commands import: no command waits for what others need."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

import click
import numpy as np
import pytest
from safetensors.numpy import save_file

from assay.cli.main import _COMMANDS, main
from assay.later import later

_SEEN = """
import atexit, sys
from assay.cli.main import run
file = sys.argv.pop(1)
atexit.register(lambda: open(file, "w").write("\\n".join(sys.modules)))
run()
"""
"""The command line, which writes down at its end what was imported."""

_EVERY_COMMAND = """
import click
from assay.cli.main import _COMMANDS, main
for name in _COMMANDS:
    main.get_command(click.Context(main), name)
import sys
print(*sys.modules)
"""

FRAMEWORKS = {"torch", "tensorflow", "keras", "sklearn", "onnx", "onnxruntime", "transformers", "xgboost", "lightgbm"}
OPTIONAL = {"obstore", "psycopg", "cryptography", "sigstore", "urllib3"}
SQL = {"sqlalchemy"}
FORMATS = {"assay.formats.registry", "numpy", "ml_dtypes", "yaml"}
AUDITS = {"assay.wiring.auditors", "assay.audit.files", "assay.audit.pickles", "jinja2"}
PACKS = {"assay.packing", "assay.packing.codec", "assay.blobs.packs.index", "assay.blobs.packs.packer", "zstandard"}
COMPARING = {"assay.compare.comparing", "assay.compare.kin"}
LOADERS = {"assay.loaders.registry", "assay.loaders.calling"}
CONVERSION = {"assay.conversion.registry", "assay.conversion.frameworks"}
OTHERS = {"assay.wiring.buckets", "assay.blobs.bucket", "assay.remote.http", "pathspec", "multiprocessing.pool"}

NEVER = FRAMEWORKS | OPTIONAL | LOADERS | COMPARING | CONVERSION | PACKS | OTHERS
"""Of no concern to commands about one version of a home without packs."""
NOT_TO_ANSWER = NEVER | FORMATS | AUDITS
"""Of no concern to commands that do not look into models either."""

Seen = Callable[..., set[str]]


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> Seen:
    """``seen(*arguments)``: what a command imports that succeeds in a home with a small model, ``team/m``."""
    folder = tmp_path_factory.mktemp("start-up")
    (folder / "model").mkdir()
    save_file({"w": np.ones(4, np.float32)}, folder / "model" / "model.safetensors")
    environ = {**os.environ, "ASSAY_HOME": str(folder / "home")}
    file = folder / "modules"

    def do(*arguments: str, **more: str) -> set[str]:
        command = [sys.executable, "-c", _SEEN, str(file), *arguments]
        subprocess.run(command, env={**environ, **more}, cwd=folder, check=True, capture_output=True)
        return set(file.read_text().split("\n"))

    do("push", "model", "team/m", "--alias", "prod")
    return do


def ours(modules: Iterable[str]) -> set[str]:
    """Those of the command line among some modules."""
    return {name for name in modules if name.startswith("assay.cli.")}


@pytest.mark.parametrize(
    ("arguments", "environ"),
    [
        (["--help"], {}),
        (["--version"], {}),
        ([], {"_ASSAY_COMPLETE": "bash_complete", "COMP_WORDS": "assay pu", "COMP_CWORD": "1"}),
    ],
    ids=["help", "version", "completion"],
)
def test_listing_commands_imports_none_of_them(seen: Seen, arguments: list[str], environ: dict[str, str]) -> None:
    found = seen(*arguments, **environ)

    assert ours(found) == {"assay.cli.main", "assay.cli.text"}
    assert not found & (NOT_TO_ANSWER | SQL | {"rich", "assay.service", "assay.wiring"})


def test_what_commands_are_said_to_do_is_what_their_own_help_says() -> None:
    for name, (_, does) in _COMMANDS.items():
        command = main.get_command(click.Context(main), name)
        assert command is not None
        assert command.get_short_help_str(limit=400) == does


def test_the_help_of_no_command_waits_for_what_only_running_it_needs() -> None:
    done = subprocess.run([sys.executable, "-c", _EVERY_COMMAND], capture_output=True, text=True, check=True)
    found = set(done.stdout.split())

    assert ours(found) >= {f"assay.cli.{module.partition(':')[0]}" for module, _ in _COMMANDS.values()}
    allowed = {"yaml", "assay.wiring.buckets"}  # of the importers and of licences; the latter is small by itself
    assert not found & (NOT_TO_ANSWER | SQL) - allowed


@pytest.mark.parametrize(
    "arguments",
    ["ls", "ls team/m", "show team/m:prod", "history team/m", "verify team/m", "pull team/m pulled", "yank team/m -h"],
)
def test_what_looks_into_no_model_imports_neither_formats_nor_rules(seen: Seen, arguments: str) -> None:
    assert not seen(*arguments.split()) & NOT_TO_ANSWER


def test_completing_a_reference_imports_neither_formats_nor_rules(seen: Seen) -> None:
    found = seen(_ASSAY_COMPLETE="bash_complete", COMP_WORDS="assay pull team/", COMP_CWORD="2")

    assert "assay.catalog.sql" in found
    assert not found & NOT_TO_ANSWER


@pytest.mark.parametrize("arguments", ["push model team/m", "inspect team/m", "scan team/m", "promote team/m prod"])
def test_what_looks_into_a_model_imports_no_loaders_nor_packs(seen: Seen, arguments: str) -> None:
    assert not seen(*arguments.split()) & NEVER


def test_a_module_named_for_later_is_imported_with_its_first_attribute(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "costly_module.py").write_text("ANSWER = 42\n")
    monkeypatch.syspath_prepend(tmp_path)
    costly = later("costly_module")

    assert "costly_module" not in sys.modules
    assert "costly_module" in repr(costly)
    try:
        assert costly.ANSWER == 42
        assert "costly_module" in sys.modules
        with pytest.raises(AttributeError, match="costly_module"):
            costly.QUESTION  # noqa: B018 - it is asked for
    finally:
        sys.modules.pop("costly_module", None)

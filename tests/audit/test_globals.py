"""The tables of names: exact, consistent with what the loader resolves, and useful where a name is dangerous."""

from __future__ import annotations

import pytest

from assay.audit.arguments import _RULES
from assay.audit.globals import Role, canonical_module, danger, entries, entry, shared
from assay.loaders.allowed_calls import CLASSES, FUNCTIONS
from assay.loaders.restricted import _SPECIAL, _WRAPPER
from assay.spec.finding import Severity


def test_whatever_the_loader_resolves_the_audit_knows() -> None:
    resolved = [*shared(), *CLASSES, *FUNCTIONS, *_SPECIAL, _WRAPPER]

    assert [pair for pair in resolved if entry(*pair) is None] == []


def test_rows_are_exact_names() -> None:
    for module, name in entries():
        assert name.isidentifier() or (module, name) == ("zoneinfo", "ZoneInfo._unpickle"), (module, name)
        assert all(part.isidentifier() for part in module.split(".")), (module, name)
        assert canonical_module(module) == module, (module, name)


def test_every_helper_has_a_rule_in_code() -> None:
    for pair, row in entries().items():
        assert (row.role is Role.HELPER) == (row.rule in _RULES), pair


def test_no_row_is_known_to_be_dangerous_by_its_own_name() -> None:
    assert [pair for pair in entries() if (known := danger(*pair)) and known.effect == "start a process"] == []


@pytest.mark.parametrize(
    ("module", "name", "severity", "effect"),
    [
        ("os", "system", Severity.EXECUTE, "start a process"),
        ("posix", "system", Severity.EXECUTE, "start a process"),
        ("subprocess", "Popen", Severity.EXECUTE, "start a process"),
        ("builtins", "eval", Severity.EXECUTE, "run Python source"),
        ("importlib", "import_module", Severity.EXECUTE, "import a module"),
        ("ctypes", "CDLL", Severity.EXECUTE, "load a shared library"),
        ("urllib.request", "urlopen", Severity.NETWORK, "open a network connection"),
        ("shutil", "rmtree", Severity.WRITE, "write, move or delete files"),
        ("torch.serialization", "os.system", Severity.EXECUTE, "start a process"),
    ],
)
def test_a_dangerous_name_says_what_it_does(module: str, name: str, severity: Severity, effect: str) -> None:
    known = danger(module, name)

    assert known is not None
    assert (known.severity, known.effect) == (severity, effect)


@pytest.mark.parametrize(
    ("module", "name"), [("numpy", "memmap_"), ("numpy.evil", "sum"), ("sklearn", "os.system"), ("numpy", "")]
)
def test_nothing_is_known_by_a_prefix_or_a_dotted_name(module: str, name: str) -> None:
    assert entry(module, name) is None

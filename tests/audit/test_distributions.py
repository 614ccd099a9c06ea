"""Distributions of scipy evaluate text that they keep: only scipy's own passes."""

from __future__ import annotations

import pickle
import struct

import pytest

from assay.audit.distributions import harmless_template
from assay.formats.registry import all_formats
from assay.service.examine import inspect
from assay.spec.finding import Severity
from assay.trees import Tree

OWN = """
def _parse_args(self, a, loc=0, scale=1):
    return (a, ), loc, scale

def _parse_args_rvs(self, a, loc=0, scale=1, size=None):
    return self._argcheck_rvs(a, loc, scale, size=size)

def _parse_args_stats(self, a, loc=0, scale=1, moments='mv'):
    return (a, ), loc, scale, moments
"""


def grave(data: bytes) -> set[str]:
    found = inspect(Tree.of({"m.pkl": data}), all_formats()).all_findings
    return {finding.rule for finding in found if finding.severity is not Severity.NOTE}


def test_what_scipy_writes_passes() -> None:
    assert harmless_template(OWN)


@pytest.mark.parametrize(
    "text",
    [
        "import os\n" + OWN,
        OWN + "\nprint(1)\n",
        OWN.replace("return (a, ), loc, scale\n", "return print(a), loc, scale\n"),
        OWN.replace("loc=0", "loc=print(1)"),
        OWN.replace("def _parse_args(", "@print\ndef _parse_args("),
        OWN.replace("self, a,", "self, a: print(1),"),
        OWN.replace("self._argcheck_rvs(", "self.rvs("),
        OWN.replace("_argcheck_rvs(a,", "_argcheck_rvs(print(a),"),
        OWN.replace("_parse_args_stats", "_parse_args_other"),
        OWN.replace("return (a, ), loc, scale, moments", "x = 1\n    return a"),
        "def",
        OWN + "#" * 10_000,
        "(" * 5_000,
    ],
)
def test_any_other_text_does_not(text: str) -> None:
    assert not harmless_template(text)


@pytest.mark.framework
@pytest.mark.parametrize("protocol", range(6))
def test_frozen_distributions_and_searches_over_them_are_clean(protocol: int) -> None:
    from scipy import stats
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import RandomizedSearchCV

    discrete = (stats.randint(1, 5), stats.poisson(3)) if protocol >= 2 else ()
    for value in (stats.norm(0, 1), stats.gamma(2.0), stats.uniform, *discrete):
        assert grave(pickle.dumps(value, protocol)) == set()
    others = {"max_iter": stats.randint(50, 200)} if protocol >= 2 else {}
    search = RandomizedSearchCV(LogisticRegression(), {"C": stats.loguniform(0.1, 10), **others})
    assert grave(pickle.dumps(search, protocol)) == set()


def _text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value)) + value.encode()


@pytest.mark.parametrize("how", ["newobj", "reconstructor"])
@pytest.mark.parametrize(
    ("attribute", "value"),
    [
        ("_parse_arg_template", _text("import this")),
        ("shapes", _text("a, b=1")),
        ("_attach_methods", b"cnumpy\nall\n"),
        ("__setstate__", b"K\x01"),
        ("_attach_methods", b"cfunctools\npartial\ncnumpy\nmemmap\n\x85R"),
        ("anything", b"K\x01"),
    ],
)
def test_text_or_methods_of_the_picklers_own_are_found(how: str, attribute: str, value: bytes) -> None:
    cls = b"cscipy.stats._continuous_distns\ngamma_gen\n"
    made = cls + b")\x81" if how == "newobj" else b"ccopyreg\n_reconstructor\n(" + cls + b"cbuiltins\nobject\nNtR"
    assert grave(b"\x80\x03" + made + b"}" + _text("a") + b"K\x01sb.") == set()
    assert grave(b"\x80\x03cnumpy\nvectorize\n)\x81}" + _text("pyfunc") + b"cnumpy\nall\nsb.") == {"pickle-state"}
    assert grave(b"\x80\x03cnumpy\nvectorize\ncnumpy\nall\n\x85R.") == {"pickle-arguments"}

    assert "pickle-state" in grave(b"\x80\x03" + made + b"}" + _text(attribute) + value + b"sb.")

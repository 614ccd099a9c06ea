"""Functions that honest models keep as parameters: known by exact name, harmless to keep, never to be called."""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hostile_pickles import called, name, stream, text
from scipy.spatial import distance
from sklearn.compose import make_column_selector
from sklearn.feature_extraction.text import CountVectorizer, strip_accents_ascii
from sklearn.neighbors import KNeighborsClassifier
from sklearn.preprocessing import FunctionTransformer

from assay.formats.registry import all_formats
from assay.service.examine import inspect
from assay.spec.finding import Severity
from assay.trees import Tree


def rules(data: bytes, path: str = "m.pkl") -> set[str]:
    findings = inspect(Tree.of({path: data}), all_formats()).all_findings
    return {found.rule for found in findings if found.severity is not Severity.NOTE}


def distances() -> KNeighborsClassifier:
    model = KNeighborsClassifier(2, metric=distance.cosine, algorithm="ball_tree")
    return model.fit(np.eye(4) + 1, [0, 0, 1, 1])


HONEST: dict[str, Callable[[], Any]] = {
    "transpose": lambda: FunctionTransformer(np.transpose),
    "array": lambda: FunctionTransformer(np.array),
    "numbers": lambda: make_column_selector(dtype_include=np.number),
    "to numeric": lambda: FunctionTransformer(pd.to_numeric),
    "to datetime": lambda: FunctionTransformer(pd.to_datetime),
    "dummies": lambda: FunctionTransformer(pd.get_dummies),
    "accents": lambda: CountVectorizer(strip_accents=strip_accents_ascii),
    "lower and split": lambda: CountVectorizer(preprocessor=str.lower, tokenizer=str.split, token_pattern=None),
    "distance": distances,
}


@pytest.mark.parametrize("protocol", [0, 2, 5])
@pytest.mark.parametrize("what", HONEST)
def test_a_known_function_may_be_kept_as_a_parameter(what: str, protocol: int) -> None:
    assert rules(pickle.dumps(HONEST[what](), protocol)) == set()


@pytest.mark.parametrize("function", [("numpy", "transpose"), ("pandas", "to_datetime"), ("numpy.linalg", "norm")])
def test_a_function_that_may_be_kept_may_not_be_called(function: tuple[str, str]) -> None:
    assert rules(stream(called(*function, text("x")))) == {"pickle-call"}


GETATTR = name("builtins", "getattr")


@pytest.mark.parametrize(
    "data",
    [
        stream(GETATTR),
        stream(called("builtins", "getattr", name("builtins", "str"), text("format"))),
        stream(called("builtins", "getattr", name("builtins", "str"), text("__subclasses__"))),
        stream(called("builtins", "getattr", name("builtins", "bytes"), text("lower"))),
        stream(called("builtins", "getattr", text("a"), text("lower"))),
        stream(called("builtins", "getattr", name("builtins", "str"), text("lower"), text("more"))),
        stream(called("builtins", "getattr", name("builtins", "str"), text("lower")), text("A"), b"\x85R"),
        stream(called("builtins", "getattr", name("builtins", "str"), text("lower")), b"0", b"]", GETATTR, b"a"),
        stream(GETATTR, b"\x94", b"(", name("builtins", "str"), text("lower"), b"tR", b"0", b"]", b"h\x00", b"a"),
        stream(GETATTR, b")\x81"),
    ],
)  # fmt: skip
def test_getattr_is_harmless_only_where_it_gives_a_method_of_texts(data: bytes) -> None:
    assert rules(data)
    assert rules(stream(called("builtins", "getattr", name("builtins", "str"), text("lower")))) == set()


def test_a_module_that_was_scripted_before_it_was_saved_is_clean() -> None:
    module = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.GELU())
    for part in module.modules():
        part.__overloads__ = {}  # type: ignore[assignment]  # what torch.jit.script leaves behind
    file = io.BytesIO()
    torch.save(module, file)

    assert "__overloads__" in vars(module)
    assert rules(file.getvalue(), "m.pt") == set()


def test_a_module_in_parallel_is_clean() -> None:
    for zipped in (True, False):
        file = io.BytesIO()
        torch.save(torch.nn.DataParallel(torch.nn.Linear(2, 2)), file, _use_new_zipfile_serialization=zipped)

        assert rules(file.getvalue(), "m.pt") == set()

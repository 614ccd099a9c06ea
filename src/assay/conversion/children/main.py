"""The program of a sandboxed conversion: ``python -m assay.conversion.children.main KIND SOURCE RESULT``.

Writes what it found to ``report.json`` beside RESULT: the proof, or the error as its class, code, message and hint.
"""

from __future__ import annotations

import json
import logging
import sys
import warnings
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from assay.artifact.collect import collect, tree_of
from assay.conversion.children import boosters, keras_files, scikit
from assay.conversion.children.comparing import Compared
from assay.errors import AssayError, NotFound
from assay.formats.registry import all_formats
from assay.spec.description import Description

REPORT = "report.json"

Convert = Callable[[Path, Description, Path], Compared]

KINDS: dict[str, Convert] = {
    "skops": scikit.to_skops,
    "onnx": scikit.to_onnx,
    "keras": keras_files.to_keras,
    "ubj": boosters.to_ubj,
}
"""Target to what converts to it."""


def main(arguments: list[str]) -> int:
    """Convert what lies in one folder into one file."""
    kind, folder, result = arguments[0], Path(arguments[1]), Path(arguments[2])
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            body: dict[str, object] = asdict(KINDS[kind](folder, _description(folder, arguments[3]), result))
    except AssayError as error:
        body = {"error": {"class": type(error).__name__, **error.to_json()}}
    result.with_name(REPORT).write_text(json.dumps(body), "utf-8")
    return 0


def _description(folder: Path, wanted: str) -> Description:
    """What the files are, looked at again in here."""
    tree = tree_of(collect(folder))
    for form in all_formats():
        if form.name == wanted:
            for group in form.detect(tree):
                return form.describe(tree, group)
    raise NotFound(f"no {wanted} model here")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""Refusals that follow from what a format found in the files.

Frameworks whose loaders trust their files (Keras, TensorFlow, sentence-transformers) are asked only when the
description holds no finding that loading or running the model runs code, or reads, writes or reaches further than its
own files.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from assay.errors import BadFormat, Refused
from assay.spec.description import Description
from assay.spec.finding import Severity

HARMFUL = frozenset({Severity.EXECUTE, Severity.WRITE, Severity.NETWORK, Severity.READ})
TWO_READINGS = frozenset({"zip-duplicate-member", "zip-header-mismatch", "onnx-second-graph"})
"""Rules of files that another reader may read differently from ours: what it would see was not looked at."""
MAX_SETTINGS = 64 << 20
"""Bytes of a JSON file of settings that are read."""


def refuse_hazards(description: Description, *, hint: str, ignore: Collection[str] = (), whole: bool = False) -> None:
    """Stop when the files can do more than compute.

    Args:
        description: what was understood.
        hint: the way out.
        ignore: rules that do not matter for how the model is loaded.
        whole: stop, too, when something could not be read: harm may hide there.

    Raises:
        Refused: with the first finding (code ``unsafe-model``).
    """
    severities = HARMFUL | {Severity.INCOMPLETE} if whole else HARMFUL
    found = [
        item
        for item in description.findings
        if (item.severity in severities or (whole and item.rule in TWO_READINGS)) and item.rule not in ignore
    ]
    if found:
        first = found[0]
        more = f" (and {len(found) - 1} more findings)" if len(found) > 1 else ""
        does = _WHAT.get(first.severity, _WHAT[Severity.INCOMPLETE])
        raise Refused(
            f"loading this {description.format} model could {does}: {first.message}{more}",
            code="unsafe-model",
            hint=hint,
            rule=first.rule,
            path=first.path,
        )


def settings(file: Path) -> Mapping[str, Any]:
    """The JSON object in a file of settings, empty when there is no such file.

    Raises:
        BadFormat: it is not a JSON object.
    """
    if not file.is_file():
        return {}
    if file.stat().st_size > MAX_SETTINGS:
        raise BadFormat(f"{file.name} has more than {MAX_SETTINGS:,} bytes", path=file.name)
    try:
        value = json.loads(file.read_bytes())
    except (ValueError, RecursionError) as error:
        raise BadFormat(f"{file.name} is not JSON ({error})", path=file.name) from error
    if not isinstance(value, dict):
        raise BadFormat(f"{file.name} is not a JSON object", path=file.name)
    return value


@contextmanager
def renamed(file: Path, suffix: str) -> Iterator[Path]:
    """The same file under a name that ends in *suffix*, for frameworks that judge a file by its name."""
    if file.name.endswith(suffix):
        yield file
        return
    with TemporaryDirectory(prefix="assay-") as scratch:
        link = Path(scratch) / f"model{suffix}"
        link.symlink_to(file.resolve())
        yield link


_WHAT = {
    Severity.EXECUTE: "run code",
    Severity.WRITE: "write files",
    Severity.NETWORK: "reach the network",
    Severity.READ: "read other files",
    Severity.INCOMPLETE: "do what was not looked at",
}

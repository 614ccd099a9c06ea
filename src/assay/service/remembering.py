"""Findings that are remembered per blob, so that an audit with the same rules does not read a blob again.

A folder of the home keeps, per rule set, what describing one group of stored blobs found. Only this home writes there:
reports that came from elsewhere are statements, and statements are never believed by a gate.

    audits/<rule set>/<two hex digits>/<key>.json    key: digest over format, entry paths and blob digests
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

from assay.errors import AssayError
from assay.ports.formats import Format
from assay.spec.description import Description
from assay.spec.digest import Digest
from assay.spec.json import Json, canonical
from assay.spec.report import finding
from assay.trees import Tree


class Remembered:
    """Describes groups of one artifact's entries, as ``service.examine.inspect`` asks for them.

    What is remembered of a description is what an audit needs: its format, its paths and its findings.

    Args:
        folder: the home's folder for it; None remembers nothing.
        ruleset: version of the rules.
        digests: entry path to blob digest.
    """

    def __init__(self, folder: Path | None, ruleset: str, digests: Mapping[str, Digest]) -> None:
        self._folder = folder / _name(ruleset) if folder is not None else None
        self._digests = digests
        self.known = 0

    def __call__(self, tree: Tree, form: Format, group: tuple[str, ...]) -> Description:
        """Describe a group: from memory when these blobs were described before, else by its format.

        Raises:
            BadFormat: as the format says.
        """
        # Directory formats look at files beyond their group: their result is not a function of its blobs.
        if self._folder is None or form.covers != "file" or not all(path in self._digests for path in group):
            return form.describe(tree, group)
        file = self._file(form.name, group)
        remembered = _read(file)
        if remembered is not None:
            self.known += 1
            return remembered
        described = form.describe(tree, group)
        self._write(file, described)
        return described

    def _file(self, form: str, group: tuple[str, ...]) -> Path:
        assert self._folder is not None
        body: list[Json] = [form, *([path, str(self._digests[path])] for path in group)]
        key = hashlib.sha256(canonical(body)).hexdigest()
        return self._folder / key[:2] / f"{key}.json"

    def _write(self, file: Path, described: Description) -> None:
        body: dict[str, Json] = {
            "format": described.format,
            "paths": list(described.paths),
            "findings": [item.to_json() for item in described.findings],
        }
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            handle, scratch = tempfile.mkstemp(dir=file.parent, prefix=".")
            with os.fdopen(handle, "wb") as stream:
                stream.write(canonical(body))
            Path(scratch).replace(file)
        except OSError:
            return  # a home that cannot be written is audited all the same


def forget_other_rules(folder: Path, ruleset: str) -> None:
    """Remove what was remembered under other rules."""
    try:
        others = [child for child in folder.iterdir() if child.name != _name(ruleset)]
    except OSError:
        return
    for child in others:
        shutil.rmtree(child, ignore_errors=True)


def _name(ruleset: str) -> str:
    return hashlib.sha256(ruleset.encode()).hexdigest()[:16]


def _read(file: Path) -> Description | None:
    try:
        body = json.loads(file.read_bytes())
        return Description(
            format=str(body["format"]),
            paths=tuple(str(path) for path in body["paths"]),
            findings=tuple(finding(item) for item in body["findings"]),
        )
    except (OSError, ValueError, KeyError, TypeError, AssayError):
        return None

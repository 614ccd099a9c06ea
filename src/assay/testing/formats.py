"""The contract of formats, as a suite: subclass it in your tests, say what to make, and pytest runs the rest.

    class TestTinynet(FormatContract):
        def make_format(self): return TinynetFormat()
        def make_files(self): return {"model.tiny": b"..."}

What it proves: the format is found by content whatever the file is called, it claims nothing else, extents lie inside
their entries, descriptions are valid values that become JSON, and damaged or cut files never raise anything but
``AssayError``, never read past the budget and never take long.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from contextlib import suppress
from posixpath import dirname

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from assay.errors import AssayError
from assay.ports.formats import Format
from assay.spec.description import Description
from assay.spec.inspection import description_json
from assay.trees import Tree

SECONDS = 5.0
"""How long one description of a small file may take, however damaged; generous, because machines are shared."""

_STRANGERS = {
    "empty": b"",
    "text.txt": b"hello, world\n" * 20,
    "zeros.bin": bytes(4096),
    "ones.bin": b"\xff" * 4096,
    "list.json": b"[1, 2, 3]",
    "object.json": b'{"a": 1}',
}


class FormatContract:
    """What every format promises. Subclasses say which format and give one small, valid model."""

    #: Whether the files are recognised under other names too. Directory formats go by names.
    by_content = True

    def make_format(self) -> Format:
        """The format under test."""
        raise NotImplementedError

    def make_files(self) -> Mapping[str, bytes]:
        """Entry path to bytes of one small, valid model; the main entry first."""
        raise NotImplementedError

    def test_it_has_a_name_and_a_kind(self) -> None:
        """The name is lower-case words, the kind one of two."""
        form = self.make_format()

        assert isinstance(form, Format)
        assert form.name == form.name.lower()
        assert form.name.replace("-", "").isalnum()
        assert form.covers in {"file", "directory"}

    def test_it_finds_its_model_and_describes_it_as_json(self) -> None:
        """The description is complete, covers its entries, and is JSON without NaN."""
        found = self._describe(self.make_files())

        assert found.complete, found.findings
        assert next(iter(self.make_files())) in found.paths
        assert list(found.paths) == sorted(found.paths)
        json.dumps(description_json(found), allow_nan=False)

    def test_tensor_names_are_unique_and_extents_lie_inside_their_entries(self) -> None:
        """The tensor index can be relied on."""
        tree = Tree.of(self.make_files())
        found = self._describe(self.make_files())

        names = [tensor.name for tensor in found.tensors]
        assert len(names) == len(set(names))
        for tensor in found.tensors:
            if tensor.extent is not None:
                assert tensor.extent.offset + tensor.extent.length <= tree.size(tensor.extent.path)

    def test_it_goes_by_content_and_not_by_name(self) -> None:
        """The main entry under another name is still found."""
        files = dict(self.make_files())
        if not self.by_content or len(files) != 1:
            return
        (data,) = files.values()

        assert self.make_format().detect(Tree.of({"renamed": data})) == [("renamed",)]

    def test_it_claims_no_strangers(self) -> None:
        """Text, zeros, empty and other JSON files are not its own."""
        assert list(self.make_format().detect(Tree.of(_STRANGERS))) == []

    def test_no_entry_is_in_two_groups(self) -> None:
        """Two models beside each other stay two, and share no entry."""
        files = self.make_files()
        twice = {f"{folder}/{path}": data for folder in ("a", "b") for path, data in files.items()}
        groups = self.make_format().detect(Tree.of(twice))

        entries = [path for group in groups for path in group]
        assert len(entries) == len(set(entries))
        assert len(groups) == 2 * len(self.make_format().detect(Tree.of(files)))
        assert all(len({dirname(path).split("/", 1)[0] for path in group}) == 1 for group in groups)

    @settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
    @given(data=st.data())
    def test_damaged_files_give_a_description_or_a_clear_error(self, data: st.DataObject) -> None:
        """Cut, overwritten and extended files: only AssayError leaves, within the budget and in time."""
        files = dict(self.make_files())
        path = data.draw(st.sampled_from(sorted(files)))
        files[path] = self._damage(data, files[path])
        tree = Tree.of(files, limit=64 << 20)
        started = time.monotonic()

        with suppress(AssayError):  # a clear refusal is as good as a description
            for group in self.make_format().detect(tree):
                json.dumps(description_json(self.make_format().describe(tree, group)), allow_nan=False)

        assert tree.budget.used <= tree.budget.limit
        assert time.monotonic() - started < SECONDS

    def _describe(self, files: Mapping[str, bytes]) -> Description:
        tree, form = Tree.of(files), self.make_format()
        (group,) = form.detect(tree)
        return form.describe(tree, group)

    @staticmethod
    def _damage(data: st.DataObject, content: bytes) -> bytes:
        kind = data.draw(st.sampled_from(["cut", "overwrite", "insert", "extend"]))
        at = data.draw(st.integers(0, max(0, len(content) - 1)))
        noise = data.draw(st.binary(min_size=1, max_size=16))
        if kind == "cut":
            return content[:at]
        if kind == "overwrite":
            return content[:at] + noise + content[at + len(noise) :]
        return content[:at] + noise + content[at:] if kind == "insert" else content + noise

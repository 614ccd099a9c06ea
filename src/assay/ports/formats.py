"""The port of formats: understanding model files without their framework."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from assay.spec.description import Description
from assay.spec.tensor import TensorSpec
from assay.trees import Tree


@runtime_checkable
class Format(Protocol):
    """One way models are laid out in files.

    Contract (the suite ``assay.testing.formats`` proves it): no framework is imported, nothing is unpickled or
    executed; reading stays within the tree's budget, nesting and counts within stated bounds; the only exceptions that
    leave are ``AssayError``; memory is never allocated from a length that was not checked against the bytes there are.

    Third parties register an instance under the entry-point group ``assay.formats``.
    """

    @property
    def name(self) -> str:
        """Lower-case name, unique among formats."""
        ...

    @property
    def covers(self) -> str:
        """What one group is: ``"file"`` or ``"directory"``.

        A file format describes single files with their index, shards or side files. A directory format describes what
        a folder of files means together; its description leads, those of the files in it follow.
        """
        ...

    def detect(self, tree: Tree) -> Sequence[tuple[str, ...]]:
        """Find this format by content; names may only break ties.

        Returns:
            One group of entry paths per model found: the main entry first, then its index, shards and side files. An
            entry is in at most one group. Empty when the format is not there.
        """
        ...

    def describe(self, tree: Tree, paths: tuple[str, ...]) -> Description:
        """Say everything the files of one group say.

        Oddities are findings in the description, not exceptions; what cannot be finished is a finding of severity
        ``incomplete`` beside everything that was understood before.

        Raises:
            BadFormat: nothing useful could be understood.
        """
        ...


@runtime_checkable
class TensorReader(Protocol):
    """A format that can also give the bytes of tensors that have no extent (compressed, chunked)."""

    def tensor(self, tree: Tree, spec: TensorSpec) -> bytes:
        """The elements of one tensor in C order, little-endian, ``spec.nbytes`` bytes.

        Raises:
            BadFormat: the bytes are not there or do not decode.
            NotFound: this reader does not know the tensor.
        """
        ...

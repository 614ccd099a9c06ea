"""The ``pickle`` and ``joblib`` formats: any Python object, most often a fitted estimator.

Not here: what torch saves (``pytorch``), NumPy's own files (``npz``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from assay.audit.pickles import judge, names
from assay.containers.guard import guarded
from assay.errors import MissingDependency, NotFound
from assay.formats.pickles import story as estimator_story
from assay.formats.pickles.files import Contents, elements, kind_of, other_reading, read, unreadable
from assay.spec.description import Description
from assay.spec.json import Json
from assay.spec.tensor import TensorSpec
from assay.trees import Tree

MAX_GLOBALS = 300
"""Names of classes and functions that are listed."""


class _Pickled:
    """What both formats share."""

    name = ""
    covers = "file"

    def detect(self, tree: Tree) -> Sequence[tuple[str, ...]]:
        """One group per file."""
        return [(path,) for path in tree if kind_of(tree, path) == self.name]

    def describe(self, tree: Tree, paths: tuple[str, ...]) -> Description:
        """The objects in one file: estimators with their settings, arrays, libraries, classes and functions named.

        Raises:
            BadFormat: it is not a pickle.
        """
        with guarded(f"a {self.name} file", paths[0]):
            try:
                contents = read(tree.open(paths[0]))
            except MissingDependency as error:
                return Description(format=self.name, paths=paths, findings=(unreadable(paths[0], error),))
            return self._described(contents, paths)

    def tensor(self, tree: Tree, spec: TensorSpec) -> bytes:
        """The elements of one tensor in C order, little-endian; compressed files are undone again.

        Raises:
            BadFormat: the elements are not plain numbers, or not there.
            NotFound: no file of the tree has this tensor.
        """
        for (path,) in self.detect(tree):
            if spec.extent is None or spec.extent.path == path:
                try:
                    with guarded(f"a {self.name} file", path):
                        return elements(tree, spec, path)
                except NotFound:
                    continue
        raise NotFound(f"no {self.name} file has a tensor {spec.name!r}")

    def _described(self, contents: Contents, paths: tuple[str, ...]) -> Description:
        graph = contents.index()
        specs = graph.specs(contents.window, plain_bytes=not contents.codecs)
        uses = contents.globals
        story = estimator_story.tell(
            contents.root,
            contents.arrays,
            graph,
            specs,
            window=contents.window,
            modules=[use.global_.module for use in uses],
        )
        protocols = sorted({stream.protocol for stream in contents.streams})
        used = [str(use.global_)[:200] for use in uses]
        metadata: dict[str, Json] = {
            "protocol": protocols[0] if len(protocols) == 1 else protocols,
            "opcodes": sum(stream.opcodes for stream in contents.streams),
            "globals": used if len(used) <= MAX_GLOBALS else [*used[:MAX_GLOBALS], f"… {len(used) - MAX_GLOBALS} more"],
            **story.metadata,
        }
        if contents.codecs:
            metadata["compression"] = " in ".join(reversed(contents.codecs))
        if len(contents.streams) > 1:
            metadata["pickles"] = len(contents.streams)
        return replace(
            story.description(self.name, paths, specs),
            format_version=f"protocol {protocols[-1]}",
            metadata=metadata,
            findings=(
                *contents.findings,
                *judge(contents.all_streams, contents.window),
                *other_reading(contents),
                *graph.findings,
                *story.findings,
            ),
            globals=names(contents.all_streams),
        )


class PickleFormat(_Pickled):
    """Describes pickles, compressed or not."""

    name = "pickle"


class JoblibFormat(_Pickled):
    """Describes what ``joblib.dump`` writes, in every compression."""

    name = "joblib"

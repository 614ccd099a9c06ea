"""LightGBM model files: the text LightGBM itself saves.

What the text says is in ``lightgbm_text``, because it also stands inside pickles.
"""

from __future__ import annotations

from collections.abc import Sequence

from assay.containers.guard import guarded
from assay.formats.boosting.lightgbm_text import describe_window, recognise
from assay.spec.description import Description
from assay.trees import Tree


class LightGBMFormat:
    """Describes LightGBM text models."""

    name = "lightgbm"
    covers = "file"

    def detect(self, tree: Tree) -> Sequence[tuple[str, ...]]:
        """One group per file."""
        return [(path,) for path in tree if recognise(tree.head(path))]

    def describe(self, tree: Tree, paths: tuple[str, ...]) -> Description:
        """Trees, features, objective and training parameters of one model.

        Raises:
            BadFormat: it is not a model text.
        """
        with guarded("a LightGBM model", paths[0]):
            return describe_window(tree.open(paths[0]), paths)

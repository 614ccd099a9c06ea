"""A tree is a tree: named, read-only windows of bytes, whether they lie in a directory, a store or far away.

Formats see nothing else of the world. Every read is charged to a byte budget, so that describing a hostile or huge
model stays bounded; reading past the end gives less, never an error, and never allocates more than there is.
"""

from assay.trees.tree import HEAD, Tree
from assay.trees.window import Budget, BytesWindow, FileWindow, Filling, Source, Window, read_into

__all__ = ["HEAD", "Budget", "BytesWindow", "FileWindow", "Filling", "Source", "Tree", "Window", "read_into"]

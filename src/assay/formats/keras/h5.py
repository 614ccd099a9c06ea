"""Keras models in HDF5: full models (``.h5``, ``.hdf5``), weights alone, and Keras 3's ``.weights.h5``.

Not here: the HDF5 layout (``containers.hdf5``), reading configurations (``documents``), weights (``weights``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from assay.containers.guard import guarded
from assay.containers.hdf5.file import File, is_hdf5
from assay.errors import BadFormat
from assay.formats.hdf5_tensors import attribute_text, sought_tensor, tensors
from assay.formats.keras.config import read_training
from assay.formats.keras.documents import counts, document_of, model_of, requirements
from assay.formats.keras.weights import is_keras, optimizer_facts, parameter_count, weights_by_layer
from assay.spec.description import Description
from assay.spec.finding import Finding
from assay.spec.tensor import TensorSpec
from assay.trees import Tree


class KerasH5Format:
    """The format of Keras models and weights in HDF5 files."""

    name = "keras-h5"
    covers = "file"

    def detect(self, tree: Tree) -> Sequence[tuple[str, ...]]:
        """HDF5 files with Keras' attributes or groups; other HDF5 files are left alone."""
        return [(path,) for path in tree if is_hdf5(tree.head(path)) and _is_keras(tree, path)]

    def describe(self, tree: Tree, paths: tuple[str, ...]) -> Description:
        """Say everything one Keras HDF5 file says.

        Raises:
            BadFormat: it is not a readable HDF5 file.
        """
        path = paths[0]
        with guarded("a Keras HDF5 file", path):
            file = File(tree.open(path))
            specs, groups = tensors(file)
            attributes = file.root.attributes
            weights = file.root.members.get("model_weights")
            # Weights saved alone carry the version on the root, full models on both.
            sources = (attributes, weights.attributes if weights is not None else {})
            version, backend = (_first(sources, key) for key in ("keras_version", "backend"))
            findings: list[Finding] = []
            config, settings = (
                document_of(attribute_text(attributes, f"{what}_config"), f"the {what} configuration", path, findings)
                for what in ("model", "training")
            )
            model = model_of(config, weights_by_layer(specs, groups), path, findings)
            training, task = read_training(settings)
            findings[:0] = file.findings
            return Description(
                format=self.name,
                paths=(path,),
                format_version=f"hdf5 superblock {file.reader.superblock.version}",
                framework="keras",
                framework_version=version,
                architecture=model.kind if model else None,
                task=task,
                tensors=tuple(specs),
                parameter_count=parameter_count(specs),
                inputs=model.inputs if model else (),
                outputs=model.outputs if model else (),
                hyperparameters=training,
                components=model.components if model else (),
                requirements=requirements(version, backend),
                metadata={
                    "contents": "model" if model else "weights",
                    **optimizer_facts(specs),
                    **({"backend": backend} if backend else {}),
                    **counts(model),
                },
                findings=tuple(findings),
            )

    def tensor(self, tree: Tree, spec: TensorSpec) -> bytes:
        """The elements of one tensor, also when chunked and compressed.

        Raises:
            NotFound: no Keras file of the tree has it.
            BadFormat: its bytes are not there or do not decode.
        """
        return sought_tensor(tree, spec, self.detect, lambda path: File(tree.open(path)))


def _first(sources: Sequence[Mapping[str, object]], key: str) -> str | None:
    return next((value[:100] for source in sources if isinstance(value := source.get(key), str)), None)


def _is_keras(tree: Tree, path: str) -> bool:
    try:
        with guarded("a Keras HDF5 file", path):
            return is_keras(File(tree.open(path)))
    except BadFormat:
        return False

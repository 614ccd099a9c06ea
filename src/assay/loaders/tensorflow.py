"""TensorFlow: SavedModels (also those only the version 1 loader understands), checkpoints, frozen graphs, TFLite.

A graph can hold operators that read and write files or call Python. The formats find them; a model that has one is
refused here before TensorFlow sees it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

from assay.errors import BadFormat, MissingDependency
from assay.loaders.frameworks import need, reason
from assay.loaders.hazards import refuse_hazards
from assay.loaders.places import directory, file_of, main_file
from assay.spec.description import Description

_HINT = "load it with TensorFlow where you trust it; assay.open reads its tensors"
_EXTRA = "tensorflow"


class SavedModelLoader:
    """SavedModel folders."""

    formats: ClassVar[Sequence[str]] = ("tensorflow-savedmodel",)

    def load(self, folder: Path, description: Description, descriptions: Sequence[Description]) -> object:  # noqa: ARG002 - the port's shape
        """What ``tf.saved_model.load`` gives, or ``GraphSignatures`` for a model it cannot restore.

        Both have ``signatures``: a mapping of names to functions that take keyword arguments and give a dictionary.

        Raises:
            Refused: an operator does more than compute (code ``unsafe-model``).
            BadFormat: TensorFlow cannot read it.
            MissingDependency: TensorFlow is not installed.
        """
        refuse_hazards(description, hint=_HINT, whole=True)
        tf = need("tensorflow", extra=_EXTRA, what="load a SavedModel")
        home = directory(folder, description, "saved_model.pb", "saved_model.pbtxt")
        try:
            return tf.saved_model.load(str(home))
        except Exception as first:  # noqa: BLE001 - whatever it is, the older loader may still know
            try:
                return GraphSignatures(tf, home)
            except Exception:  # noqa: BLE001 - the first reason says more
                raise BadFormat(f"TensorFlow cannot load the SavedModel ({reason(first)})") from first


class GraphSignatures:
    """A SavedModel through TensorFlow's version 1 loader: its signatures as functions, nothing else.

    Models of TensorFlow 1, and of Keras releases whose objects today's TensorFlow cannot restore, load this way.

    Args:
        tf: the module ``tensorflow``.
        home: the SavedModel's folder.

    Attributes:
        signatures: name to function; a function takes one keyword argument per input and gives a dictionary of tensors.
    """

    def __init__(self, tf: Any, home: Path) -> None:
        self._tf = tf
        v1 = tf.compat.v1
        with _without_advice(tf), tf.Graph().as_default() as graph:
            self._session = v1.Session(graph=graph)
            meta = v1.saved_model.load(self._session, _tags(v1, home), str(home))
        # TensorFlow adds a signature of its own that names the initialisation operation, not a tensor.
        self.signatures: Mapping[str, Callable[..., Mapping[str, Any]]] = {
            name: self._function(signature)
            for name, signature in meta.signature_def.items()
            if not name.startswith("__") and signature.outputs
        }
        if not self.signatures:
            raise BadFormat("the SavedModel has no signature to call")

    def _function(self, signature: Any) -> Callable[..., Mapping[str, Any]]:
        inputs = {name: info.name for name, info in signature.inputs.items()}
        outputs = {name: info.name for name, info in signature.outputs.items()}

        def call(**given: Any) -> Mapping[str, Any]:
            if set(given) != set(inputs):
                raise TypeError(f"expected the inputs {', '.join(sorted(inputs))}, got {', '.join(sorted(given))}")
            feed = {inputs[name]: getattr(value, "numpy", lambda value=value: value)() for name, value in given.items()}
            results = self._session.run(outputs, feed)
            return {name: self._tf.convert_to_tensor(value) for name, value in results.items()}

        return call

    def close(self) -> None:
        """Free the session."""
        self._session.close()


@contextmanager
def _without_advice(tf: Any) -> Iterator[None]:
    """Keep TensorFlow from advising its newer loader: that one was tried first."""
    logger = tf.get_logger()
    level = logger.level
    logger.setLevel("ERROR")
    try:
        yield
    finally:
        logger.setLevel(level)


class CheckpointLoader:
    """Variables saved without a graph."""

    formats: ClassVar[Sequence[str]] = ("tensorflow-checkpoint",)

    def load(self, folder: Path, description: Description, descriptions: Sequence[Description]) -> object:  # noqa: ARG002 - the port's shape
        """A ``CheckpointReader``: ``get_variable_to_shape_map()`` and ``get_tensor(name)``.

        Raises:
            BadFormat: TensorFlow cannot read it.
            MissingDependency: TensorFlow is not installed.
        """
        tf = need("tensorflow", extra=_EXTRA, what="load a TensorFlow checkpoint")
        file = main_file(folder, description, ".index")
        try:
            return tf.train.load_checkpoint(str(file).removesuffix(".index"))
        except Exception as error:
            raise BadFormat(f"TensorFlow cannot read {file.name} ({reason(error)})", path=file.name) from error


class FrozenGraphLoader:
    """Graphs with their weights inside (``.pb``)."""

    formats: ClassVar[Sequence[str]] = ("tensorflow-graph",)

    def load(self, folder: Path, description: Description, descriptions: Sequence[Description]) -> object:  # noqa: ARG002 - the port's shape
        """A ``tf.Graph``; run it with ``tf.compat.v1.Session(graph=graph)``.

        Raises:
            Refused: an operator does more than compute (code ``unsafe-model``).
            BadFormat: TensorFlow cannot read it.
            MissingDependency: TensorFlow is not installed.
        """
        refuse_hazards(description, hint=_HINT, whole=True)
        tf = need("tensorflow", extra=_EXTRA, what="load a TensorFlow graph")
        file = main_file(folder, description)
        try:
            definition = tf.compat.v1.GraphDef.FromString(file.read_bytes())
            with tf.Graph().as_default() as graph:
                tf.graph_util.import_graph_def(definition, name="")
        except Exception as error:
            raise BadFormat(f"TensorFlow cannot read {file.name} ({reason(error)})", path=file.name) from error
        return graph


class TfliteLoader:
    """TensorFlow Lite models."""

    formats: ClassVar[Sequence[str]] = ("tflite",)

    def load(self, folder: Path, description: Description, descriptions: Sequence[Description]) -> object:  # noqa: ARG002 - the port's shape
        """An interpreter with its tensors allocated (of ``ai_edge_litert`` when installed, else of TensorFlow).

        Raises:
            Refused: it could not be read whole (code ``unsafe-model``).
            BadFormat: the interpreter cannot read it.
            MissingDependency: no interpreter is installed.
        """
        refuse_hazards(description, hint=_HINT, whole=True)
        make = _interpreter()
        file = file_of(folder, description.paths[0])
        try:
            interpreter = make(model_path=str(file))
            interpreter.allocate_tensors()
        except Exception as error:
            raise BadFormat(f"TensorFlow Lite cannot read {file.name} ({reason(error)})", path=file.name) from error
        return interpreter


def _interpreter() -> Callable[..., Any]:
    try:
        return need("ai_edge_litert.interpreter", what="load a TFLite model").Interpreter  # type: ignore[no-any-return] # untyped
    except MissingDependency:
        return need("tensorflow", extra=_EXTRA, what="load a TFLite model").lite.Interpreter  # type: ignore[no-any-return] # untyped


def _tags(v1: Any, home: Path) -> list[str]:
    """The tags of the graph to load: ``serve`` where there is one, else those of the first."""
    names = "saved_model.pb"
    definition = need("tensorflow.core.protobuf.saved_model_pb2", distribution="tensorflow", extra=_EXTRA,
                      what="load a SavedModel").SavedModel.FromString((home / names).read_bytes())  # fmt: skip
    sets = [list(graph.meta_info_def.tags) for graph in definition.meta_graphs]
    wanted = [tags for tags in sets if tags == [v1.saved_model.tag_constants.SERVING]]
    if not sets:
        raise BadFormat("the SavedModel holds no graph")
    return (wanted or sets)[0]

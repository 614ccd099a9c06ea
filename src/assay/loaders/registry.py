"""Which loaders and savers there are, and which one an artifact or a live object gets.

Plugins register a ``Loader`` or ``Saver`` (class or instance) under the entry-point groups ``assay.loaders`` and
``assay.savers``; ours come first for the formats we load. One that cannot be imported is reported by a warning and
left out.
"""

from __future__ import annotations

from functools import cache
from typing import cast

from assay.errors import InvalidInput, NotFound
from assay.loaders.adapters import DiffusersLoader, PeftLoader, PeftSaver
from assay.loaders.boosters import (
    CatBoostLoader,
    CatBoostSaver,
    LightGBMLoader,
    LightGBMSaver,
    XGBoostLoader,
    XGBoostSaver,
)
from assay.loaders.gguf import GgufLoader
from assay.loaders.keras import KerasLoader, KerasSaver
from assay.loaders.mlflow import MlflowLoader
from assay.loaders.numpy import NumpyLoader
from assay.loaders.onnx import OnnxLoader, OnnxSaver
from assay.loaders.pytorch import PyTorchLoader, PyTorchSaver, TorchExportLoader, TorchScriptLoader
from assay.loaders.safetensors import ArraysSaver, SafetensorsLoader
from assay.loaders.saved_record import class_name
from assay.loaders.sentence_transformers import SentenceTransformersLoader, SentenceTransformersSaver
from assay.loaders.sklearn import PickleLoader, ScikitLearnSaver, SkopsLoader
from assay.loaders.tensorflow import CheckpointLoader, FrozenGraphLoader, SavedModelLoader, TfliteLoader
from assay.loaders.transformers import TransformersLoader, TransformersSaver
from assay.ports.loaders import Loader, Saver
from assay.ports.plugins import plugins
from assay.spec.description import Description
from assay.spec.inspection import Inspection

LOADERS_GROUP = "assay.loaders"
SAVERS_GROUP = "assay.savers"


@cache
def all_loaders() -> tuple[Loader, ...]:
    """One instance of every loader, ours first."""
    inner: list[Loader] = [
        SentenceTransformersLoader(),
        DiffusersLoader(),
        PeftLoader(),
        TransformersLoader(),
        SafetensorsLoader(),
        PyTorchLoader(),
        TorchScriptLoader(),
        TorchExportLoader(),
        SkopsLoader(),
        PickleLoader(),
        OnnxLoader(),
        KerasLoader(),
        SavedModelLoader(),
        CheckpointLoader(),
        FrozenGraphLoader(),
        TfliteLoader(),
        XGBoostLoader(),
        LightGBMLoader(),
        CatBoostLoader(),
        NumpyLoader(),
        GgufLoader(),
    ]
    inner += [cast("Loader", found) for found in plugins(LOADERS_GROUP, Loader)]
    return (MlflowLoader(tuple(inner)), *inner)


@cache
def all_savers() -> tuple[Saver, ...]:
    """One instance of every saver, the most specific first."""
    return (
        PeftSaver(),
        SentenceTransformersSaver(),
        TransformersSaver(),
        KerasSaver(),
        XGBoostSaver(),
        LightGBMSaver(),
        CatBoostSaver(),
        *(cast("Saver", found) for found in plugins(SAVERS_GROUP, Saver)),
        PyTorchSaver(),
        ScikitLearnSaver(),
        OnnxSaver(),
        ArraysSaver(),
    )


def choose_loader(inspection: Inspection, *, part: str | None = None) -> tuple[Loader, Description]:
    """The loader for what was found: that of the leading description, or of the first one that has a loader.

    Args:
        inspection: what the artifact holds, leading description first.
        part: path of an entry; the model it belongs to is meant.

    Raises:
        NotFound: nothing that was found has a loader (code ``no-loader``), or no model has the path *part*.
        InvalidInput: there are several models of the same file format and none leads (code ``ambiguous-model``).
    """
    candidates = [
        (loader, found)
        for found in inspection.descriptions
        if part is None or part in found.paths or any(path.startswith(f"{part}/") for path in found.paths)
        for loader in all_loaders()
        if found.format in loader.formats
    ]
    if candidates:
        loader, chosen = candidates[0]
        rivals = [found for _, found in candidates if found.format == chosen.format and _beside(found, chosen)]
        if part is None and rivals:
            paths = sorted({chosen.paths[0], *(found.paths[0] for found in rivals)})
            raise InvalidInput(
                f"the artifact holds {len(paths)} {chosen.format} models: {', '.join(paths[:5])}"
                + (" …" if len(paths) > 5 else ""),
                code="ambiguous-model",
                hint=f"assay.load(..., part={chosen.paths[0]!r}) loads one of them",
            )
        return loader, chosen
    if part is not None:
        raise NotFound(f"no model here has the file {part!r:.200}", code="part-not-found")
    raise _no_loader(inspection)


def choose_saver(model: object) -> Saver:
    """The saver for a live object.

    Raises:
        InvalidInput: no saver knows it (code ``unknown-model``).
    """
    if isinstance(model, type):
        raise InvalidInput(
            f"that is the class {model.__qualname__}, not a model of it",
            code="unknown-model",
            hint=f"push the object that was trained: model = {model.__qualname__}(...).fit(...)",
        )
    for saver in all_savers():
        if saver.accepts(model):
            return saver
    raise InvalidInput(
        f"do not know how to save a {class_name(model)}",
        code="unknown-model",
        hint="save it with its framework and push the path: assay.push('./model', NAME)",
    )


def _beside(found: Description, chosen: Description) -> bool:
    """Whether two descriptions are two models: they share no file."""
    return found is not chosen and not set(found.paths) & set(chosen.paths)


def _no_loader(inspection: Inspection) -> NotFound:
    formats = ", ".join(dict.fromkeys(found.format for found in inspection.descriptions))
    what = f"no loader for {formats}" if formats else "nothing here was recognised as a model"
    return NotFound(
        what,
        code="no-loader",
        hint="assay.open reads its tensors, assay.pull gives the files",
    )

"""Gradient-boosted trees: XGBoost, LightGBM and CatBoost from and to their own files."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

from assay.errors import BadFormat, InvalidInput
from assay.loaders.frameworks import is_instance, need, reason
from assay.loaders.hazards import refuse_hazards, renamed
from assay.loaders.places import main_file
from assay.loaders.saved_record import plain, recorded_class, write_record
from assay.ports.loaders import Saved
from assay.spec.description import Description
from assay.spec.json import Json

_HINT = "the file is damaged, or newer than what is understood; its own library may read it where you trust it"
# These libraries read their files with little checking: what our own reader could not follow they do not get.
_WRAPPERS = ("XGBClassifier", "XGBRegressor", "XGBRanker", "XGBRFClassifier", "XGBRFRegressor")


class XGBoostLoader:
    """XGBoost JSON and UBJSON models."""

    formats: ClassVar[Sequence[str]] = ("xgboost",)

    def load(self, folder: Path, description: Description, descriptions: Sequence[Description]) -> object:  # noqa: ARG002 - the port's shape
        """A ``Booster``; the scikit-learn wrapper instead when a live one was pushed (``assay_model.json`` says so).

        Raises:
            Refused: it could not be read whole (code ``unsafe-model``).
            BadFormat: XGBoost cannot read it (files of its old binary layout need an older XGBoost).
            MissingDependency: XGBoost is not installed.
        """
        refuse_hazards(description, hint=_HINT, whole=True)
        xgboost = need("xgboost", extra="xgboost", what="load an XGBoost model")
        file = main_file(folder, description)
        package, _, name = (recorded_class(file.parent) or "").rpartition(".")
        wrapped = package == "xgboost.sklearn" and name in _WRAPPERS and file.name == "model.ubj"
        model = getattr(xgboost, name)() if wrapped else xgboost.Booster()
        with file.open("rb") as handle:
            head = handle.read(2)
        text = head[:1] == b"{" and (head[1:2] in b'"} \t\r\n')
        try:
            with renamed(file, ".json" if text else ".ubj") as named:
                model.load_model(str(named))
        except Exception as error:
            raise BadFormat(
                f"XGBoost {xgboost.__version__} cannot read {file.name} ({reason(error)})",
                path=file.name,
                hint="models saved by XGBoost before 1.0, or in its binary layout, need XGBoost before 3.1",
            ) from error
        return model


class XGBoostSaver:
    """Live boosters and scikit-learn wrappers."""

    framework = "xgboost"

    def accepts(self, model: object) -> bool:
        """A ``Booster`` or a wrapper."""
        return is_instance(model, "xgboost.core.Booster", "xgboost.sklearn.XGBModel")

    def save(self, model: object, folder: Path) -> Saved:
        """Write ``model.ubj``, and ``assay_model.json`` for a wrapper.

        Raises:
            InvalidInput: it is not trained (code ``unsaveable``).
        """
        live: Any = model
        try:
            live.save_model(str(folder / "model.ubj"))
        except Exception as error:
            raise InvalidInput(f"this XGBoost model cannot be saved ({reason(error)})", code="unsaveable") from error
        if is_instance(model, "xgboost.core.Booster"):
            settings: dict[str, Json] = json.loads(live.save_config()).get("learner", {}).get("learner_train_param", {})
            return Saved(("xgboost",), settings)
        settings = {key: plain(value) for key, value in live.get_params().items() if value is not None}
        settings.pop("missing", None)
        write_record(folder, framework="xgboost", model=model, hyperparameters=settings)
        return Saved(("xgboost", "sklearn"), settings)


class LightGBMLoader:
    """LightGBM text models."""

    formats: ClassVar[Sequence[str]] = ("lightgbm",)

    def load(self, folder: Path, description: Description, descriptions: Sequence[Description]) -> object:  # noqa: ARG002 - the port's shape
        """A ``Booster``.

        Raises:
            Refused: it could not be read whole (code ``unsafe-model``).
            BadFormat: LightGBM cannot read it.
            MissingDependency: LightGBM is not installed.
        """
        refuse_hazards(description, hint=_HINT, whole=True)
        lightgbm = need("lightgbm", extra="lightgbm", what="load a LightGBM model")
        file = main_file(folder, description)
        try:
            return lightgbm.Booster(model_file=str(file))
        except Exception as error:
            raise BadFormat(f"LightGBM cannot read {file.name} ({reason(error)})", path=file.name) from error


class LightGBMSaver:
    """Live boosters and scikit-learn wrappers."""

    framework = "lightgbm"

    def accepts(self, model: object) -> bool:
        """A ``Booster`` or a wrapper."""
        return is_instance(model, "lightgbm.basic.Booster", "lightgbm.sklearn.LGBMModel")

    def save(self, model: object, folder: Path) -> Saved:
        """Write ``model.txt``, and ``assay_model.json`` for a wrapper.

        Raises:
            InvalidInput: it is not trained (code ``unsaveable``).
        """
        live: Any = model
        wrapper = is_instance(model, "lightgbm.sklearn.LGBMModel")
        try:
            booster = live.booster_ if wrapper else live
            booster.save_model(str(folder / "model.txt"), num_iteration=-1)
        except Exception as error:
            raise InvalidInput(f"this LightGBM model cannot be saved ({reason(error)})", code="unsaveable") from error
        if not wrapper:
            return Saved(("lightgbm",), {key: plain(value) for key, value in live.params.items()})
        settings = {key: plain(value) for key, value in live.get_params().items() if value is not None}
        notes = ["the scikit-learn wrapper is not stored: loading gives its Booster, whose predict gives raw values"]
        classes = getattr(live, "classes_", None)
        if classes is not None:
            settings["classes_"] = plain(list(classes))
        write_record(folder, framework="lightgbm", model=model, hyperparameters=settings, notes=notes)
        return Saved(("lightgbm", "sklearn"), settings, notes)


class CatBoostLoader:
    """CatBoost ``.cbm`` models."""

    formats: ClassVar[Sequence[str]] = ("catboost",)

    def load(self, folder: Path, description: Description, descriptions: Sequence[Description]) -> object:  # noqa: ARG002 - the port's shape
        """A ``CatBoost`` model (``CatBoostClassifier`` or ``CatBoostRegressor`` where the file's loss says so).

        Raises:
            Refused: it could not be read whole (code ``unsafe-model``).
            BadFormat: CatBoost cannot read it.
            MissingDependency: CatBoost is not installed.
        """
        refuse_hazards(description, hint=_HINT, whole=True)
        catboost = need("catboost", what="load a CatBoost model")
        file = main_file(folder, description)
        try:
            model = catboost.CatBoost()
            model.load_model(str(file), format="cbm")
            loss = str(model.get_all_params().get("loss_function", ""))
            cls = _CATBOOST.get(loss.partition(":")[0])
            if cls is not None:
                model = getattr(catboost, cls)()
                model.load_model(str(file), format="cbm")
        except Exception as error:
            raise BadFormat(f"CatBoost cannot read {file.name} ({reason(error)})", path=file.name) from error
        return model


class CatBoostSaver:
    """Live CatBoost models."""

    framework = "catboost"

    def accepts(self, model: object) -> bool:
        """A ``CatBoost`` model."""
        return is_instance(model, "catboost.core.CatBoost")

    def save(self, model: object, folder: Path) -> Saved:
        """Write ``model.cbm``.

        Raises:
            InvalidInput: it is not trained (code ``unsaveable``).
        """
        live: Any = model
        try:
            live.save_model(str(folder / "model.cbm"), format="cbm")
        except Exception as error:
            raise InvalidInput(f"this CatBoost model cannot be saved ({reason(error)})", code="unsaveable") from error
        return Saved(("catboost",), {key: plain(value) for key, value in live.get_params().items()})


_CATBOOST = {
    "Logloss": "CatBoostClassifier",
    "CrossEntropy": "CatBoostClassifier",
    "MultiClass": "CatBoostClassifier",
    "MultiClassOneVsAll": "CatBoostClassifier",
    "RMSE": "CatBoostRegressor",
    "MAE": "CatBoostRegressor",
    "Quantile": "CatBoostRegressor",
    "Poisson": "CatBoostRegressor",
    "MAPE": "CatBoostRegressor",
}

"""The calls that are natural to a model: what people type to get an answer from it.

The same table serves the live model whose answers are kept with an example, and the one that was loaded from the
artifact: where loading gives something else than what was pushed (LightGBM's booster instead of its wrapper), the live
answers are asked from the part that will be loaded.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from assay.errors import InvalidInput
from assay.loaders.frameworks import imported, is_instance, need

_ARRAYS = (np.ndarray, np.generic)


@dataclass(frozen=True, slots=True)
class Call:
    """One function of a model.

    Args:
        name: ``predict``, ``predict_proba``, ``encode``, ``run``, or ``call`` for the model itself.
        run: gives the answer to inputs: a tuple is the arguments, names are keyword arguments or named inputs.
    """

    name: str
    run: Callable[[Any], Any]


def calls_of(model: object, tokenizer: Callable[[], Any] | None = None) -> tuple[Call, ...]:
    """The calls of a model, most telling first.

    Args:
        model: a live object.
        tokenizer: gives what turns text into the model's inputs, for models that take none themselves.

    Raises:
        InvalidInput: it cannot be asked anything (code ``not-callable``).
    """
    for names, table in _TABLE:
        if is_instance(model, *names):
            return table(model)
    if is_instance(model, "torch.nn.modules.module.Module"):
        return (Call("call", lambda inputs: _torch(model, inputs, tokenizer)),)
    found = [
        Call(name, _method(getattr(model, name)))
        for name in ("predict", "predict_proba")
        if callable(getattr(model, name, None))
    ]
    if not found and callable(getattr(model, "transform", None)):
        found = [Call("transform", _method(model.transform))]  # type: ignore[attr-defined] # asked one line above
    if not found and callable(model):
        found = [Call("call", _method(model))]
    if not found:
        kind = f"{type(model).__module__}.{type(model).__qualname__}".removeprefix("builtins.")
        raise InvalidInput(
            f"an example cannot be run: what is loaded is a {kind}, which gives no answers",
            code="not-callable",
            hint="a form that holds the model and not only its weights can be asked: TorchScript, ONNX, transformers",
        )
    return tuple(found)


def check_loadable(model: object) -> None:
    """Whether what will be loaded can answer as the live object does.

    Raises:
        InvalidInput: the class of the live object is not stored (code ``not-callable``).
    """
    module = is_instance(model, "torch.nn.modules.module.Module")
    stored = is_instance(
        model,
        "keras.src.models.model.Model",  # a module where Keras runs on torch
        "torch.jit._script.ScriptModule",
        "transformers.modeling_utils.PreTrainedModel",
        "sentence_transformers.SentenceTransformer.SentenceTransformer",
        "sentence_transformers.base.model.BaseModel",
        "peft.peft_model.PeftModel",
    ) or type(model).__module__.startswith("sentence_transformers.")
    if module and not stored:
        raise InvalidInput(
            f"an example of this {type(model).__name__} could not be run: its class is code and is not stored, so that "
            "loading gives its weights",
            code="not-callable",
            hint="push torch.jit.script(model), or the model as ONNX, to keep an example with it",
        )


def _method(function: Any) -> Callable[[Any], Any]:
    def run(inputs: Any) -> Any:
        if isinstance(inputs, tuple):
            return function(*inputs)
        return function(inputs)

    return run


def _torch(model: Any, inputs: Any, tokenizer: Callable[[], Any] | None) -> Any:
    """A module's answer in evaluation mode, without gradients; arrays become tensors, a tokenizer takes the text."""
    torch: Any = imported("torch")
    if isinstance(inputs, str) or (isinstance(inputs, list) and inputs and isinstance(inputs[0], str)):
        if tokenizer is None:
            raise InvalidInput(
                "the example is text, and there is no tokenizer beside the model",
                code="not-callable",
                hint="push the model together with its tokenizer: (model, tokenizer)",
            )
        inputs = dict(tokenizer()([inputs] if isinstance(inputs, str) else inputs, return_tensors="pt", padding=True))
    with _evaluating(model), torch.no_grad():
        given = _tensors(torch, inputs)
        if (
            isinstance(given, Mapping)
            and not isinstance(model, torch.jit.ScriptModule)
            and not _takes_one(model, given)
        ):
            return model(**given)
        return model(*given) if isinstance(given, tuple) else model(given)


def _takes_one(model: Any, given: Mapping[str, Any]) -> bool:
    """Whether a dictionary is one argument of the module: its names are none of ``forward``'s."""
    parameters = inspect.signature(model.forward).parameters
    anything = any(one.kind is one.VAR_KEYWORD for one in parameters.values())
    return not anything and not set(given) <= set(parameters)


@contextmanager
def _evaluating(model: Any) -> Iterator[None]:
    training = bool(model.training)
    model.eval()
    try:
        yield
    finally:
        if training:
            model.train()


def _tensors(torch: Any, value: Any) -> Any:
    if isinstance(value, _ARRAYS):
        return torch.from_numpy(np.array(value)) if np.asarray(value).dtype.kind in "biufc" else value
    if isinstance(value, Mapping):
        return {name: _tensors(torch, one) for name, one in value.items()}
    if isinstance(value, tuple):
        return tuple(_tensors(torch, one) for one in value)
    if isinstance(value, list):
        return torch.tensor(value) if _numeric(value) else [_tensors(torch, one) for one in value]
    return value


def _numeric(value: Any) -> bool:
    if isinstance(value, list):
        return bool(value) and all(_numeric(one) for one in value)
    return isinstance(value, (bool, int, float))


def _session(session: Any) -> tuple[Call, ...]:
    """ONNX Runtime: inputs by name, or in the order of the graph; outputs by name."""
    kinds = {one.name: one.type for one in session.get_inputs()}

    def run(inputs: Any) -> Any:
        given = inputs if isinstance(inputs, Mapping) else inputs if isinstance(inputs, tuple) else (inputs,)
        if not isinstance(given, Mapping):
            given = dict(zip(kinds, given, strict=False))
        fed = {name: _fitting(one, kinds.get(name, "")) for name, one in given.items()}
        names = [one.name for one in session.get_outputs()]
        return dict(zip(names, session.run(names, fed), strict=True))

    return (Call("run", run),)


_ONNX_NUMBERS = {"float": "float32", "double": "float64", "float16": "float16", "int64": "int64", "int32": "int32",
                 "bool": "bool", "uint8": "uint8", "int8": "int8"}  # fmt: skip


def _fitting(value: Any, kind: str) -> Any:
    """What was given as lists gets the type that the graph asks for; arrays stay as they are."""
    if is_instance(value, "torch.Tensor", "torch._tensor.Tensor"):
        return value.detach().cpu().numpy()
    if isinstance(value, _ARRAYS):
        return value
    inner = kind.removeprefix("tensor(").removesuffix(")")
    return np.asarray(value, dtype=_ONNX_NUMBERS.get(inner, object if inner == "string" else None))


def _proto(proto: Any) -> tuple[Call, ...]:
    runtime = need("onnxruntime", extra="onnx", what="run an example")
    return _session(runtime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"]))


def _keras(model: Any) -> tuple[Call, ...]:
    def run(inputs: Any) -> Any:
        given = list(inputs) if isinstance(inputs, tuple) else inputs
        if isinstance(given, list) and _numeric(given):
            given = np.asarray(given, dtype="float32")
        return model.predict(given, verbose=0)

    return (Call("predict", run),)


def _booster(model: Any) -> tuple[Call, ...]:
    xgboost: Any = imported("xgboost")
    return (Call("predict", lambda inputs: model.predict(xgboost.DMatrix(inputs))),)


def _lightgbm(model: Any) -> tuple[Call, ...]:
    booster = getattr(model, "booster_", model)
    return (Call("predict", booster.predict),)


def _embedder(model: Any) -> tuple[Call, ...]:
    return (Call("encode", lambda inputs: model.encode(inputs, show_progress_bar=False)),)


def _saved(model: Any) -> tuple[Call, ...]:
    """A SavedModel's ``serving_default``, else its first signature, with inputs by name."""
    tensorflow: Any = imported("tensorflow")
    signatures = model.signatures
    name = "serving_default" if "serving_default" in signatures else next(iter(signatures), None)
    if name is None:
        return (Call("call", _method(model)),)

    def run(inputs: Any) -> Any:
        function = signatures[name]
        if not isinstance(inputs, Mapping):
            wanted: Mapping[str, Any] = getattr(function, "structured_input_signature", ((), {}))[1]
            inputs = dict(zip(wanted, inputs if isinstance(inputs, tuple) else (inputs,), strict=False))
        return dict(function(**{key: tensorflow.constant(one) for key, one in inputs.items()}))

    return (Call(str(name), run),)


def _members(model: Any) -> tuple[Call, ...]:
    """A model together with what belongs to it, as a tuple, list, dictionary or pipeline."""
    parts: Sequence[Any] = (
        list(model.values())
        if isinstance(model, Mapping)
        else [model.model, model.tokenizer]
        if hasattr(model, "model")
        else list(model)
    )
    chosen = next(one for one in parts if is_instance(one, "transformers.modeling_utils.PreTrainedModel"))
    tokenizers = [
        one for one in parts if is_instance(one, "transformers.tokenization_utils_base.PreTrainedTokenizerBase")
    ]
    return calls_of(chosen, (lambda: tokenizers[0]) if tokenizers else None)


def live_calls(model: object) -> tuple[Call, ...]:
    """The calls of a live object as it is pushed; a model may come together with its tokenizer.

    Raises:
        InvalidInput: it cannot be asked anything, or what is loaded will not be (code ``not-callable``).
    """
    transformers = "transformers.modeling_utils.PreTrainedModel"
    together = isinstance(model, (tuple, list)) or is_instance(model, "transformers.pipelines.base.Pipeline")
    if together or (isinstance(model, Mapping) and any(is_instance(one, transformers) for one in model.values())):
        return _members(model)
    check_loadable(model)
    return calls_of(model)


_TABLE: tuple[tuple[tuple[str, ...], Callable[[Any], tuple[Call, ...]]], ...] = (
    (("onnxruntime.capi.onnxruntime_inference_collection.InferenceSession",), _session),
    (("onnx.onnx_ml_pb2.ModelProto", "onnx.ModelProto"), _proto),
    (("keras.src.models.model.Model",), _keras),
    (("xgboost.core.Booster",), _booster),
    (("lightgbm.basic.Booster", "lightgbm.sklearn.LGBMModel"), _lightgbm),
    (("sentence_transformers.SentenceTransformer.SentenceTransformer",), _embedder),
    (("tensorflow.python.trackable.autotrackable.AutoTrackable",), _saved),
)

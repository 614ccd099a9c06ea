"""policy.toml: everything is checked, nothing is guessed."""

from __future__ import annotations

from datetime import date

import pytest

from assay.errors import InvalidInput
from assay.policy.policy import DEFAULT, STRICT, Action, Gate, Handling
from assay.policy.reading import read_policy
from assay.spec.finding import Severity

WHOLE = """
extends = "strict"

[severity]
exhaust = "warn"

[rules]
"huggingface-auto-map" = "warn"
"secret-*" = "allow"

[gates]
push = "record"

[globals]
construct = ["team.nets.Net"]

[[exception]]
rule = "pickle-unknown-global"
digest = "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
evidence = "team.old.Thing"
author = "kim@example.org"
reason = "read by hand"
expires = 2027-01-31
"""


def test_a_policy_says_what_it_changes_and_keeps_the_rest() -> None:
    policy = read_policy(WHOLE, name="team.toml")

    assert policy.severities[Severity.EXHAUST] is Action.WARN
    assert policy.severities[Severity.EXECUTE] is Action.REFUSE
    assert policy.rules == {"huggingface-auto-map": Action.WARN, "secret-*": Action.ALLOW}
    assert policy.gates == {**STRICT.gates, Gate.PUSH: Handling.RECORD}
    assert policy.globals == {"team.nets.Net"}
    assert policy.pardons[0].expires == date(2027, 1, 31)


def test_an_empty_policy_is_the_default_and_has_its_digest() -> None:
    assert read_policy("", name="mine.toml").digest == DEFAULT.digest
    assert read_policy('extends = "strict"', name="mine.toml").digest != DEFAULT.digest


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("extends = 'lenient'", "extends 'lenient'"),
        ("[severities]", "unknown key 'severities'"),
        ("[severity]\nexecute = 'warn'", "severity execute must be refuse"),
        ("[severity]\nexecute = 'allow'", "severity execute must be refuse"),
        ("[severity]\nfatal = 'warn'", "[severity] fatal"),
        ("[severity]\nread = 'maybe'", "expected one of allow, warn, refuse"),
        ("[rules]\n'*' = 'allow'", "not the id of a rule"),
        ("[rules]\n'Pickle' = 'allow'", "not the id of a rule"),
        ("[gates]\nload = 'record'", "expected one of refuse, warn"),
        ("[gates]\nload = 'quarantine'", "expected one of refuse, warn"),
        ("[globals]\nconstruct = ['*']", "is not the full name of one class"),
        ("[globals]\nconstruct = ['os']", "is not the full name of one class"),
        ("[globals]\ncall = ['a.B']", "holds one list"),
        ("[[exception]]\nrule = 'a-b'", "needs digest"),
        (WHOLE.replace("2027-01-31", "'2027-01-31'"), "expected a day"),
        (WHOLE.replace('"pickle-unknown-global"', '"pickle-*"'), "is not the id of one rule"),
        (WHOLE.replace("sha256:aaaa", "sha256:"), "expected sha256: and 64 hex digits"),
        (WHOLE + "scope = 'all'", "unknown key 'scope'"),
        ("severity = 3", "severity is not a table"),
        ("exception = 3", "are written as [[exception]] tables"),
        ("not toml", "is not TOML"),
    ],
)
def test_what_no_policy_can_say_is_an_error(text: str, said: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        read_policy(text, name="team.toml")

    assert caught.value.code == "bad-policy"
    assert said in caught.value.message
    assert caught.value.message.startswith("policy team.toml: ")

"""Whatever is secret does not survive redaction, wherever it is put; what is harmless mostly does."""

from __future__ import annotations

import string
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assay.environment.redaction import REDACTED, is_secret_name, redact_arguments, redact_text, redact_url

PLACES = {"home": Path("/home/maria"), "user": "maria", "base": Path("/home/maria/project")}


def redact(*arguments: str) -> list[str]:
    return redact_arguments(arguments, home=PLACES["home"], user="maria", base=PLACES["base"])  # type: ignore[arg-type]


ALPHANUMERIC = string.ascii_letters + string.digits
PASSWORDS = st.text(ALPHANUMERIC + "!$%^*-_+.", min_size=6, max_size=30).filter(lambda text: not text.startswith("-"))
NAMES = st.sampled_from(
    "token hf-token hf_token api-key api_key apikey password passwd pwd secret client-secret aws_secret_access_key "
    "access-key auth-token access_token private_key credentials bearer HF_TOKEN wandb.api_key db-password jwt".split()
)


@st.composite
def tokens(draw: st.DrawFn) -> str:
    """A secret that is recognised by how it looks."""
    prefix, length = draw(
        st.sampled_from(
            [("hf_", 34), ("ghp_", 36), ("github_pat_", 40), ("glpat-", 20), ("sk-", 40), ("sk-proj-", 40), ("AKIA", 16),
             ("xoxb-", 30), ("npm_", 36), ("pypi-", 50), ("AIza", 35), ("r8_", 30)]
        )
    )  # fmt: skip
    alphabet = string.ascii_uppercase + string.digits if prefix == "AKIA" else ALPHANUMERIC
    return prefix + draw(st.text(alphabet, min_size=length, max_size=length))


@settings(max_examples=300, deadline=None)
@given(name=NAMES, secret=PASSWORDS, dashes=st.sampled_from(["--", "-", ""]), form=st.sampled_from(["=", " "]))
def test_a_value_named_like_a_secret_never_appears(name: str, secret: str, dashes: str, form: str) -> None:
    if form == "=":
        shown = redact("train.py", f"{dashes}{name}={secret}", "--epochs", "3")
    else:
        shown = redact("train.py", f"--{name}", secret, "--epochs", "3")

    assert all(secret not in argument.replace(name, "") for argument in shown)
    assert shown[-2:] == ["--epochs", "3"]


@settings(max_examples=300, deadline=None)
@given(
    secret=tokens(), around=st.sampled_from(["{}", "--x={}", "x={}&y=1", "a {} b", "({})", "run-{}", "['{}']", "x:{}"])
)
def test_a_value_that_looks_like_a_token_never_appears(secret: str, around: str) -> None:
    (shown,) = redact(around.format(secret))

    assert secret not in shown
    assert secret[8:] not in shown


@settings(max_examples=200, deadline=None)
@given(
    user=st.text(ALPHANUMERIC, min_size=3, max_size=12),
    password=st.text(ALPHANUMERIC + "!$%^*-_", min_size=6, max_size=30),
    scheme=st.sampled_from(["https", "postgresql", "s3", "mlflow+https", "redis"]),
    around=st.sampled_from(["{}", "--tracking={}", "see {} for more"]),
)
def test_the_login_in_a_url_never_appears(user: str, password: str, scheme: str, around: str) -> None:
    (shown,) = redact(around.format(f"{scheme}://{user}:{password}@example.org/a/b"))

    assert password not in shown
    assert "@" not in shown
    assert "example.org/a/b" in shown


@settings(max_examples=200, deadline=None)
@given(secret=st.text(ALPHANUMERIC, min_size=8, max_size=40))
def test_the_query_of_a_url_never_appears(secret: str) -> None:
    (shown,) = redact(f"s3://bucket/key?X-Amz-Signature={secret}&a=b#f")

    assert secret not in shown


@settings(max_examples=100, deadline=None)
@given(st.lists(st.text(max_size=60), max_size=10))
def test_any_command_line_is_redacted_to_as_many_arguments(arguments: list[str]) -> None:
    assert len(redact(*arguments)) == len(arguments)


@pytest.mark.parametrize(
    ("given_", "expected"),
    [
        ("/home/maria/project/train.py", "./train.py"),
        ("/home/maria/data/x.csv", "<path>/x.csv"),
        ("--data=/mnt/share/clients/acme/x.csv", "--data=<path>/x.csv"),
        ("C:\\Users\\maria\\x.csv", "<path>/x.csv"),
        ("owned-by-maria", "owned-by-<user>"),
    ],
)
def test_places_and_people_are_left_out(given_: str, expected: str) -> None:
    assert redact(given_) == [expected]


@pytest.mark.parametrize(
    "harmless",
    ["train.py", "--epochs=3", "--lr", "1e-4", "--tokenizer=bert-base-uncased", "--max-tokens=512", "bert-base-uncased",
     "runs/2024-01-01/model-v1-epoch10.ckpt", "--model", "meta-llama/Llama-3.1-8B-Instruct", "https://example.org/a/b",
     "--monkey", "--keyword=x"],
)  # fmt: skip
def test_what_is_harmless_stays(harmless: str) -> None:
    assert redact(harmless) == [harmless]


def test_a_bearer_header_in_an_argument_is_taken_out() -> None:
    (shown,) = redact("-HAuthorization: Bearer abcdef123456")

    assert "abcdef123456" not in shown


def test_a_private_key_in_an_argument_is_taken_out() -> None:
    assert redact("-----BEGIN RSA PRIVATE KEY-----\nMIIabc\n-----END") == [REDACTED]


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://joe:pw@example.org/a/b.git", "https://example.org/a/b.git"),
        ("git@example.org:team/repo.git", "example.org:team/repo.git"),
        ("https://ghp_abcdefghijklmnop@github.com/a/b", "https://github.com/a/b"),
        ("/srv/git/project.git", "project.git"),
        ("file:///home/joe/x.git", REDACTED),
    ],
)
def test_a_remote_loses_its_login_and_its_place(url: str, expected: str) -> None:
    assert redact_url(url) == expected


def test_names_are_judged_by_their_words() -> None:
    assert all(map(is_secret_name, ["token", "HF_TOKEN", "hfToken", "my.api_key", "db-password", "key"]))
    assert not any(map(is_secret_name, ["tokenizer", "max_new_tokens", "monkey", "epochs", "author", "pin_memory"]))


def test_text_keeps_its_words() -> None:
    assert redact_text("trained on cats and dogs", home=Path("/h"), user="maria", base=Path("/b")) == (
        "trained on cats and dogs"
    )

"""Opening a bucket that cannot be reached."""

from __future__ import annotations

import pytest
from bucket_builders import QUICK

from assay.blobs.bucket.opening import open_bucket
from assay.errors import InvalidInput, StorageError

KEYS = {"AWS_ACCESS_KEY_ID": "somebody", "AWS_SECRET_ACCESS_KEY": "secret-words", "AWS_REGION": "us-east-1"}


def test_a_server_that_is_not_there_is_told_of_the_bucket_as_a_whole_and_without_secrets() -> None:
    with pytest.raises(StorageError) as caught:
        open_bucket("s3://models/team", options=QUICK, environ={**KEYS, "AWS_ENDPOINT_URL": "http://127.0.0.1:9"})

    assert caught.value.message == "cannot look in s3://models/team: no answer"
    assert caught.value.code == "bucket-unreachable"
    assert "secret-words" not in str(caught.value.to_json())


@pytest.mark.parametrize(("silent", "heard"), [(0.0, 1), (60.0, 0)])
def test_who_waits_for_a_bucket_hears_it_once_and_not_when_it_is_soon_over(
    silent: float, heard: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("assay.blobs.bucket.objects._SILENT", silent)

    with pytest.raises(StorageError):
        open_bucket("s3://models/team", options=QUICK, environ={**KEYS, "AWS_ENDPOINT_URL": "http://127.0.0.1:9"})

    said = [record.getMessage() for record in caplog.records if record.name.startswith("assay")]
    assert said == ["s3://models/team: no answer; trying again, for a while"] * heard


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"AWS_ENDPOINT_URL": "localhost:9000"}, "localhost:9000"),
        ({"AWS_ENDPOINT_URL": "http://[::1"}, "http://[::1"),
        ({"AWS_ENDPOINT_URL": "https://exa mple"}, "exa mple"),
        ({"AWS_ENDPOINT_URL": "http://127.0.0.1:99999"}, "99999"),
        ({"AWS_ENDPOINT_URL": "https://"}, "https://"),
        ({"AWS_ENDPOINT_URL": "ftp://me:secret-words@host name"}, "host name"),
        ({"AWS_REGION": "us east"}, "region"),
        ({"AWS_ACCESS_KEY_ID": "some\nbody"}, "access_key_id"),
        ({"AWS_SECRET_ACCESS_KEY": "secret-words \u00e9"}, "secret_access_key"),
    ],
)
def test_settings_at_which_the_client_library_would_panic_are_told_without_secrets(
    settings: dict[str, str], said: str
) -> None:
    with pytest.raises(InvalidInput) as caught:
        open_bucket("s3://models/team", options=QUICK, environ={**KEYS, "HOME": "/nowhere", **settings})

    assert caught.value.code == "bad-settings"
    assert said in caught.value.message
    assert "secret-words" not in str(caught.value.to_json())

"""Opening a bucket that cannot be reached."""

from __future__ import annotations

import pytest
from bucket_builders import QUICK

from assay.blobs.bucket.opening import open_bucket
from assay.errors import StorageError

KEYS = {"AWS_ACCESS_KEY_ID": "somebody", "AWS_SECRET_ACCESS_KEY": "secret-words", "AWS_REGION": "us-east-1"}


def test_a_server_that_is_not_there_is_told_of_the_bucket_as_a_whole_and_without_secrets() -> None:
    with pytest.raises(StorageError) as caught:
        open_bucket("s3://models/team", options=QUICK, environ={**KEYS, "AWS_ENDPOINT_URL": "http://127.0.0.1:9"})

    assert caught.value.message == "cannot look in s3://models/team: no answer"
    assert caught.value.code == "bucket-unreachable"
    assert "secret-words" not in str(caught.value.to_json())

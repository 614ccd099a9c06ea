"""Where a registry is: folders, buckets, and the database that keeps a bucket's names."""

from __future__ import annotations

from pathlib import Path

import pytest

from assay.errors import InvalidInput
from assay.settings import Settings, read_settings


def settings_of(place: str | None = None, folder: Path = Path("/"), **environment: str) -> Settings:
    return read_settings(home=place, environ={"ASSAY_STATE": "/state", **environment}, folder=folder)


@pytest.mark.parametrize(
    ("text", "bucket"),
    [
        ("s3://models", "s3://models"),
        ("s3://models/", "s3://models"),
        ("s3://models/fraud/v1/", "s3://models/fraud/v1"),
        ("file:///srv/bucket", "file:///srv/bucket"),
    ],
)
def test_a_bucket_is_named_in_one_way_and_has_a_local_folder_of_its_own(text: str, bucket: str) -> None:
    found = settings_of(text)
    assert (found.bucket, found.place) == (bucket, bucket)
    assert found.home.parent == Path("/state")
    assert found.home == settings_of(bucket).home != settings_of("s3://other").home


def test_the_same_bucket_of_another_server_has_another_folder() -> None:
    here = settings_of("s3://models")
    assert settings_of("s3://models", AWS_ENDPOINT_URL="http://localhost:1").home != here.home
    there = settings_of("s3://models", AWS_ENDPOINT_URL="http://localhost:1")
    assert settings_of("s3://models", AWS_ENDPOINT_URL_S3="http://localhost:1/").home == there.home


def test_names_that_look_alike_as_folders_are_told_apart() -> None:
    assert settings_of("s3://a/b-c").home != settings_of("s3://a/b/c").home


def test_a_bucket_may_be_named_by_each_setting(tmp_path: Path) -> None:
    assert settings_of(ASSAY_REGISTRY="s3://models").bucket == "s3://models"
    assert settings_of(ASSAY_HOME="s3://models").bucket == "s3://models"
    (tmp_path / "assay.toml").write_text("home = 's3://models/team'\n")
    assert settings_of(folder=tmp_path).bucket == "s3://models/team"
    (tmp_path / "assay.toml").write_text("home = 'models'\n")
    assert settings_of(folder=tmp_path).home == tmp_path / "models"


@pytest.mark.parametrize(
    "text",
    [
        "s3://",
        "s3:///x",
        "s3://b//x",
        "s3://b/../x",
        "s3://b/x?y=1",
        "s3://b/x#y",
        "file://",
        "file://host/x",
        "s3://[",
    ],
)
def test_what_is_no_bucket_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        settings_of(text)
    assert caught.value.code == "bad-address"


@pytest.mark.parametrize("text", ["s3:/models", "S3:/models/x", "file:/srv/models"])
def test_a_bucket_with_one_slash_too_few_is_not_taken_for_a_folder(text: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        settings_of(text)
    assert caught.value.code == "bad-address"
    assert settings_of("s3").bucket is None


def test_keys_in_a_url_are_refused_and_not_repeated() -> None:
    with pytest.raises(InvalidInput) as caught:
        settings_of("s3://key:secret@models/x")
    assert caught.value.code == "bad-address"
    assert "secret" not in caught.value.message


def test_other_schemes_are_not_supported_yet() -> None:
    with pytest.raises(InvalidInput) as caught:
        settings_of("gs://models")
    assert caught.value.code == "remote-not-supported"


def test_a_database_goes_with_a_bucket_and_its_url_is_never_shown() -> None:
    url = "postgresql://assay:secret@db/models"
    found = settings_of("s3://models", ASSAY_CATALOG=url)
    assert found.catalog == url
    assert "secret" not in repr(found)
    assert found.at("s3://other").catalog == url
    with pytest.raises(InvalidInput) as caught:
        settings_of(ASSAY_HOME="/srv/home", ASSAY_CATALOG=url)
    assert caught.value.code == "bad-catalog"
    assert settings_of("/srv/home", ASSAY_CATALOG=url).bucket is None  # named just now, so it is meant


@pytest.mark.parametrize("url", ["mysql://assay:secret@db/models", "assay:secret@db", "secret"])
def test_other_databases_are_refused_without_repeating_what_may_be_a_password(url: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        settings_of("s3://models", ASSAY_CATALOG=url)
    assert caught.value.code == "bad-catalog"
    assert "secret" not in f"{caught.value.message} {caught.value.hint}"


def test_a_project_file_cannot_name_a_database(tmp_path: Path) -> None:
    (tmp_path / "assay.toml").write_text("catalog = 'postgresql://elsewhere/x'\n")
    with pytest.raises(InvalidInput) as caught:
        settings_of("s3://models", folder=tmp_path)
    assert caught.value.code == "bad-settings"


def test_a_user_s_file_can(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    (tmp_path / "assay").mkdir()
    (tmp_path / "assay/config.toml").write_text("home = 's3://models'\ncatalog = 'postgresql://db/x'\n")
    assert settings_of(folder=tmp_path).catalog == "postgresql://db/x"

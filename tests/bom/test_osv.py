"""Known vulnerabilities are looked up in an OSV export, by PEP 440, without a network."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from packaging.specifiers import SpecifierSet
from packaging.version import Version

from assay.bom.osv import affects, check
from assay.errors import BadFormat, InvalidInput, NotFound


def record(name: str = "PYSEC-1", package: str = "numpy", ecosystem: str = "PyPI", **fields) -> dict:
    affected = {"package": {"ecosystem": ecosystem, "name": package}, "ranges": fields.pop("ranges", []), **fields}
    return {
        "id": name,
        "affected": [{key: value for key, value in affected.items() if key != "top"}],
        **fields.get("top", {}),
    }


def span(*events: tuple[str, str], kind: str = "ECOSYSTEM") -> dict:
    return {"type": kind, "events": [{name: at} for name, at in events]}


def export(folder: Path, *records: dict | str) -> Path:
    folder.mkdir(exist_ok=True)
    for number, one in enumerate(records):
        (folder / f"{number}.json").write_text(one if isinstance(one, str) else json.dumps(one))
    return folder


FIXED = [span(("introduced", "0"), ("fixed", "1.22.0"))]


def test_a_version_below_the_fix_is_found_and_the_fix_is_named(tmp_path: Path) -> None:
    top = {"aliases": ["CVE-2021-1"], "summary": "Overflow\nin numpy", "database_specific": {"severity": "HIGH"}}
    found = check({"NumPy": "1.21.0"}, export(tmp_path / "osv", record(ranges=FIXED, top=top)))

    (one,) = found.vulnerabilities
    assert one.to_json() == {
        "id": "PYSEC-1", "aliases": ["CVE-2021-1"], "package": "numpy", "version": "1.21.0", "severity": "high",
        "fixed": ["1.22.0"], "summary": "Overflow in numpy",
    }  # fmt: skip
    assert (found.undecided, found.distributions, found.records) == ((), 1, 1)


@pytest.mark.parametrize("version", ["1.22.0", "1.22.0.post1", "1.26.4", "2.0rc1"])
def test_a_fixed_version_is_not_found(version: str, tmp_path: Path) -> None:
    assert check({"numpy": version}, export(tmp_path / "osv", record(ranges=FIXED))).vulnerabilities == ()


def test_a_release_candidate_of_the_fix_is_before_it(tmp_path: Path) -> None:
    assert check({"numpy": "1.22.0rc1"}, export(tmp_path / "osv", record(ranges=FIXED))).vulnerabilities


def test_withdrawn_records_other_ecosystems_and_other_packages_are_passed_over(tmp_path: Path) -> None:
    osv = export(
        tmp_path / "osv",
        record("A", ranges=FIXED, top={"withdrawn": "2024-01-01T00:00:00Z"}),
        record("B", ranges=FIXED, ecosystem="npm"),
        record("C", package="numpydoc", ranges=FIXED),
    )
    found = check({"numpy": "1.0"}, osv)

    assert (found.vulnerabilities, found.records) == ((), 2)


def test_a_listed_version_is_found_however_it_is_written(tmp_path: Path) -> None:
    osv = export(tmp_path / "osv", record(versions=["1.0", "not.a.version"]))

    assert check({"numpy": "1.0.0"}, osv).vulnerabilities
    assert not check({"numpy": "1.0.1"}, osv).vulnerabilities


def test_ranges_of_commits_say_nothing_about_releases(tmp_path: Path) -> None:
    osv = export(tmp_path / "osv", record(ranges=[span(("introduced", "0"), kind="GIT")], versions=["1.0"]))

    assert check({"numpy": "2.0"}, osv).vulnerabilities == ()


def test_what_cannot_be_compared_is_undecided_and_never_no(tmp_path: Path) -> None:
    osv = export(tmp_path / "osv", record(ranges=[span(("introduced", "0"), ("fixed", "r12-beta!"))]), '{"id": "PyPI",')
    found = check({"numpy": "1.0"}, osv)

    assert found.vulnerabilities == ()
    assert len(found.undecided) == 2
    osv = export(tmp_path / "osv", record(ranges=FIXED), '{"id": 1, "x": "PyPI"}')
    assert check({"numpy": "built-here"}, osv).undecided == (
        "1.json: not readable as an OSV record",
        "PYSEC-1: its ranges cannot be compared with numpy built-here",
    )


def test_records_of_several_databases_about_one_flaw_are_one(tmp_path: Path) -> None:
    osv = export(
        tmp_path / "osv",
        record("GHSA-a", ranges=FIXED, top={"aliases": ["CVE-1"], "database_specific": {"severity": "LOW"}}),
        record("PYSEC-9", ranges=[span(("introduced", "0"), ("fixed", "1.23"))], top={"aliases": ["CVE-1"]}),
        record("PYSEC-10", ranges=FIXED),
    )
    first, second = check({"numpy": "1.0"}, osv).vulnerabilities

    assert (first.id, first.aliases, first.fixed, first.severity) == (
        "GHSA-a", ("CVE-1", "PYSEC-9"), ("1.22.0", "1.23"), "low",
    )  # fmt: skip
    assert second.id == "PYSEC-10"


def test_a_zip_archive_is_read_like_the_folder(tmp_path: Path) -> None:
    osv = export(tmp_path / "osv", record(ranges=FIXED), record("B", package="torch", versions=["2.0"]))
    with zipfile.ZipFile(tmp_path / "all.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for file in osv.iterdir():
            archive.write(file, file.name)
    looked_up = {"numpy": "1.0", "torch": "2.0"}

    assert check(looked_up, tmp_path / "all.zip") == check(looked_up, osv)


def test_an_export_without_records_about_python_is_no_answer(tmp_path: Path) -> None:
    for osv in (export(tmp_path / "empty"), export(tmp_path / "npm", record(ecosystem="npm", ranges=FIXED))):
        with pytest.raises(InvalidInput) as caught:
            check({"numpy": "1.0"}, osv)
        assert caught.value.code == "no-osv-records"


def test_a_missing_or_damaged_export_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        check({}, tmp_path / "nowhere")
    (tmp_path / "all.zip").write_bytes(b"PK\x03\x04 not really")
    with pytest.raises(BadFormat):
        check({}, tmp_path / "all.zip")


def test_a_record_whose_bytes_are_damaged_in_the_archive_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "all.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.json", json.dumps(record(ranges=FIXED)))
    path.write_bytes(path.read_bytes().replace(b"numpy", b"nunpy", 1))

    with pytest.raises(BadFormat):
        check({"numpy": "1.0"}, path)


releases = st.builds(
    lambda numbers, suffix: ".".join(map(str, numbers)) + suffix,
    st.lists(st.integers(1, 3), min_size=1, max_size=3),  # an introduction at "0" means everything
    st.sampled_from(["", "", "", "a1", "rc1", ".post1", ".dev2"]),
)


@given(releases, releases, st.sampled_from(["fixed", "last_affected"]), releases)
def test_a_range_means_what_packaging_says(start: str, end: str, kind: str, version: str) -> None:
    entry = {"ranges": [span(("introduced", start), (kind, end))]}
    low, high, at = Version(start), Version(end), Version(version)
    above = at <= high if kind == "last_affected" else at < high

    assert affects(entry, version) is (at >= low if low > high else low <= at and above)


@given(st.lists(releases, min_size=1, max_size=6, unique_by=Version), releases)
def test_alternating_events_are_a_union_of_half_open_ranges(bounds: list[str], version: str) -> None:
    bounds = sorted(bounds, key=Version)
    events = [("fixed" if number % 2 else "introduced", bound) for number, bound in enumerate(bounds)]
    pairs = [bounds[at : at + 2] for at in range(0, len(bounds), 2)]
    inside = any(
        Version(pair[0]) <= Version(version) and (len(pair) == 1 or Version(version) < Version(pair[1]))
        for pair in pairs
    )

    assert affects({"ranges": [span(*reversed(events))]}, version) is inside


@given(st.lists(st.integers(0, 9), min_size=1, max_size=3), st.lists(st.integers(0, 9), min_size=1, max_size=3))
def test_final_releases_agree_with_specifiers(fixed: list[int], release: list[int]) -> None:
    bound, version = (".".join(map(str, numbers)) for numbers in (fixed, release))

    assert affects({"ranges": [span(("introduced", "0"), ("fixed", bound))]}, version) is (
        version in SpecifierSet(f"<{bound}")
    )


@given(
    st.recursive(
        st.none() | st.integers() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["package", "ranges", "events", "versions", "type", "introduced", "fixed"]),
                inner,
                max_size=4,
            )
        ),
        max_leaves=20,
    )
)
def test_no_record_makes_it_fail(tmp_path_factory: pytest.TempPathFactory, value: object) -> None:
    folder = tmp_path_factory.mktemp("osv")
    one = {"id": "X", "affected": value, "severity": value, "aliases": value, "database_specific": value, "m": "PyPI"}
    broken = {"package": {"ecosystem": "PyPI", "name": "numpy"}, "ranges": value, "versions": value}

    found = check({"numpy": "1.0"}, export(folder, record(ranges=FIXED), one, {"id": "Y", "affected": [broken]}))

    assert found.records >= 1

"""Licences are read from licence files, and metadata that contradicts them is found out."""

from __future__ import annotations

from importlib.metadata import distributions
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assay.bom.licence_names import LISTED, RULES, canonical_names, expression, family
from assay.bom.licences import MAX_FILES, NON_COMMERCIAL, identify, read_licences
from assay.trees import Tree

MIT = """MIT License

Copyright (c) 2020 Somebody

Permission is hereby granted, free of charge, to any person obtaining a copy
of this software … The above copyright notice and this permission notice shall be included in all
copies or substantial portions of the Software.
"""
APACHE = "Licensed under the Apache License, Version 2.0 (the License); you may not use this file except in compliance"
ACADEMIC = (
    "ACME Model Licence\n\nYou may use the weights for academic and non-commercial purposes.\nFor research use only."
)
CARD = "---\nlicense: {}\n---\n# A model\n"


def licences(files: dict[str, str], inspection: dict | None = None):
    return read_licences(Tree.of({path: text.encode() for path, text in files.items()}), inspection or {})


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_a_text_with_the_phrases_of_a_licence_is_that_licence(rule) -> None:
    text = "\n".join(phrase.strip().replace("plusplus", "++").upper() for phrase in rule.phrases)

    assert rule.name in identify(text)
    assert identify(text[: len(text) // 3]) == ()


def test_the_licence_files_of_installed_distributions_are_what_their_metadata_says() -> None:
    agreed, other = 0, []
    for found in distributions():
        stated = canonical_names(found.metadata.get("License-Expression") or "")
        files = [file for file in found.files or () if ".dist-info" in str(file) and "LICEN" in file.name.upper()]
        texts = [Path(found.locate_file(file)) for file in files]
        read = {
            family(name) for path in texts if path.is_file() for name in identify(path.read_text("utf-8", "replace"))
        }
        if len(stated) != 1 or not texts:
            continue
        agreed += family(stated[0]) in read
        other += [] if family(stated[0]) in read else [f"{found.metadata['Name']}: {stated[0]}, read {sorted(read)}"]

    assert agreed >= 20
    assert other == []


def test_metadata_that_says_apache_beside_an_academic_licence_is_a_conflict() -> None:
    read = licences({"README.md": CARD.format("apache-2.0"), "LICENSE": ACADEMIC, "model.bin": "x"})

    assert [conflict.message for conflict in read.conflicts] == [
        f"README.md says apache-2.0, but LICENSE is {NON_COMMERCIAL}"
    ]
    assert read.identifiers(text=False) == ("Apache-2.0",)
    assert read.identifiers(text=True) == (NON_COMMERCIAL,)


def test_metadata_that_says_what_the_file_is_is_no_conflict() -> None:
    read = licences({"README.md": CARD.format("mit"), "LICENSE.txt": MIT})

    assert read.conflicts == ()
    assert read.identifiers(text=True) == read.identifiers(text=False) == ("MIT",)


def test_a_rider_beside_a_permissive_text_is_a_conflict_with_metadata_that_hides_it() -> None:
    read = licences({"README.md": CARD.format("mit"), "LICENSE": f"{MIT}\nCommercial use is not permitted."})

    assert len(read.conflicts) == 1
    assert read.identifiers(text=True) == ("MIT", NON_COMMERCIAL)


def test_another_version_of_the_same_licence_is_a_conflict_and_a_wider_grant_is_not() -> None:
    gpl3 = "GNU GENERAL PUBLIC LICENSE\nVersion 3, 29 June 2007"

    assert licences({"README.md": CARD.format("gpl-2.0"), "LICENSE": gpl3}).conflicts
    assert not licences({"README.md": CARD.format("GPL-3.0-or-later"), "COPYING": gpl3}).conflicts


def test_two_licence_files_offer_what_either_says() -> None:
    files = {"README.md": CARD.format("MIT OR Apache-2.0"), "LICENSE-MIT": MIT, "LICENSE.APACHE": APACHE}
    read = licences(files)

    assert read.conflicts == ()
    assert set(read.identifiers(text=True)) == {"MIT", "Apache-2.0"}


@pytest.mark.parametrize("path", ["NOTICE", "third_party/zlib/LICENSE", "LICENSES/GPL.txt", "THIRD_PARTY_NOTICES.txt"])
def test_licences_of_others_do_not_speak_for_the_model(path: str) -> None:
    read = licences(
        {"README.md": CARD.format("apache-2.0"), path: "GNU GENERAL PUBLIC LICENSE Version 3, 29 June 2007"}
    )

    assert read.conflicts == ()
    assert read.identifiers(text=True) == ()


def test_what_a_format_read_in_a_file_counts_once_beside_its_card() -> None:
    inspection = {"models": [{"paths": ["README.md", "config.json"], "licenses": ["apache-2.0"]}]}

    assert len(licences({"README.md": CARD.format("apache-2.0")}, inspection).claims) == 1
    assert licences({"m.gguf": "x"}, {"models": [{"paths": ["m.gguf"], "licenses": ["llama3.1"]}]}).identifiers(
        text=False
    ) == ("LicenseRef-Llama-3.1",)


def test_the_manifest_of_a_folder_is_named_and_not_the_licence_file_beside_it() -> None:
    inspection = {"models": [{"paths": ["p/LICENSE", "p/accuracy.json", "p/meta.json"], "licenses": ["MIT"]}]}
    read = licences({"p/LICENSE": APACHE, "p/meta.json": "{}"}, inspection)

    assert [conflict.message for conflict in read.conflicts] == ["p/meta.json says MIT, but p/LICENSE is Apache-2.0"]


def test_a_name_that_nobody_knows_is_kept_as_it_is_stated_and_has_no_identifier() -> None:
    (claim,) = licences({"README.md": "---\nlicense: other\nlicense_name: our-own\n---\n"}).claims

    assert (claim.stated, claim.identifiers) == ("our-own", ())


def test_an_expression_keeps_its_choice() -> None:
    assert expression("(mit or Apache-2.0) AND cc-by-4.0") == "(MIT OR Apache-2.0) AND CC-BY-4.0"
    assert expression("mit or ours") is None


def test_names_are_those_of_the_spdx_list(spdx_names: frozenset[str]) -> None:
    assert LISTED - spdx_names == set()


def test_a_thousand_licence_files_cost_no_more_than_some() -> None:
    assert len(licences({f"LICENSE.{number}": MIT for number in range(1000)}).claims) == MAX_FILES


@given(st.dictionaries(st.sampled_from(["LICENSE", "README.md", "METADATA", "a/COPYING.txt"]), st.binary(max_size=400)))
def test_no_bytes_make_it_fail(files: dict[str, bytes]) -> None:
    read = read_licences(Tree.of(files), {"models": [{"licenses": ["x" * 100], "paths": []}]})

    assert all(len(claim.stated) <= 200 for claim in read.claims)

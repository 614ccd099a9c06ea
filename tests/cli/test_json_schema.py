"""The JSON that programs rely on: its fields are pinned here and documented in docs/reference/json.md."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest
import torch

from assay.cli.main import invoke
from assay.service.materials import attach
from assay.settings import Settings
from assay.wiring.places import open_registry

TEXT, NUMBER, FLAG, LIST, OBJECT = ({"type": kind} for kind in ("string", "integer", "boolean", "array", "object"))


def exactly(optional: tuple[str, ...] = (), **fields: dict) -> dict:
    return {
        "type": "object",
        "properties": fields,
        "required": [name for name in fields if name not in optional],
        "additionalProperties": False,
    }


def items(schema: dict) -> dict:
    return {"type": "array", "items": schema, "minItems": 1}


DIGEST = {"type": "string", "pattern": "^sha256:[0-9a-f]{64}$"}
TIME = {"type": "string", "pattern": r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$"}
VERSION = dict(
    reference=TEXT, name=TEXT, version=NUMBER, digest=DIGEST, size=NUMBER, file_count=NUMBER, created=TIME, actor=TEXT,
    aliases=LIST,
)  # fmt: skip
FILE = exactly(("packed",), path=TEXT, digest=DIGEST, size=NUMBER, packed=FLAG)
STATEMENT = exactly(kind=TEXT, predicate_type=TEXT, created=TIME, predicate=OBJECT)
DESCRIPTION = exactly(schema=NUMBER, summary=OBJECT, models=LIST, unknown=LIST, findings=LIST)
VERIFIED = exactly(
    reference=TEXT,
    digest=DIGEST,
    ok=FLAG,
    blobs=NUMBER,
    bytes=NUMBER,
    bad=LIST,
    set_aside=LIST,
    copies=LIST,
    signatures=LIST,
    problems=LIST,
)
POLICIES = items(exactly(name=TEXT, digest=DIGEST))
DECISION = exactly(verdict={"enum": ["safe", "unsafe", "unverified"]}, summary=TEXT, policies=POLICIES)
FINDING = exactly(
    ("path", "offset", "evidence", "effect", "because"),
    rule=TEXT, severity=TEXT, message=TEXT, path=TEXT, offset=NUMBER, evidence=TEXT, effect=TEXT, because=TEXT,
)  # fmt: skip
FINDINGS = {"type": "array", "items": FINDING}
SCANNED = exactly(
    ("digest",), target=TEXT, digest=DIGEST, verdict=TEXT, summary=TEXT, policies=POLICIES, refused=FINDINGS, warned=FINDINGS,
    report=exactly(
        ("left_out",), schema=NUMBER, ruleset=TEXT, complete=FLAG, formats=LIST, files=NUMBER, size=NUMBER,
        findings=FINDINGS, left_out=NUMBER,
    ),
)  # fmt: skip
SIGNATURE = exactly(standing=TEXT, reason=TEXT, signature=DIGEST, covers=TEXT, signer=TEXT, key=DIGEST, identity=TEXT)
SIGNED = dict(reference=TEXT, signatures=items(DIGEST), added=NUMBER, key=DIGEST, identity=TEXT)
CLAIM = exactly(path=TEXT, stated=TEXT, identifiers=LIST, text=FLAG, third_party=FLAG)
BILL = exactly(
    reference=TEXT, digest=DIGEST, format=TEXT, licences=items(CLAIM), document=OBJECT,
    conflicts=items(exactly(metadata=CLAIM, file=CLAIM, message=TEXT)), output={"type": ["string", "null"]},
    attached={"type": ["boolean", "null"]},
)  # fmt: skip
VULNERABILITY = exactly(
    id=TEXT, aliases=LIST, package=TEXT, version=TEXT, severity=TEXT, fixed=LIST, summary=TEXT
)  # fmt: skip
SCHEMAS = {
    "push ./model m --alias a --json": exactly(
        reference=TEXT, name=TEXT, version=NUMBER, digest=DIGEST, new=FLAG, size=NUMBER, files=NUMBER, created=TIME,
        alias={"type": ["string", "null"]}, statements=LIST, summary=OBJECT, findings=LIST, audit=DECISION,
    ),
    "pull m out --json": exactly(
        reference=TEXT, digest=DIGEST, folder=TEXT, files=NUMBER, size=NUMBER, resumed=NUMBER, linked=FLAG
    ),
    "ls --json": items(exactly(name=TEXT, versions=NUMBER, latest=exactly(**VERSION), aliases=OBJECT)),
    "ls m --json": exactly(name=TEXT, versions=items(exactly(("metrics",), **VERSION, summary=OBJECT, metrics=OBJECT))),
    "show m --json": exactly(**VERSION, files=items(FILE), description=DESCRIPTION, audit=OBJECT, statements=items(STATEMENT)),
    "history m --json": items(exactly(sequence=NUMBER, kind=TEXT, name=TEXT, at=TIME, actor=TEXT, data=OBJECT)),
    "inspect ./model --json": DESCRIPTION,
    "scan ./model --json": SCANNED,
    "scan m --json": SCANNED,
    "scan m ./nowhere --json": exactly(results=LIST),
    "verify m --json": VERIFIED,
    "key ./release --json": exactly(private=TEXT, public=TEXT),
    "sign m --key ./release --json": exactly(**SIGNED, digest=DIGEST),
    "sign ./model --key ./release --out ./model.sig --json": exactly(**SIGNED, digest={"type": "null"}),
    "verify m --key ./release.pub --json": exactly(
        **{**VERIFIED["properties"], "signatures": items(SIGNATURE)}
    ),
    "verify ./model --signature ./model.sig --key ./release.pub --json": exactly(
        reference=TEXT, ok=FLAG, signatures=items(SIGNATURE), problems=LIST
    ),
    "bom m --json": BILL,
    "bom ./model --format slsa --json": BILL,
    "vulns m --osv ./osv --json": exactly(
        reference=TEXT, digest=DIGEST, distributions=NUMBER, records=NUMBER, vulnerabilities=items(VULNERABILITY),
        undecided=LIST,
    ),
    "verify --all --json": items(VERIFIED),
    "convert ./weights.pt converted --to safetensors --json": exactly(
        folder=TEXT, reference={"type": "null"}, digest={"type": "null"}, kept=LIST,
        steps=items(exactly(
            **{"from": TEXT}, to=TEXT, sources=OBJECT, results=OBJECT, proof=OBJECT, isolation={"type": "null"},
            dropped=LIST, notes=LIST,
        )),
    ),
    "copy m oci:./layout --json": exactly(
        destination=TEXT, digest=DIGEST, moved=NUMBER, skipped=NUMBER, resumed=NUMBER, shared=NUMBER, saved=NUMBER,
        verified=NUMBER, plain=NUMBER, seconds={"type": "number"}, rate=NUMBER, statements=NUMBER,
    ),
    "copy m oci:./layout --dry-run --json": exactly(
        destination=TEXT, dry_run={"const": True}, blobs=NUMBER, moved=NUMBER, travels=NUMBER, blobs_there=NUMBER,
        skipped=NUMBER,
    ),
    "copy m home:./other --json": exactly(
        destination=TEXT, moved=NUMBER, skipped=NUMBER, resumed=NUMBER, shared=NUMBER, saved=NUMBER, verified=NUMBER,
        plain=NUMBER, seconds={"type": "number"}, rate=NUMBER, aliases=LIST,
        versions=items(exactly(
            source=TEXT, reference=TEXT, digest=DIGEST, new={"type": "boolean"}, statements=NUMBER,
        )),
    ),
    "reindex --json": exactly(events=NUMBER, took_over=FLAG),
    "purge m --reason r --yes --json": exactly(
        versions=LIST, digest=DIGEST, removed=LIST, freed=NUMBER, shared=OBJECT, copies=LIST, spared=LIST
    ),
    "ls m --limit 1 --json": exactly(name=TEXT, versions=items(exactly(**VERSION, purged=TEXT))),
    "pull nowhere --json": exactly(error=exactly(("hint", "details"), code=TEXT, message=TEXT, hint=TEXT, details=OBJECT)),
}  # fmt: skip


@pytest.fixture(scope="module")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    """Every command of the list, run in that order in one home."""
    folder = tmp_path_factory.mktemp("json")
    (folder / "model").mkdir()
    torch.save({"w": torch.ones(2)}, folder / "weights.pt")
    (folder / "model/config.json").write_text('{"model_type": "bert"}')
    (folder / "model/README.md").write_text("---\nlicense: mit\n---\n")
    (folder / "model/LICENSE").write_text("Licensed under the Apache License, Version 2.0")
    (folder / "osv").mkdir()
    affected = [{"package": {"ecosystem": "PyPI", "name": "numpy"}, "versions": ["1.0"]}]
    (folder / "osv/1.json").write_text(json.dumps({"id": "PYSEC-1", "affected": affected}))
    patch = pytest.MonkeyPatch()
    patch.setenv("ASSAY_HOME", str(folder / "home"))
    patch.chdir(folder)
    found = {}
    try:
        invoke("push ./model m --metric auc=0.5 --note hello".split())
        registry = open_registry(Settings(folder / "home", "tester"))
        made_with = {"schema": 1, "distributions": {"numpy": "1.0"}}
        attach(registry, registry.catalog.versions("m")[0], "https://assay.dev/statement/environment/v1", made_with)
        for line in SCHEMAS:
            found[line] = _captured(line.split())
    finally:
        patch.undo()
    return found


def _captured(arguments: list[str]) -> object:
    import contextlib
    import io

    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        invoke(arguments)
    return json.loads(out.getvalue())


@pytest.mark.parametrize("line", SCHEMAS)
def test_the_fields_are_exactly_those_that_are_documented(line: str, outputs: dict[str, object]) -> None:
    jsonschema.validate(outputs[line], SCHEMAS[line])


def test_every_pinned_field_is_named_in_the_documentation() -> None:
    page = (Path(__file__).parents[2] / "docs/reference/json.md").read_text()

    def names(schema: dict) -> set[str]:
        inner = [*schema.get("properties", {}).values(), *([schema["items"]] if "items" in schema else [])]
        return set(schema.get("properties", {})) | {name for one in inner for name in names(one)}

    documented = page + (Path(__file__).parents[2] / "docs/spec/description.md").read_text()
    missing = {name for schema in SCHEMAS.values() for name in names(schema) if f"`{name}`" not in documented}
    assert missing - {"error", "code", "message", "hint", "details"} == set()

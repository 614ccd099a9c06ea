"""What tests of documents share: the standards' own validators."""

from __future__ import annotations

import json
from collections.abc import Callable
from importlib.resources import files
from io import BytesIO

import pytest


@pytest.fixture(scope="session")
def spdx_names() -> frozenset[str]:
    """Identifiers of the SPDX licence list."""
    schema = json.loads(files("cyclonedx.schema").joinpath("_res/spdx.SNAPSHOT.schema.json").read_text("utf-8"))
    return frozenset(schema["enum"])


@pytest.fixture(scope="session")
def valid_cyclonedx() -> Callable[[dict], None]:
    """Fails unless a document obeys the JSON schema of CycloneDX 1.6, strictly."""
    from cyclonedx.schema import SchemaVersion
    from cyclonedx.validation.json import JsonStrictValidator

    validator = JsonStrictValidator(SchemaVersion.V1_6)

    def check(document: dict) -> None:
        error = validator.validate_str(json.dumps(document))
        assert error is None, str(error)

    return check


@pytest.fixture(scope="session")
def valid_spdx() -> Callable[[dict], list]:
    """Fails unless a document obeys the SPDX 3.0.1 model (its SHACL shapes as code); gives its elements."""
    import spdx_python_model

    def check(document: dict) -> list:
        model, elements = spdx_python_model.load_data(document)
        # Reading checks names and types, writing checks that what must be there is.
        model.JSONLDSerializer().write(elements, BytesIO())
        assert elements.missing_ids == set()
        return list(elements.foreach())

    return check


@pytest.fixture(scope="session")
def valid_slsa() -> Callable[[dict], None]:
    """Fails unless a document is an in-toto statement with SLSA provenance v1, by their protocol buffers."""
    from google.protobuf import json_format
    from in_toto_attestation.predicates.provenance.v1 import provenance_pb2
    from in_toto_attestation.v1 import statement_pb2
    from in_toto_attestation.v1.resource_descriptor import ResourceDescriptor
    from in_toto_attestation.v1.statement import Statement

    def check(document: dict) -> None:
        message = json_format.ParseDict(document, statement_pb2.Statement())
        Statement.copy_from_pb(message).validate()
        predicate = json_format.ParseDict(document["predicate"], provenance_pb2.Provenance())
        assert predicate.build_definition.build_type
        assert predicate.run_details.builder.id
        for one in predicate.build_definition.resolved_dependencies:
            ResourceDescriptor.copy_from_pb(one).validate()

    return check

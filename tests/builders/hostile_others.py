"""Builders of small models of many formats: one honest one each, and what makes them hostile. Nothing in them runs."""

from __future__ import annotations

import json
import struct
from typing import Any

from wire_builder import field, fields


def openvino(*layers: str, before: str = "", inside: str = "") -> bytes:
    """An OpenVINO network."""
    body = "".join(layers)
    head = f'<?xml version="1.0"?>\n{before}<net name="demo" version="11">'
    return f"{head}{inside}<layers>{body}</layers><edges/></net>".encode()


def layer(kind: str = "Relu", opset: str = "opset1") -> str:
    """A layer of an OpenVINO network."""
    return f'<layer id="0" name="a" type="{kind}" version="{opset}"/>'


def pmml(*, before: str = "", inside: str = "", depth: int = 0, function: str = "") -> bytes:
    """A PMML document."""
    nodes = "<Node>" * depth + "</Node>" * depth
    apply = f'<Apply function="{function}"/>' if function else ""
    return f"""<?xml version="1.0"?>{before}
<PMML xmlns="http://www.dmg.org/PMML-4_4" version="4.4"><Header/>{inside}
 <DataDictionary><DataField name="a" optype="continuous" dataType="double"/></DataDictionary>
 <TransformationDictionary><DefineFunction name="my.own"/>{apply}</TransformationDictionary>
 <RegressionModel functionName="regression"><MiningSchema><MiningField name="a"/></MiningSchema>{nodes}
  <RegressionTable intercept="1"><NumericPredictor name="a" coefficient="2"/></RegressionTable></RegressionModel>
</PMML>""".encode()


ENTITY = '<!DOCTYPE x [<!ENTITY a SYSTEM "file:///nonexistent">]>'
PARAMETER_ENTITY = '<!DOCTYPE x [<!ENTITY % a SYSTEM "http://invalid.example/x.dtd"> %a;]>'
LAUGHS = "<!DOCTYPE x [<!ENTITY a 'ha'>" + "".join(
    f"<!ENTITY {chr(98 + n)} '&{chr(97 + n)};&{chr(97 + n)};'>" for n in range(20)
) + "]>"  # fmt: skip
INCLUDE = '<xi:include xmlns:xi="http://www.w3.org/2001/XInclude" href="file:///nonexistent" parse="text"/>'


def xgboost(*, left: tuple[int, ...] = (1, -1, -1), deep: int = 0, **counts: str) -> bytes:
    """An XGBoost model in JSON with one tree."""
    tree = {
        "left_children": list(left), "right_children": [2, -1, -1], "tree_param": {"size_leaf_vector": "1"}
    }  # fmt: skip
    parameters = {"base_score": "5E-1", "num_class": "0", "num_feature": "2", "num_target": "1", **counts}
    attributes: Any = {}
    for _ in range(deep):
        attributes = {"a": attributes}
    body = {
        "learner": {
            "attributes": attributes,
            "gradient_booster": {
                "model": {"gbtree_model_param": {"num_trees": "1"}, "trees": [tree]}, "name": "gbtree"
            },
            "learner_model_param": parameters,
            "objective": {"name": "reg:squarederror"},
        },
        "version": [3, 0, 0],
    }  # fmt: skip
    if not deep:
        return json.dumps(body).encode()
    # Deeper than the library that would write it can go.
    body["learner"]["attributes"] = "MARK"
    return json.dumps(body).encode().replace(b'"MARK"', b'{"a":' * deep + b"1" + b"}" * deep)


def lightgbm(*, leaves: int = 3, **header: str) -> bytes:
    """A LightGBM model text with one tree."""
    tree = f"Tree=0\nnum_leaves={leaves}\nnum_cat=0\nsplit_feature=0 1\nleaf_value=1 2 3\n\n\n"
    stated = {"num_class": "1", "num_tree_per_iteration": "1", "max_feature_idx": "1", **header}
    lines = "".join(f"{key}={value}\n" for key, value in stated.items())
    return (
        f"tree\nversion=v4\n{lines}objective=regression\nfeature_names=a b\nfeature_infos=[0:1] [0:1]\n"
        f"tree_sizes={len(tree)}\n\n{tree}end of trees\n\nfeature_importances:\na=1\n\nparameters:\n"
        "[boosting: gbdt]\nend of parameters\n\npandas_categorical:null\n"
    ).encode()


def coreml(kind: int, body: bytes) -> bytes:
    """A Core ML model of a kind."""
    port = fields((1, "x"), (3, field(5, fields((1, b"\x01\x03"), (2, 65568)))))
    return fields((1, 7), (2, fields((1, port), (10, port))), (kind, body))


def linked(place: str) -> bytes:
    """A Core ML model that points to another file."""
    return coreml(556, field(1, fields((1, field(1, place)), (2, field(1, ".")))))


def network(kind: int, body: bytes) -> bytes:
    """A Core ML network with one layer."""
    return coreml(500, field(1, fields((1, "l"), (2, "x"), (3, "x"), (kind, body))))


META = {"lang": "en", "name": "tiny", "version": "1.0", "spacy_version": ">=3.7,<3.9", "pipeline": ["ner"]}


def spacy(config: str = "", **files: bytes) -> dict[str, bytes]:
    """A spaCy pipeline."""
    text = f'[nlp]\nlang = "en"\npipeline = ["ner"]\n\n[components.ner]\nfactory = "ner"\n\n{config}'
    return {
        "p/meta.json": json.dumps(META).encode(),
        "p/config.cfg": text.encode(),
        "p/ner/model": b"\x84\xa5nodes\x90",
        "p/ner/cfg": b"{}",
        **{f"p/{name.replace('__', '/')}": data for name, data in files.items()},
    }


def crfsuite(size: int | None = None, features: int = 1) -> bytes:
    """A CRFsuite model without names."""
    chunk = struct.pack("<4sIIIIId", b"FEAT", 32, features, 0, 0, 0, 1.0)
    names = struct.pack("<4s5I", b"CQDB", 24, 0, 0x62445371, 0, 24)
    total = 48 + len(chunk) + len(names)
    at = 48
    header = struct.pack(
        "<4sI4s9I", b"lCRF", total if size is None else size, b"FOMC", 100, features, 0, 0, at, at + len(chunk), 0, 0, 0
    )
    return header + chunk + names

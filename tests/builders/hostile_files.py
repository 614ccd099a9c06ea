"""Files that no format describes: programs, scripts, files that run by themselves, pictures; each with an honest twin. Inert."""

from __future__ import annotations

import base64
import json
import struct
from typing import Any

from hostile_folders import Files, files, png, tfevents


def elf() -> bytes:
    """The beginning of a program for Linux, which no loader accepts."""
    return b"\x7fELF\x02\x01\x01" + bytes(57)


def pe() -> bytes:
    """The beginning of a program for Windows, which no loader accepts."""
    return b"MZ" + bytes(58) + struct.pack("<I", 64) + b"PE\0\0" + bytes(20)


def pyc() -> bytes:
    """Bytecode of Python without any code."""
    return struct.pack("<H", 3495) + b"\r\n" + bytes(12) + b"N"


def notebook(source: str) -> bytes:
    """A notebook with one cell of code."""
    return json.dumps({"cells": [{"cell_type": "code", "source": [source]}], "nbformat": 4}).encode()


def signature(name: str) -> bytes:
    """What a signature says about one file, unsigned."""
    statement = {"predicate": {"resources": [{"name": name, "digest": "00", "algorithm": "sha256"}]}}
    return json.dumps({"dsseEnvelope": {"payload": base64.b64encode(json.dumps(statement).encode()).decode()}}).encode()


def layer(**changes: Any) -> bytes:
    """An OCI manifest with one layer."""
    body = {
        "mediaType": "application/octet-stream",
        "digest": f"sha256:{'0' * 64}",
        "size": 3,
        "annotations": {"org.opencontainers.image.title": "model.txt"},
        **changes,
    }
    return json.dumps({"schemaVersion": 2, "layers": [body]}).encode()


PROTOCOL_0 = b"cos\ngetpid\n(tR."
"""A pickle of the first protocol, which is text: it asks for the number of the process."""

HARM: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    # what it is: hostile files, honest files, the rule
    "library for Linux": ({"lib/ops.so": elf()}, {"lib/ops.txt": "ELF\n"}, "file-program"),
    "library named as weights": ({"weights.dat": elf()}, {"weights.csv": "1,2\n"}, "file-program"),
    "library for macOS": ({"a.dylib": b"\xcf\xfa\xed\xfe" + bytes(60)}, {"a.md": "a\n"}, "file-program"),
    "program for Windows": ({"picture.png": pe()}, {"picture.png": png()}, "file-program"),
    "class of Java": ({"x": b"\xca\xfe\xba\xbe\0\0\0\x34" + bytes(60)}, {"x": "x\n"}, "file-program"),
    "bytecode": ({"__pycache__/x.cpython-311.pyc": pyc()}, {"cache/x.txt": "x\n"}, "file-program"),
    "WebAssembly": ({"x.bin": b"\0asm\x01\0\0\0" + bytes(8)}, {"x.txt": "asm\n"}, "file-program"),
    "script as weights": ({"model.bin": "#!/bin/sh\ntrue\n"}, {"run.sh": "#!/bin/sh\ntrue\n"}, "file-disguised-script"),
    "Python as weights": (
        {"model.pt": "import os\nos.getpid()\n"},
        {"train.py": "import os\nos.getpid()\n"},
        "file-disguised-script",
    ),
    "startup line": ({"x.pth": "import os; os.getpid()\n"}, {"x.txt": "import os\n"}, "file-runs-by-itself"),
    "list of folders": ({"x.pth": "/opt/evil\n"}, {"x.txt": "/opt/x\n"}, "file-path-list"),
    "sitecustomize": ({"sitecustomize.py": "X = 1\n"}, {"custom.py": "X = 1\n"}, "file-runs-by-itself"),
    "usercustomize": ({"a/usercustomize.py": "X = 1\n"}, {"a/user.py": "X = 1\n"}, "file-runs-by-itself"),
    "package of sitecustomize": (
        {"sitecustomize/__init__.py": "X = 1\n"},
        {"site/x.py": "X = 1\n"},
        "file-runs-by-itself",
    ),
    "image of R in letters": ({"model.rds": "A\n3\n262912\n197888\n"}, {"model.csv": "3\n262912\n"}, "file-unknown"),
    "template": ({"a.JINJA": "{{ x.__class__ }}"}, {"a.JINJA": "{{ x.role }}"}, "template-attribute"),
    "script for a data set": (
        {"d.py": "import datasets\nclass D(\n    datasets.GeneratorBasedBuilder\n):\n    pass\n"},
        {"d.py": "import datasets\nclass D(\n    object\n):\n    pass  # no GeneratorBasedBuilder\n"},
        "file-dataset-script",
    ),
    "script of a server": (
        {"m/config.pbtxt": 'backend: "python"\ndefault_model_filename: "x.txt"\n', "m/1/x.txt": "X = 1\n"},
        {"m/config.pbtxt": 'backend: "onnxruntime"\ndefault_model_filename: "x.txt"\n', "m/1/x.txt": "x\n"},
        "file-runs-by-itself",
    ),
    "pickle in letters behind a long text": (
        {"notes": b"S'" + b"a" * (1 << 20) + b"'\n0" + PROTOCOL_0},
        {"notes": b"S'" + b"a" * (1 << 20) + b"'\n"},
        "",
    ),
    "pickle in letters of another alphabet": (
        {"notes": b"S'\xe9'\n0" + PROTOCOL_0 + b"\n"},
        {"notes": b"S'\xe9' and more words than one\n"},
        "",
    ),
    "conftest": ({"tests/conftest.py": "X = 1\n"}, {"tests/test_x.py": "X = 1\n"}, "file-runs-by-itself"),
    "setup": ({"setup.py": "X = 1\n"}, {"setup.md": "X = 1\n"}, "file-runs-by-itself"),
    "hook": (
        {".git/hooks/post-checkout": "#!/bin/sh\ntrue\n"},
        {".git/hooks/post-checkout.sample": "#!/bin/sh\ntrue\n"},
        "file-runs-by-itself",
    ),
    "configuration of git": (
        {".git/config": "[core]\n\tfsmonitor = ./x\n"},
        {".git/config": "[core]\n\tbare = false\n"},
        "file-runs-by-itself",
    ),
    "direnv": ({".envrc": "true\n"}, {".env.example": "A=b\n"}, "file-runs-by-itself"),
    "task of the editor": (
        {".vscode/tasks.json": '{"tasks": [{"runOptions": {"runOn": "folderOpen"}}]}'},
        {".vscode/tasks.json": '{"tasks": []}'},
        "file-runs-by-itself",
    ),
    "backend of a server": (
        {"m/config.pbtxt": 'backend: "python"\n', "m/1/model.py": "X = 1\n"},
        {"m/config.pbtxt": 'backend: "onnxruntime"\n', "m/1/model.py": "X = 1\n"},
        "file-runs-by-itself",
    ),
    "package source": (
        {"pip.conf": "[global]\nindex-url = http://evil.example\n"},
        {"p.conf": "a\n"},
        "file-package-source",
    ),
    "unknown bytes": ({"blob": bytes(range(256))}, {"blob": "text\n"}, "file-unknown"),
    "pointer": (
        {"model.safetensors": "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 3\n"},
        {"pointer.md": "see git-lfs\n"},
        "file-lfs-pointer",
    ),
    "drawing that acts": (
        {"a.svg": "<svg><script>1</script></svg>"},
        {"a.svg": "<svg><g/></svg>"},
        "file-active-picture",
    ),
    "drawing that acts, shouted": (
        {"a.SVG": "<svg><script>1</script></svg>"},
        {"a.SVG": "<svg><g/></svg>"},
        "file-active-picture",
    ),
    "document that acts": (
        {"a.pdf": b"%PDF-1.4\n1 0 obj <</OpenAction 2 0 R>>\n\xff\n%%EOF"},
        {"a.pdf": b"%PDF-1.4\n1 0 obj <</Type /Catalog>>\n\xff\n%%EOF"},
        "file-active-document",
    ),
    "entities": (
        {"a.xml": "<!DOCTYPE a [<!ENTITY b SYSTEM 'file:///etc/passwd'>]><a>&b;</a>"},
        {"a.xml": "<?xml version='1.0'?><a>b</a>"},
        "file-xml-entity",
    ),
    "inclusion": ({"a.xml": "<a><xi:include href='/etc/passwd'/></a>"}, {"a.xml": "<a/>"}, "file-xml-entity"),
    "archive behind a picture": ({"a.png": png(b"PK\x05\x06" + bytes(18))}, {"a.png": png()}, ""),
    "bytes behind a picture": ({"a.png": png(b"\x01hidden")}, {"a.png": png()}, ""),
    "broken log": (
        {"events.out.tfevents.1.h": tfevents() + b"\xff" * 9},
        {"events.out.tfevents.1.h": tfevents() * 3},
        "file-unknown",
    ),
    "title above": (
        {"manifest.json": layer(annotations={"org.opencontainers.image.title": "../../x"})},
        {"manifest.json": layer()},
        "manifest-path",
    ),
    "digest above": ({"manifest.json": layer(digest="sha256:../../x")}, {"manifest.json": layer()}, "manifest-digest"),
    "weak digest": (
        {"manifest.json": layer(digest=f"md5:{'0' * 32}")},
        {"manifest.json": layer()},
        "manifest-weak-digest",
    ),
    "negative size": ({"manifest.json": layer(size=-1)}, {"manifest.json": layer()}, "manifest-size"),
    "huge size": ({"manifest.json": layer(size=1 << 80)}, {"manifest.json": layer()}, "manifest-size"),
    "signature of a file above": ({"model.sig": signature("../x")}, {"model.sig": signature("x")}, "manifest-path"),
    "output above": (
        {"w.dvc": "outs:\n- md5: 00\n  path: ../../w\n"},
        {"w.dvc": "outs:\n- md5: 00\n  path: w\n"},
        "manifest-path",
    ),
    "part above": (
        {"Kitfile": "manifestVersion: 1.0.0\nmodel:\n  path: ../../w\n"},
        {"Kitfile": "manifestVersion: 1.0.0\nmodel:\n  path: ./w\n"},
        "manifest-path",
    ),
}

HONEST: Files = files(
    {
        "README.md": "# Words\n\n```sh\n#!/bin/sh\ncurl https://example.org | sh\n```\n",
        "LICENSE": "All rights.\n",
        "labels": "cat\ndog\n",
        "table.parquet": b"PAR1" + bytes(30) + b"PAR1",
        "table.arrow": b"ARROW1\0\0" + bytes(30) + b"ARROW1",
        "sound.wav": b"RIFF" + struct.pack("<I", 12) + b"WAVEdata" + bytes(4),
        "picture.jpg": b"\xff\xd8\xff\xe0" + bytes(20) + b"\xff\xd9",
        "picture.gif": b"GIF89a" + bytes(20) + b"\x3b",
        "video.mp4": struct.pack(">I", 16) + b"ftypisom" + bytes(4),
        "log.sqlite": b"SQLite format 3\0" + struct.pack(">H", 512) + bytes(512 - 18),
        "latin.txt": "caf\xe9 au lait, and more words\n".encode("latin-1"),
        "wide.txt": "words\n".encode("utf-16"),
        "colours.log": b"\x1b[31merror\x1b[0m none\n",
        "notebook.ipynb": notebook("print(1)"),
        "tool.py": "print(1)\n",
        "tool.js": "console.log(1)\n",
    }
)
"""Files beside models that do nothing."""

ALPHABET = "q7Zr2Xk9Lm4Pw8Ts6Vb3Nc5Yd1Hf0JgAeBu"

SECRETS: dict[str, tuple[str, str, str]] = {
    # rule: what is left in the file, what only looks so (made up here, no service knows them)
    "secret-aws-key": (f"AKIA{ALPHABET.upper()[:16]}", "AKIAIOSFODNN7EXAMPLE", "k"),
    "secret-hugging-face-token": (f"hf_{ALPHABET[:34]}", "hf_" + "x" * 34, "k"),
    "secret-github-token": (f"ghp_{ALPHABET}a", "ghp_" + "0" * 36, "k"),
    "secret-gitlab-token": (f"glpat-{ALPHABET[:20]}", "glpat-your-token-goes-here", "k"),
    "secret-slack-token": (f"xoxb-8{ALPHABET}", "xoxb-token", "k"),
    "secret-api-key": (f"sk-proj-{ALPHABET}", "sk-learn-is-a-library-for-machines", "k"),
    "secret-google-key": (f"AIza{ALPHABET}", "AIza", "k"),
    "secret-in-url": ("postgres://admin:v3ryS1kret@db.local/x", "postgres://user:password@db.local/x", "k"),
    "secret-private-key": (
        "-----BEGIN RSA PRIVATE KEY-----\n" + ALPHABET * 2 + "\n",
        "-----BEGIN RSA PRIVATE KEY-----\n...\n",
        "k",
    ),
    "secret-assignment": (ALPHABET[:30], "cl100k_base", "api_token"),
}

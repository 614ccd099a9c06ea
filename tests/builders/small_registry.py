# ruff: noqa: RET503
"""A small OCI registry in memory, which can be told to misbehave. Real ones are in ``tests/interop``.

It follows distribution-spec 1.1, with or without the referrers API, and keeps what came of a request that broke off.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

INDEX = "application/vnd.oci.image.index.v1+json"
USER = "Basic " + base64.b64encode(b"ada:secret").decode()


@dataclass
class State:
    """What the registry holds, and how it behaves."""

    blobs: dict[tuple[str, str], bytes] = field(default_factory=dict)
    manifests: dict[tuple[str, str], tuple[bytes, str]] = field(default_factory=dict)
    tags: dict[tuple[str, str], str] = field(default_factory=dict)
    sessions: dict[str, bytearray] = field(default_factory=dict)
    requests: list[tuple[str, str]] = field(default_factory=list)
    received: Counter = field(default_factory=Counter)
    referrers: bool = True
    ranges: bool = True
    pieces: bool = True
    sends_digests: bool = True
    auth: str = ""
    lasting: int = 300
    tokens: dict[str, float] = field(default_factory=dict)
    realm: str = ""
    largest: int | None = None
    # Called with (method, path#range, times that was asked before); what it returns is done instead: a status, "cut", "stall".
    fault: Callable[[str, str, int], int | str | tuple[int, dict] | None] = lambda *_: None
    seen: Counter = field(default_factory=Counter)

    def asked(self, method: str, part: str = "") -> int:
        return sum(1 for one, path in self.requests if one == method and part in path)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    state: State

    def log_message(self, *_: object) -> None:
        pass

    def __getattr__(self, name: str):
        if name.startswith("do_"):
            return self._handle
        raise AttributeError(name)

    def _handle(self) -> None:
        state, path = self.state, self.path
        state.requests.append((self.command, path))
        key = f"{self.command} {path.split('?')[0]}"
        asked = self.headers.get("Range")
        fault = state.fault(self.command, f"{path}#{asked}" if asked else path, state.seen[key])
        state.seen[key] += 1
        if isinstance(fault, tuple):
            self._drain()
            return self._say(fault[0], **fault[1])
        if isinstance(fault, int):
            self._drain()
            return self._say(fault, b'{"errors":[{"code":"TEST","message":"as told"}]}')
        self.fault = fault
        if path.startswith("/token"):
            return self._token()
        if not self._allowed():
            self._drain()
            challenge = (
                f'Bearer realm="{state.realm}",service="small",scope="repository:odd:pull"'
                if state.auth == "bearer"
                else 'Basic realm="small"'
            )
            return self._say(401, b'{"errors":[{"code":"UNAUTHORIZED","message":"who?"}]}', www_authenticate=challenge)
        found = re.fullmatch(r"/v2/(.+)/(blobs/uploads|blobs|manifests|tags|referrers)/([^/?]*)(?:\?(.*))?", path)
        if not found:
            return self._say(200 if path == "/v2/" else 404)
        name, kind, rest, query = found[1], found[2], found[3], parse_qs(found[4] or "")
        getattr(self, "_" + kind.replace("/", "_"))(name, rest, {key: value[0] for key, value in query.items()})

    def _allowed(self) -> bool:
        given = self.headers.get("Authorization", "")
        if self.state.auth == "basic":
            return given == USER
        if self.state.auth == "bearer":
            return self.state.tokens.get(given.removeprefix("Bearer "), 0) > time.time()
        return True

    def _token(self) -> None:
        query = parse_qs(urlsplit(self.path).query)
        if self.command == "POST":
            query = parse_qs(self._body().decode())
            if query["refresh_token"] != ["identity"]:
                return self._say(401)
        elif self.headers.get("Authorization") not in (None, USER):
            return self._say(401)
        token = f"t{len(self.state.tokens)}"
        self.state.tokens[token] = time.time() + self.state.lasting
        self._say(200, json.dumps({"token": token, "expires_in": self.state.lasting + 60}).encode())

    def _blobs(self, name: str, digest: str, query: dict) -> None:
        data = self.state.blobs.get((name, digest))
        if data is None:
            return self._say(404, b'{"errors":[{"code":"BLOB_UNKNOWN","message":"no"}]}')
        wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if wanted and self.state.ranges:
            start, stop = int(wanted[1]), min(int(wanted[2] or len(data)), len(data) - 1)
            part = data[start : stop + 1]
            return self._say(206, part, content_range=f"bytes {start}-{stop}/{len(data)}")
        self._say(200, data, docker_content_digest=digest)

    def _blobs_uploads(self, name: str, session: str, query: dict) -> None:
        state = self.state
        if self.command == "POST":
            data = state.blobs.get((query.get("from", ""), query.get("mount", "")))
            if data is not None:
                state.blobs[name, query["mount"]] = data
                return self._say(201, location=f"/v2/{name}/blobs/{query['mount']}")
            session = f"s{len(state.sessions)}"
            state.sessions[session] = bytearray()
            return self._say(202, location=f"/v2/{name}/blobs/uploads/{session}?x=1")
        held = state.sessions.get(session)
        if held is None:
            self._drain()
            return self._say(404, b'{"errors":[{"code":"BLOB_UPLOAD_UNKNOWN","message":"no"}]}')
        place = f"/v2/{name}/blobs/uploads/{session}?x={len(held)}"
        if self.command == "GET":
            return self._say(204, location=place, range=f"0-{max(0, len(held) - 1)}")
        if self.command == "DELETE":
            del state.sessions[session]
            return self._say(204)
        if state.largest is not None and int(self.headers["Content-Length"]) > state.largest:
            self._drain()
            return self._say(413)
        if self.command == "PATCH":
            if not state.pieces:
                self._drain()
                return self._say(405)
            if int(self.headers["Content-Range"].partition("-")[0]) != len(held):
                self._drain()
                return self._say(416)
            if not self._take(held):
                return None
            return self._say(202, location=place, range=f"0-{len(held) - 1}")
        if not self._take(held):
            return None
        algorithm, _, value = query["digest"].partition(":")
        if hashlib.new(algorithm, held).hexdigest() != value:
            return self._say(400, b'{"errors":[{"code":"DIGEST_INVALID","message":"no"}]}')
        state.blobs[name, query["digest"]] = bytes(held)
        del state.sessions[session]
        return self._say(201, location=f"/v2/{name}/blobs/{query['digest']}")

    def _manifests(self, name: str, label: str, query: dict) -> None:
        state = self.state
        if self.command == "PUT":
            data = self._body()
            body, digest = json.loads(data), "sha256:" + hashlib.sha256(data).hexdigest()
            state.manifests[name, digest] = data, self.headers["Content-Type"]
            if ":" not in label:
                state.tags[name, label] = digest
            said = {"oci_subject": body["subject"]["digest"]} if state.referrers and body.get("subject") else {}
            return self._say(201, location="x", docker_content_digest=digest, **said)
        digest = state.tags.get((name, label), label)
        found = state.manifests.get((name, digest))
        if found is None:
            return self._say(404)
        said = {"docker_content_digest": digest} if state.sends_digests else {}
        return self._say(200, found[0], content_type=found[1], **said)

    def _tags(self, name: str, _: str, query: dict) -> None:
        tags = sorted(tag for one, tag in self.state.tags if one == name)
        if not tags:
            return self._say(404)
        page = [tag for tag in tags if tag > query.get("last", "")][:2]
        more = page and page[-1] != tags[-1]
        said = {"link": f'</v2/{name}/tags/list?last={page[-1]}>; rel="next"'} if more else {}
        return self._say(200, json.dumps({"name": name, "tags": page}).encode(), **said)

    def _referrers(self, name: str, digest: str, query: dict) -> None:
        if not self.state.referrers:
            return self._say(404)
        found = []
        for (one, manifest), (data, media_type) in self.state.manifests.items():
            body = json.loads(data)
            if one == name and (body.get("subject") or {}).get("digest") == digest:
                artifact = body.get("artifactType") or body["config"]["mediaType"]
                found.append({"mediaType": media_type, "digest": manifest, "size": len(data), "artifactType": artifact})
        body = {"schemaVersion": 2, "mediaType": INDEX, "manifests": found}
        return self._say(200, json.dumps(body).encode(), content_type=INDEX)

    def _take(self, held: bytearray) -> bool:
        """Take a body in piece by piece; False when that broke off."""
        left, cut = int(self.headers.get("Content-Length", 0)), isinstance(self.fault, str)
        limit = left // 2 if cut else left
        while limit:
            data = self.rfile.read(min(limit, 1 << 16))
            if not data:
                self.close_connection = True
                return False
            held += data
            self.state.received[self.command] += len(data)
            limit -= len(data)
        if cut:
            self._break()
            return False
        return True

    def _body(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def _drain(self) -> None:
        self._body()

    def _break(self) -> None:
        if self.fault == "stall":
            time.sleep(2.5)
        self.close_connection = True

    def _say(self, status: int, data: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command == "HEAD":
            return
        if isinstance(self.fault if hasattr(self, "fault") else None, str):
            self.wfile.write(data[: len(data) // 2])
            self.wfile.flush()
            self._break()
        else:
            self.wfile.write(data)


class Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self) -> None:
        self.state = State()
        super().__init__(("127.0.0.1", 0), type("Bound", (Handler,), {"state": self.state}))
        self.address = f"127.0.0.1:{self.server_address[1]}"
        self.state.realm = f"http://{self.address}/token"
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def handle_error(self, *_: object) -> None:
        pass

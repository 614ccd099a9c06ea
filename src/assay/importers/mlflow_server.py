"""Reading an MLflow registry from its server, through the REST routes that MLflow's own client uses (2.x and 3.x).

Only GET is sent, and no redirect is followed. A server is somebody else's program: what it answers is bounded, names
only files below the folder that is written to, and cannot send the reader to another host. It can name folders of this
machine only where it runs on it (a loopback address), or where the person said which ones.
"""

from __future__ import annotations

import base64
import json
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.error import URLError
from urllib.parse import quote, unquote, urlencode, urlsplit
from urllib.request import HTTPHandler, HTTPSHandler, OpenerDirector, ProxyHandler, Request

from assay.errors import AssayError, BadFormat, NotFound, StorageError
from assay.importers.local import Places, files_in, without_credentials
from assay.importers.mlflow_book import LOGGED, PROMPT
from assay.importers.mlflow_runs import details, numbers, params, rfc3339, stage_alias
from assay.ports.importers import Files, Offered, Result, Unreadable
from assay.spec.paths import check_path, check_together

_MAX_ANSWER = 64 << 20
_MAX_DEPTH = 32
_MAX_MESSAGE = 4096
_MAX_FILES = 100_000
_MAX_ROWS = 1_000_000
"""Models, or versions of one model: a search must come to an end."""
_MISFORMED = (KeyError, TypeError, ValueError, AttributeError, OverflowError)
"""What comes of an answer that has another form than MLflow's."""
_TIMEOUT = 120.0
_TRIES = 4
_AGAIN = frozenset({408, 429, 500, 502, 503, 504})
_CHUNK = 1 << 20
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})


class MlflowServer:
    """An MLflow registry behind ``http://`` or ``https://``.

    Credentials come from the address (``https://user:password@host``), else from ``MLFLOW_TRACKING_TOKEN`` or
    ``MLFLOW_TRACKING_USERNAME`` and ``MLFLOW_TRACKING_PASSWORD``, as for MLflow's own client.

    Args:
        address: as ``MLFLOW_TRACKING_URI`` holds it.
        artifacts: as ``Places.folders``; for what the server does not hand out itself.
        environ: the environment; the process's own when None.
    """

    system = "mlflow"

    def __init__(
        self,
        address: str,
        artifacts: Mapping[str, Path] | None = None,
        *,
        environ: Mapping[str, str] | None = None,
    ) -> None:
        self.place = without_credentials(address).rstrip("/")
        self._places = Places(folders=artifacts or {})
        self._server = Server(self.place, _authorization(address, os.environ if environ is None else environ))

    def offered(self) -> Iterator[Offered | Unreadable]:
        """Every version that is ready, per model from the oldest to the newest; prompts are left out.

        Raises:
            NotFound: the server does not answer (code ``import-source-missing``).
            BadFormat: it is no MLflow server (code ``not-mlflow``).
        """
        for model in self._server.pages("registered-models/search", "registered_models", max_results="1000"):
            try:
                name, tags = str(model["name"]), _tags(model)
                if tags.get(PROMPT, "").lower() == "true":
                    continue
                whole = self._server.ask("registered-models/get", name=name)["registered_model"]
                versions = self._versions(name)
            except _MISFORMED as error:
                raise self._misformed(error) from error
            for version in versions:
                try:
                    yield self._offer(whole, versions, version)
                except AssayError as error:
                    yield Unreadable(name, str(version["version"]), error)
                except _MISFORMED as error:
                    yield Unreadable(name, str(version["version"]), self._misformed(error))

    def _versions(self, name: str) -> list[dict[str, Any]]:
        quoted = f'"{name}"' if "'" in name else f"'{name}'"
        versions = self._server.pages("model-versions/search", "model_versions", filter=f"name={quoted}")
        return sorted(versions, key=lambda row: int(row["version"]))

    def _misformed(self, error: Exception) -> BadFormat:
        return BadFormat(f"{self.place} answers otherwise than MLflow does: {error!r:.200}", code="not-mlflow")

    def _offer(self, model: Mapping[str, Any], versions: list[Any], version: Mapping[str, Any]) -> Offered:
        name, number = str(model["name"]), str(version["version"])
        said = str(self._server.ask("model-versions/get-download-uri", name=name, version=number)["artifact_uri"])
        where = self._resolved(said)
        opening = self._opening(where)
        run_id = str(version.get("run_id") or "")
        run = self._server.find("runs/get", "run", run_id=run_id) if run_id else {}
        source = str(version.get("source") or "")
        logged_id = source.removeprefix("models:/") if source.startswith(LOGGED) else version.get("model_id")
        logged = self._server.find(f"logged-models/{quote(str(logged_id), safe='')}", "model") if logged_id else {}
        run_data, logged_data = run.get("data", {}), logged.get("data", {})
        run_tags = _tags(run_data)
        aliases = [item["alias"] for item in model.get("aliases", ()) if str(item["version"]) == number]
        return Offered(
            model=name,
            label=number,
            created=rfc3339(int(version.get("creation_timestamp") or 0)),
            actor=version.get("user_id") or run_tags.get("mlflow.user"),
            params=params({**_pairs(logged_data.get("params")), **_pairs(run_data.get("params"))}),
            metrics=numbers((item["key"], item["value"], False) for item in run_data.get("metrics", ())),
            results=_results(logged_data.get("metrics", ())),
            run=f"mlflow://{run_id}" if run_id else None,
            run_details=details(_row(run.get("info", {})), run_tags, version.get("run_link")),
            note=version.get("description") or None,
            tags={**_tags(model), **_tags(version)},
            aliases=(*map(str, aliases), *stage_alias(versions, version)),
            where=without_credentials(where),
            open=opening,
        )

    def _resolved(self, where: str) -> str:
        """A place, instead of the run or logged model that MLflow may name."""
        if where.startswith("runs:/"):
            run_id, _, rest = where.removeprefix("runs:/").partition("/")
            run = self._server.ask("runs/get", run_id=run_id)["run"]
            return f"{str(run['info']['artifact_uri']).rstrip('/')}/{rest}"
        if where.startswith(LOGGED):
            logged = self._server.ask(f"logged-models/{quote(where.removeprefix('models:/'), safe='')}")["model"]
            return str(logged["info"]["artifact_uri"])
        return where

    def _opening(self, where: str) -> Any:
        """How the bytes at a place are had.

        Raises:
            NotFound: not through this server (code ``location-elsewhere``).
        """
        parts, own = urlsplit(where), urlsplit(self.place)
        if parts.scheme == "mlflow-artifacts" and parts.netloc in {"", own.netloc}:
            return partial(self._server.download, unquote(parts.path).strip("/"))
        route = "/api/2.0/mlflow-artifacts/artifacts/"
        if parts.scheme == own.scheme and parts.netloc == own.netloc and route in parts.path:
            return partial(self._server.download, unquote(parts.path.partition(route)[2]))
        if not self._places.folders and parts.scheme in {"", "file"} and own.hostname not in _LOOPBACK:
            raise NotFound(
                f"its bytes are in a folder of the server, {where}, which does not hand them out",
                code="location-elsewhere",
                hint="start the server with --serve-artifacts, or mount the folder: --artifacts LOCATION=FOLDER",
            )
        return partial(files_in, self._places.path(where))


class Server:
    """The routes that are needed, with retries.

    Args:
        address: without credentials and without a slash at the end.
        authorization: value of that header; None sends none.
    """

    def __init__(self, address: str, authorization: str | None) -> None:
        self._address = address
        self._authorization = authorization
        self._opener = OpenerDirector()
        for handler in (ProxyHandler, HTTPHandler, HTTPSHandler):
            self._opener.add_handler(handler())

    def ask(self, route: str, **query: str) -> dict[str, Any]:
        """The JSON object that a route answers.

        Raises:
            NotFound: what was asked for is not there, or the server does not answer.
            BadFormat: it answers something else (code ``not-mlflow``).
        """
        return self._json(f"/api/2.0/mlflow/{route}", query)

    def find(self, route: str, field: str, **query: str) -> dict[str, Any]:
        """One field of an answer; empty when the server no longer has what was asked for."""
        try:
            found = self.ask(route, **query).get(field, {})
        except NotFound as error:
            if error.code == "import-source-missing":
                raise
            return {}
        return found if isinstance(found, dict) else {}

    def pages(self, route: str, field: str, **query: str) -> Iterator[dict[str, Any]]:
        """Every row of a search."""
        token, count = "", 0
        while True:
            answer = self.ask(route, **query, **({"page_token": token} if token else {}))
            rows = answer.get(field) or ()
            if not isinstance(rows, (list, tuple)) or not all(isinstance(row, dict) for row in rows):
                raise BadFormat(f"{self._address}/{route} lists no {field}", code="not-mlflow")
            count += max(1, len(rows))
            if count > _MAX_ROWS:
                raise BadFormat(f"{self._address}/{route} finds more than {_MAX_ROWS:,} rows", code="not-mlflow")
            yield from rows
            following = str(answer.get("next_page_token") or "")
            if not following or following == token:
                return
            token = following

    @contextmanager
    def download(self, path: str) -> Iterator[Files]:
        """The files below a path of the artifact store, in a temporary folder."""
        with TemporaryDirectory(prefix="assay-mlflow-") as scratch:
            paths: dict[str, Path] = {}
            for name in self._listed(path):
                entry = check_path(name.removeprefix(f"{path}/").lstrip("/"))
                file = Path(scratch) / str(len(paths))
                with self._get(f"/api/2.0/mlflow-artifacts/artifacts/{quote(name)}", {}) as answer:
                    _save(answer, file)
                paths[entry] = file
                if len(paths) > _MAX_FILES:
                    raise BadFormat(f"{path} holds more than {_MAX_FILES:,} files")
            if not paths:
                raise NotFound(f"the server has no files at {path}", code="location-missing")
            check_together(paths)
            yield Files(dict(sorted(paths.items())))

    def _listed(self, top: str) -> Iterator[str]:
        """Every file below a folder; what is asked for is bounded, whatever the server lists."""
        pending, asked = [""], 0
        while pending:
            folder = pending.pop()
            asked += 1
            if asked > _MAX_FILES:
                raise BadFormat(f"{top} holds more than {_MAX_FILES:,} folders")
            if folder.count("/") >= _MAX_DEPTH:
                raise BadFormat(f"folders at {top} are more than {_MAX_DEPTH} deep")
            answer = self._json("/api/2.0/mlflow-artifacts/artifacts", {"path": f"{top}/{folder}".rstrip("/")})
            try:
                listed = [(str(item["path"]), bool(item.get("is_dir"))) for item in answer.get("files") or ()]
            except _MISFORMED as error:
                raise BadFormat(f"the server lists {top} otherwise than MLflow does", code="not-mlflow") from error
            for path, is_folder in listed:
                name = f"{folder}/{check_path(path)}".lstrip("/")
                if is_folder:
                    pending.append(name)
                else:
                    yield f"{top}/{name}"

    def _json(self, path: str, query: Mapping[str, str]) -> dict[str, Any]:
        try:
            with self._get(path, query) as answer:
                data = answer.read(_MAX_ANSWER + 1)
        except (OSError, HTTPException) as error:
            raise NotFound(
                f"{self._address} stopped answering: {error}",
                code="import-source-missing",
                hint="import again: what was brought is known then",
            ) from error
        if len(data) > _MAX_ANSWER:
            raise BadFormat(f"{self._address}{path} answers more than {_MAX_ANSWER:,} bytes", code="not-mlflow")
        try:
            body = json.loads(data)
        except (ValueError, RecursionError) as error:
            raise BadFormat(
                f"{self._address} is no MLflow server: {path} answers no JSON", code="not-mlflow"
            ) from error
        if not isinstance(body, dict):
            raise BadFormat(f"{self._address} is no MLflow server: {path} answers no object", code="not-mlflow")
        return body

    def _get(self, path: str, query: Mapping[str, str]) -> HTTPResponse:
        address = f"{self._address}{path}" + (f"?{urlencode(query)}" if query else "")
        request = Request(address)  # noqa: S310 - only handlers for http and https are there
        if self._authorization is not None:
            request.add_unredirected_header("Authorization", self._authorization)
        for attempt in range(_TRIES):
            try:
                answer: HTTPResponse | None = self._opener.open(request, timeout=_TIMEOUT)
            except (URLError, OSError, HTTPException) as error:
                if attempt + 1 == _TRIES or isinstance(getattr(error, "reason", error), ConnectionRefusedError):
                    raise NotFound(
                        f"no answer from {self._address}: {getattr(error, 'reason', error)}",
                        code="import-source-missing",
                        hint="check the address and that the server runs",
                    ) from error
            else:
                if answer is not None and answer.status == 200:
                    return answer
                status = 0 if answer is None else answer.status
                if status not in _AGAIN or attempt + 1 == _TRIES:
                    raise _refused(self._address, path, status, b"" if answer is None else _first_bytes(answer))
            time.sleep(min(8.0, 0.5 * 2**attempt))
        raise AssertionError("the last try returns or raises")


def _first_bytes(answer: HTTPResponse) -> bytes:
    try:
        return answer.read(_MAX_MESSAGE)
    except (OSError, HTTPException):
        return b""


def _refused(address: str, path: str, status: int, body: bytes) -> AssayError:
    try:
        said = str(json.loads(body)["message"])[:300]
    except (ValueError, KeyError, TypeError, RecursionError):
        said = f"status {status}"
    if status in {401, 403}:
        return NotFound(
            f"{address} does not let us in: {said}",
            code="import-source-missing",
            hint="set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN",
        )
    if status == 404:
        return NotFound(f"{address} has no {path.rpartition('/')[2]}: {said}", code="location-missing")
    return BadFormat(f"{address} refuses {path}: {said}", code="not-mlflow")


def _save(answer: HTTPResponse, file: Path) -> None:
    expected = answer.headers.get("Content-Length")
    written = 0
    try:
        with file.open("wb") as out:
            while data := answer.read(_CHUNK):
                out.write(data)
                written += len(data)
    except (HTTPException, TimeoutError, ConnectionError) as error:
        raise NotFound(
            f"the server stopped sending after {written:,} bytes: {error}", code="location-missing"
        ) from error
    except OSError as error:
        raise StorageError.of(error, "cannot write a temporary file") from error
    if expected is not None and expected.isdigit() and written != int(expected):
        raise NotFound(f"the server stopped sending: expected {expected} bytes, got {written}", code="location-missing")


def _authorization(address: str, environ: Mapping[str, str]) -> str | None:
    parts = urlsplit(address)
    user, password = unquote(parts.username or ""), unquote(parts.password or "")
    if not user:
        if token := environ.get("MLFLOW_TRACKING_TOKEN"):
            return f"Bearer {token}"
        user, password = environ.get("MLFLOW_TRACKING_USERNAME", ""), environ.get("MLFLOW_TRACKING_PASSWORD", "")
    if not user:
        return None
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def _tags(row: Mapping[str, Any]) -> dict[str, str]:
    return _pairs(row.get("tags"))


def _pairs(rows: object) -> dict[str, str]:
    return {str(row["key"]): str(row.get("value", "")) for row in rows} if isinstance(rows, list) else {}


def _row(info: Mapping[str, Any]) -> dict[str, Any]:
    """A run's description under the names that the database has for it."""
    times = {key: int(info[key]) for key in ("start_time", "end_time") if str(info.get(key) or "").isdigit()}
    return {
        "status": info.get("status"),
        "experiment_id": info.get("experiment_id"),
        "name": info.get("run_name"),
        **times,
    }


def _results(rows: list[Mapping[str, Any]]) -> tuple[Result, ...]:
    found: dict[tuple[str, str], list[tuple[str, Any, Any]]] = {}
    for row in sorted(rows, key=lambda item: int(item.get("timestamp") or 0)):
        if row.get("dataset_name"):
            key = (str(row["dataset_name"]), str(row.get("dataset_digest") or ""))
            found.setdefault(key, []).append((row["key"], row["value"], False))
    return tuple(
        Result(values, name, digest or None) for (name, digest), items in found.items() if (values := numbers(items))
    )

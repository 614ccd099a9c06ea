"""Every question a catalog is asked often is answered by an index, however much it holds."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import Engine, event

from assay.catalog.journal import FileJournal
from assay.catalog.sql import SqlCatalog
from assay.spec.records import EventKind
from assay.testing.catalog import artifact, push

QUESTIONS: dict[str, Callable[[SqlCatalog], object]] = {
    "models by prefix": lambda catalog: catalog.models(prefix="m", limit=5),
    "versions": lambda catalog: catalog.versions("m"),
    "newest": lambda catalog: catalog.version("m"),
    "version": lambda catalog: catalog.version("m", 1),
    "by manifest": lambda catalog: catalog.by_manifest(artifact(1)),
    "by manifest and name": lambda catalog: catalog.by_manifest(artifact(1), name="m"),
    "alias": lambda catalog: catalog.alias("m", "champion"),
    "aliases": lambda catalog: catalog.aliases("m"),
    "referrers": lambda catalog: catalog.referrers(artifact(1)),
    "history": lambda catalog: catalog.events(name="m", limit=5),
    "newest events": lambda catalog: catalog.events(kinds=[EventKind.PURGED], limit=5),
    "add a version": lambda catalog: push(catalog, "m", "new"),
    "move an alias": lambda catalog: catalog.move_alias("m", "champion", 1, expect=None, actor="ada"),
    "attach a statement": lambda catalog: catalog.add_referrer(artifact(1), artifact(9), "x", size=1, actor="ada"),
    "purge": lambda catalog: catalog.mark_purged(artifact(1), reason="leaked", actor="ada"),
}


@pytest.mark.parametrize("question", QUESTIONS)
def test_no_question_reads_a_whole_table(tmp_path: Path, question: str) -> None:
    catalog = SqlCatalog(tmp_path / "catalog.sqlite3", FileJournal(tmp_path / "journal.jsonl"))
    push(catalog, "m", 1)
    asked: list[tuple[str, tuple[object, ...]]] = []

    def listen(
        _connection: object, _cursor: object, statement: str, parameters: tuple[object, ...], *_: object
    ) -> None:
        asked.append((statement, parameters))

    event.listen(Engine, "before_cursor_execute", listen)
    try:
        QUESTIONS[question](catalog)
    finally:
        event.remove(Engine, "before_cursor_execute", listen)
    catalog.close()

    plain = sqlite3.connect(tmp_path / "catalog.sqlite3")
    plans = [
        row[3]
        for statement, parameters in asked
        if statement.startswith(("SELECT", "UPDATE", "DELETE"))
        for row in plain.execute(f"EXPLAIN QUERY PLAN {statement}", parameters)
    ]
    plain.close()
    assert plans
    # How far the journal is applied is one row.
    assert [plan for plan in plans if plan.startswith("SCAN") and plan != "SCAN applied"] == []
    assert [plan for plan in plans if "TEMP B-TREE" in plan] == []

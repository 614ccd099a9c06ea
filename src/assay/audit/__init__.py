"""Audit: what things named in foreign bytes can do, as tables and rules. Nothing foreign is executed or imported."""

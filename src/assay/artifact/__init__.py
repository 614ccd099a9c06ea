"""Artifacts at rest: collecting the files that become one, and reading one lazily."""

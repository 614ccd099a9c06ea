"""Readers of other registries, caches and folders: what they hold, version by version. Nothing is run or changed."""

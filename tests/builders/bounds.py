"""A guard against work without bounds."""

HANG = 20.0
"""Seconds of CPU that nothing small takes, however busy the machine. How fast things are is measured in
``benchmarks/``: ``audit_speed.py`` and ``scanners.py`` print the slowest sample."""

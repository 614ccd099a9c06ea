"""Ports: what each kind of part promises, as Protocols of a few methods. No implementation lives here.

Every port has one contract suite in ``assay.testing`` that runs over each implementation.
"""

"""Use cases: what Assay does, in terms of ports, knowing no store, catalog, format or framework by name."""

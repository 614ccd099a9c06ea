"""Places that are not ours: OCI image layouts today, registries and hubs later."""

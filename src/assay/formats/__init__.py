"""Formats: one file per way models are laid out. None imports a framework; none knows another's insides."""

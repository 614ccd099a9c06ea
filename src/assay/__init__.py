"""Assay: trained-model artifacts, packed, understood, verified and versioned under one digest."""

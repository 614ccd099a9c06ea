"""Conversion to safe forms, each with a proof that the result is the same model."""

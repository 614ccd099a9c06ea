"""Rehearsals: the clean environment around a model, and the program that loads it in there."""

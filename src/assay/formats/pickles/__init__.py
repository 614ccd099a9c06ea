"""Pickles of estimators and arrays: plain, joblib, skops."""

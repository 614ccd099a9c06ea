"""Boosted trees: XGBoost, LightGBM and CatBoost."""

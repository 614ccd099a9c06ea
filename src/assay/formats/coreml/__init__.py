"""Core ML models and packages."""

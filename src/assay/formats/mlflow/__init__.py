"""MLflow model directories."""

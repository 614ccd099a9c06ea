"""TensorFlow: SavedModel, checkpoints, frozen graphs and TensorFlow Lite."""

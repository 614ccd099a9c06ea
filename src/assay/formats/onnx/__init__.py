"""ONNX: graphs, subgraphs, functions and side files."""

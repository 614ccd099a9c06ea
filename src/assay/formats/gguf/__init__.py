"""GGUF: metadata, tokenizer and quantised tensors."""

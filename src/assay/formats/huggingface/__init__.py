"""Folders of the Hugging Face libraries: configuration, tokenizer, card; weights belong to their own formats."""

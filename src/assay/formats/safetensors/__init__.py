"""safetensors: single files and shards."""

"""PyTorch: what ``torch.save``, ``torch.jit``, ``torch.export`` and ``torch.package`` write."""

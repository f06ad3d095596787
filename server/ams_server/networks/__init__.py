"""Neural networks in plain PyTorch."""

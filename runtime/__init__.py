"""Prompt → clip. Knows no backend by name, and no PyTorch."""

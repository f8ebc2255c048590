"""Checkpoints by name: download, bundled, listed, and their cards."""

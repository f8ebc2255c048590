"""Checkpoint files from the Hub: downloaded by commit, verified by hash, with typed errors."""

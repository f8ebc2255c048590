"""Whole folders and shards of pictures, on all cores and GPUs of a machine or a cluster, by Ray Data.

``python -m denoiser.bulk INPUT OUTPUT``; docs/bulk.md.
"""

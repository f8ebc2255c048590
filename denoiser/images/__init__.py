"""Any picture <-> float array; files; tiles."""

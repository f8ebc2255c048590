"""Timings. Never part of the tests: a busy machine is no bug."""

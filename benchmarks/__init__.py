"""Benchmarks against other ways of batching: `make bench`."""

"""Tests of `batcher.http`."""

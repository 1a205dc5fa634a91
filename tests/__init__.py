"""Tests of `batcher`, one file for each module of it, and of the house around it."""

"""Adapters of libraries that do what a batcher does: each as thin as it can be, with what suits that library best."""

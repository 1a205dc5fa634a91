"""What fits a `Batcher` into frameworks; each module needs the extra of its framework's name."""

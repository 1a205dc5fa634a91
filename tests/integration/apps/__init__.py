"""Applications as users write them, run under real servers."""

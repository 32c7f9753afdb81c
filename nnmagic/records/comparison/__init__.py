"""Two runs side by side: which calls are the same, how far they differ, and where they part."""

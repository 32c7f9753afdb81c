"""What tracing and summing up a network costs: `python -m benchmarks`."""

"""A record read from a file: put together, and checked."""

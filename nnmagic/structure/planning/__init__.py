"""A training on many ranks, planned: how they cut a network, and the memory that each one takes."""

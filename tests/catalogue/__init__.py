"""Failures that people meet: each a program, what nnmagic says of it, and its remedy."""

"""A real run, written down: every call, function and gradient goes into a log."""

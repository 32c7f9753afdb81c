"""The mark of fields that are of the running process alone, such as a lock or a network."""

LIVE = {"live": True}
"""The metadata of such a field: pickles and files leave it out."""

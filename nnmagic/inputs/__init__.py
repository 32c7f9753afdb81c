"""An input for a network where none is given: declared, meant by its arguments, or tried."""

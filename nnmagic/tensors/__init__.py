"""One tensor, measured: its statistics and the values that are kept, on any device."""

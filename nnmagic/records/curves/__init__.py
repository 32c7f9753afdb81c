"""The quantities of a run over its iterations: as data, as bars, as lines and as a figure."""

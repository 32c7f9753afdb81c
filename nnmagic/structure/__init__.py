"""A network without a run: its layers, shapes, parameters, FLOPs and memory."""

"""Export of a model as graphs that run without this package, and mostly without PyTorch."""

"""Whole λ-paths of jaxreg and of the peers that are installed: `python -m experiments.benchmarks.paths`."""

"""Whole λ-paths: jaxreg beside the peers that are installed; run `python -m experiments.benchmarks.paths`."""

"""Measurements of speed and memory: each file is one command that prints a table; ratios, not seconds."""

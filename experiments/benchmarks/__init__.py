"""Benchmarks of speed, memory and correctness: each is one command that prints a table of ratios."""

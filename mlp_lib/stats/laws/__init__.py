"""Scaling laws fitted to a table of runs: loss against parameters, examples and compute, and what stays open."""

"""Intervals between seeds, learning curves, equivalent examples."""

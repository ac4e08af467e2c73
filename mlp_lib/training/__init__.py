"""Trains one run to weights, or several side by side."""

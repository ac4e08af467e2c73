"""RQ2: what augmentation is worth in points, in examples and in first-layer weights (claim 12)."""

"""RQ1: what a fixed permutation of the pixels does (claim 15)."""

"""RQ5: what pre-training on one data set is worth on another (claims 8 and 9)."""

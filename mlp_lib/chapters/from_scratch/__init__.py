"""RQ1: MLPs and a CNN from scratch, with and without augmentation (claims 1, 2, 3)."""

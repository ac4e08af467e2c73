"""RQ1: what each ingredient of the B-MLP and of its recipe is worth, at equal training FLOPs (claim 13)."""

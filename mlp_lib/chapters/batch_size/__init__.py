"""RQ2: does a larger batch make an MLP generalise better? (claim 4)"""

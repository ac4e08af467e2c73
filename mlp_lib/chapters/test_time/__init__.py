"""RQ5: averaging over crops at test time (claims 10 and 11)."""

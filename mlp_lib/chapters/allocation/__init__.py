"""RQ4: parameters or examples, and what an inductive bias is worth (claim 7)."""

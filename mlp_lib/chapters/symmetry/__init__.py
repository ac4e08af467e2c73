"""RQ4: what a convolution is worth where the symmetry of the task is known and can be turned up."""

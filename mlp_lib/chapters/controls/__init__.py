"""RQ1: every family on the same images, tuned by the same number of trials."""

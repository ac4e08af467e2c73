"""RQ1: what each setting moves on which the paper is silent."""

"""Finds which runs are missing, and trains them: in what order, in which processes, within which budget."""

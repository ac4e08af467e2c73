"""A reproducible study of "Scaling MLPs: A Tale of Inductive Bias" (Bachmann et al., NeurIPS 2023).

The road: a `Run` describes a training (records/run.py), `ensure` trains what the store lacks (sweeps/ensure.py), a
`Record` keeps what came of it (records/record.py), a frame of records becomes figures (plots/, chapters/) and verdicts
(chapters/claims.py, by the rules of each chapter's rules.py).
"""

__version__ = "0.1.0"

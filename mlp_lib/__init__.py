"""A reproducible study of "Scaling MLPs: A Tale of Inductive Bias" (Bachmann et al., NeurIPS 2023).

The road: a `Run` describes a training (runs.py), `ensure` trains what the store lacks (ensure.py), a `Record` keeps
what came out (records.py), a frame of records becomes figures (plots/) and verdicts (claims.py, by the rules of
rules.py).
"""

__version__ = "0.1.0"

"""Networks by name, with their parameters and FLOPs."""

from mlp_lib.models.factory import build, build_for, has_batch_norm, parameter_counts

__all__ = ["build", "build_for", "has_batch_norm", "parameter_counts"]

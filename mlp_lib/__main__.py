"""`python -m mlp_lib`."""

import os

# Waiting threads sleep instead of spinning: two trainings side by side otherwise slow each other down many times over.
# It has to stand in the environment before torch is imported.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from mlp_lib.cli import main  # noqa: E402

if __name__ == "__main__":
    main()

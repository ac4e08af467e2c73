"""Skips what needs CIFAR where it is not at hand, and says how to get it; a folder of images for one test."""

import os
import subprocess
from pathlib import Path

import pytest

from mlp_lib.datasets import data_root

# Several test processes share the cores: threads that wait must not spin. It must stand before torch is loaded.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

FOLDERS = {"cifar10": "cifar-10-batches-py", "cifar100": "cifar-100-python"}


def pytest_collection_modifyitems(items):
    """`@pytest.mark.cifar` needs CIFAR-10; `@pytest.mark.cifar("cifar100")` the sets it names."""
    for item in items:
        marker = item.get_closest_marker("cifar")
        if marker is None:
            continue
        for name in marker.args or ("cifar10",):
            if not (data_root() / FOLDERS[name]).is_dir():
                item.add_marker(pytest.mark.skip(reason=f"needs {name}: python -m mlp_lib fetch {name}"))


@pytest.fixture
def root(tmp_path, monkeypatch):
    """An empty folder as $MLP_LIB_DATA."""
    from helpers import forget

    monkeypatch.setenv("MLP_LIB_DATA", str(tmp_path))
    forget()
    return tmp_path


@pytest.fixture
def open_root(monkeypatch):
    """The same, in a folder that every user may read and write: pytest's own belong to the one who runs the tests."""
    import shutil
    import tempfile

    from helpers import forget

    folder = Path(tempfile.mkdtemp()).resolve()
    folder.chmod(0o777)
    monkeypatch.setenv("MLP_LIB_DATA", str(folder))
    forget()
    yield folder
    subprocess.run(["chmod", "-R", "u+rwX", str(folder)], check=False)
    shutil.rmtree(folder, ignore_errors=True)

"""Skips what needs CIFAR where it is not at hand, and says how to get it; a folder of images for one test."""

import pytest

from mlp_lib.datasets import data_root

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

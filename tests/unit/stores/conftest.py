"""What the tests of stores share."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

import pytest
from botocore.loaders import JSONFileLoader


@pytest.fixture(scope="session", autouse=True)
def read_once() -> Iterator[None]:
    """Read boto's descriptions of services once: each new session would, and these tests make one
    for every store.
    """
    loader = JSONFileLoader()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(JSONFileLoader, "load_file", staticmethod(cache(loader.load_file)))
        yield

"""For all tests: hypothesis without a clock and with the same examples every time; a full disk."""

import resource
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

import pytest
from hypothesis import settings

import sampling

settings.register_profile("fixed", deadline=None, derandomize=True)
settings.register_profile("fuzz", deadline=None)
settings.load_profile("fuzz" if sampling.FACTOR else "fixed")


@pytest.fixture
def small_files() -> AbstractContextManager[None]:
    """Inside it no file grows beyond 4 KiB: writing then fails as on a full disk."""

    @contextmanager
    def limit() -> Iterator[None]:
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    return limit()

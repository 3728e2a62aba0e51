"""Where a study is kept, so that workers in several processes or on several machines share it."""

import re
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import BaseStorage, JournalStorage, RDBStorage, RetryHeartbeatStaleTrialCallback
from optuna.storages.journal import JournalFileBackend
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.pool import NullPool

from undertow.app.errors import UserError

HEARTBEAT = 10  # seconds between the signs of life of a worker
GRACE = 60  # seconds without one after which it is taken for dead
WAIT = 60  # seconds until SQLite gives up on a file that another process writes
ATTEMPTS = 10  # to open a database while other workers make its tables
RETRIES = 3  # of a trial whose worker died
DRIVER = "postgresql+psycopg://"  # SQLAlchemy before 2.1, which Python 3.10 has, would take psycopg2

optuna.logging.set_verbosity(optuna.logging.ERROR)


@contextmanager
def unsettled() -> Iterator[None]:
    """Silence Optuna's warnings that a function may change in a later version."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        yield


def open_storage(url: str | None, folder: Path) -> BaseStorage:
    """Open the storage of a study.

    Args:
        url: A database as SQLAlchemy names it (``postgresql://...``), ``journal:FILE``, or
            ``grpc://HOST:PORT`` of a server of Optuna. None: SQLite in ``folder``.
        folder: The folder of the study.

    Returns:
        The storage.

    Raises:
        UserError: It cannot be reached, or its driver is not installed.
    """
    flag = f"--storage {url}"
    try:
        if url is not None and url.startswith("journal:"):
            return JournalStorage(JournalFileBackend(url.removeprefix("journal:")))
        if url is not None and url.startswith("grpc://"):
            return _grpc(url.removeprefix("grpc://"), flag)
        with unsettled():
            return _database(url or f"sqlite:///{(folder / 'study.db').absolute()}")
    except ImportError as error:
        missing = getattr(error.__cause__ or error.__context__ or error, "name", None)
        raise UserError(f"{flag}: needs the Python package {missing or 'of its database'}") from None
    except (SQLAlchemyError, OSError) as error:
        reason = str(getattr(error, "orig", None) or error).strip().splitlines()[0]
        raise UserError(f"{flag if url else folder}: the study cannot be opened: {reason}") from None


def _database(url: str) -> RDBStorage:
    url = re.sub("^postgres(ql)?://", DRIVER, url)
    options: dict[str, Any] = {"pool_pre_ping": True}
    if url.startswith("sqlite"):
        options = {"connect_args": {"timeout": WAIT}, "poolclass": NullPool}  # no connection stays open
    for left in reversed(range(ATTEMPTS)):
        try:
            return RDBStorage(
                url,
                engine_kwargs=options,
                heartbeat_interval=HEARTBEAT,
                grace_period=GRACE,
                heartbeat_stale_trial_callback=RetryHeartbeatStaleTrialCallback(max_retry=RETRIES),
            )
        except DBAPIError as error:  # another worker makes the tables of a new database at this moment
            if not left or not re.search(
                "already exists|duplicate|UNIQUE constraint", str(error), re.IGNORECASE
            ):
                raise
            time.sleep(1)
    raise AssertionError


def _grpc(place: str, flag: str) -> BaseStorage:
    from optuna.storages import GrpcStorageProxy

    host, _, port = place.partition(":")
    if not port.isdecimal():
        raise UserError(f"{flag}: expected grpc://HOST:PORT")
    with unsettled():
        return GrpcStorageProxy(host=host, port=int(port))


def tells_the_dead(storage: BaseStorage) -> bool:
    """Whether the storage keeps signs of life, so that the trial of a dead worker is found and retried."""
    return hasattr(storage, "get_heartbeat_interval")  # a database, also behind the cache that a study adds

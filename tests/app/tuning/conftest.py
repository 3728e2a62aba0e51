"""A PostgreSQL server of our own, where Debian's binaries are present."""

import os
import pwd
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

BINARIES = ("initdb", "pg_ctl", "postgres")


def found(name: str) -> str | None:
    """Where a program of PostgreSQL lies: Debian keeps them out of the path."""
    others = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    return shutil.which(name, path=os.pathsep.join([os.environ["PATH"], *map(str, others)]))


@pytest.fixture(scope="session")
def postgresql():
    """The address of a database in a fresh server, which never runs as root."""
    pytest.importorskip("psycopg")
    programs = {name: found(name) for name in BINARIES}
    if not all(programs.values()):
        pytest.skip("no PostgreSQL on this machine: initdb, pg_ctl and postgres are needed")
    user = {"user": _nobody()} if os.geteuid() == 0 else {}
    with TemporaryDirectory(prefix="pg", dir="/tmp") as folder:  # short: it holds a socket too
        place = Path(folder) / "data"
        if user:
            shutil.chown(folder, user["user"])
        port = _free_port()

        def run(name: str, *arguments: str) -> None:
            log = subprocess.DEVNULL
            subprocess.run(
                [programs[name], *arguments], check=True, stdout=log, stderr=log, cwd=folder, **user
            )

        run("initdb", "-D", str(place), "-U", "tester", "-A", "trust", "--no-sync")
        options = f"-p {port} -h 127.0.0.1 -k {folder} -F"
        run("pg_ctl", "-D", str(place), "-o", options, "-w", "-l", f"{folder}/log", "start")
        try:
            yield f"postgresql://tester@127.0.0.1:{port}/postgres"
        finally:
            run("pg_ctl", "-D", str(place), "-m", "immediate", "-w", "stop")


SERVER = """
import sys
import optuna
storage = optuna.storages.RDBStorage(sys.argv[1])
optuna.storages.run_grpc_proxy_server(storage, host="127.0.0.1", port=int(sys.argv[2]))
"""


@pytest.fixture
def grpc(tmp_path):
    """The address of a server of Optuna before an SQLite database."""
    pytest.importorskip("grpc")
    port = _free_port()
    server = subprocess.Popen([sys.executable, "-c", SERVER, f"sqlite:///{tmp_path}/served.db", str(port)])
    try:
        until = time.monotonic() + 120
        while not _answers(port):
            assert server.poll() is None and time.monotonic() < until, "the server does not start"
            time.sleep(0.1)
        yield f"grpc://127.0.0.1:{port}"
    finally:
        server.kill()
        server.wait()


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def _answers(port: int) -> bool:
    with socket.socket() as tried:
        return tried.connect_ex(("127.0.0.1", port)) == 0


def _nobody() -> str:
    """A user who is not root."""
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name).pw_name
        except KeyError:
            continue
    pytest.skip("PostgreSQL does not run as root, and there is no other user")

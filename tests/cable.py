"""Two machines in one: network namespaces that a virtual cable joins. Where there are none, tests skip."""

import os
import shutil
import subprocess
from contextlib import contextmanager

import pytest

ADDRESSES = ("10.203.0.1", "10.203.0.2")
DROP = "add table inet cut; add chain inet cut in { type filter hook input priority 0; policy drop; }"


class Cable:
    """The cable between two machines."""

    def __init__(self):
        self.names = [f"undertow-{os.getpid()}-{k}" for k in range(2)]

    def lay(self):
        for name in self.names:
            ip("netns", "add", name)
        one, two = self.names
        ip("link", "add", "c0", "netns", one, "type", "veth", "peer", "name", "c0", "netns", two)
        for name, address in zip(self.names, ADDRESSES, strict=True):
            ip("-n", name, "addr", "add", f"{address}/24", "dev", "c0")
            for link in ("lo", "c0"):
                ip("-n", name, "link", "set", link, "up")

    def within(self, k):
        """What comes before a command that machine ``k`` runs."""
        return ["ip", "netns", "exec", self.names[k]]

    def cut(self):
        subprocess.run([*self.within(1), "nft", DROP], check=True)

    def mend(self):
        subprocess.run([*self.within(1), "nft", "delete table inet cut"], check=True)

    def remove(self):
        for name in self.names:
            subprocess.run(["ip", "netns", "delete", name], check=False, capture_output=True)


def ip(*arguments):
    subprocess.run(["ip", *arguments], capture_output=True, check=True)


@contextmanager
def two_machines():
    """Lay the cable."""
    missing = [name for name in ("ip", "nft") if shutil.which(name) is None]
    if missing:
        pytest.skip(f"no {' and no '.join(missing)} on this machine, so no network to cut")
    if os.geteuid() != 0:
        pytest.skip("only root makes network namespaces")
    made = Cable()
    try:
        try:
            made.lay()
            made.cut()
            made.mend()
        except subprocess.CalledProcessError as error:
            pytest.skip(f"this machine makes no network namespaces: {error}")
        yield made
    finally:
        made.remove()

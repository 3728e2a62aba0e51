"""The network interface through which a process reaches the others.

Gloo takes the one to which the machine's own name leads. On many machines that is the loopback, which no
other machine can reach.
"""

import os
import socket
import struct
import sys

VARIABLE = "GLOO_SOCKET_IFNAME"
SIOCGIFADDR = 0x8915  # Linux: the address of an interface


def choose(address: str | None) -> None:
    """Name the interface that leads to the first machine for gloo, unless a user has.

    Args:
        address: A name or an IPv4 address of the first machine.
    """
    if VARIABLE in os.environ or address is None or not sys.platform.startswith("linux"):
        return
    name = towards(address)
    if name is not None and name != "lo":
        os.environ[VARIABLE] = name


def towards(address: str) -> str | None:
    """Find the interface through which packets to an address leave.

    Args:
        address: A name or an IPv4 address.

    Returns:
        Its name; None if there is none.
    """
    import fcntl

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        try:
            asking.connect((address, 9))  # sends nothing
        except OSError:
            return None
        own = asking.getsockname()[0]
        for _, name in socket.if_nameindex():
            try:
                found = fcntl.ioctl(asking, SIOCGIFADDR, struct.pack("256s", name.encode()))
            except OSError:  # it has no address
                continue
            if socket.inet_ntoa(found[20:24]) == own:
                return name
    return None

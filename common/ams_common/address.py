"""Network addresses as a person writes them."""

from typing import Annotated

from pydantic import AfterValidator


def split_address(address: str) -> tuple[str, int]:
    """Return host and port of "host:port" or "[ipv6]:port"; the host may be empty.

    Raises:
        ValueError: there is no port, or it is not 0 to 65535, or it is a URL.
    """
    if "/" in address:
        raise ValueError("must be host:port, without http:// or a path")
    host, colon, port = address.rpartition(":")
    if not colon or not port.isascii() or not port.isdigit() or int(port) > 65535:
        raise ValueError("must be host:port with a port of 0 to 65535")
    if ":" in host and not (host.startswith("[") and host.endswith("]")):
        raise ValueError("must have an IPv6 address in brackets: [address]:port")
    return host.removeprefix("[").removesuffix("]"), int(port)


def _checked(address: str) -> str:
    split_address(address)
    return address


def _reachable(address: str) -> str:
    if split_address(address)[1] == 0:
        raise ValueError("nothing can be reached at port 0: name the port that the server listens on")
    return address


Address = Annotated[str, AfterValidator(_checked)]
"""A setting of the form host:port to listen on; port 0 is a free one."""
PeerAddress = Annotated[Address, AfterValidator(_reachable)]
"""A setting of the form host:port to connect to."""

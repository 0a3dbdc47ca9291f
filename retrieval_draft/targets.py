"""Where a sidecar or worker is: `unix:PATH` or `HOST:PORT`."""

import ipaddress


def is_loopback(target: str) -> bool:
    """Whether only this machine can reach it; False for a name that would have to be looked up."""
    if target.startswith("unix:"):
        return True
    host = target.rpartition(":")[0].strip("[]")
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False

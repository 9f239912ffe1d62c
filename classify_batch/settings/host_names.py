"""Hosts in addresses: which of them can be asked for. Pure: no name is resolved here."""

from __future__ import annotations

import re
from ipaddress import IPv4Address, IPv6Address

LABEL_CHARACTERS_MAX = 63
NAME_CHARACTERS_MAX = 253

_LABEL = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_-]*[A-Za-z0-9_])?")


def find_host_error(host: str) -> str | None:
    """What is wrong with a host name or IP address, in words that don't repeat it; None where nothing is."""
    if not host:
        return "it names no host"
    if ":" in host:
        return find_ip_error(IPv6Address, host)
    return find_ip_error(IPv4Address, host) if re.fullmatch(r"[0-9.]+", host) else find_name_error(host)


def find_ip_error(kind: type[IPv4Address | IPv6Address], host: str) -> str | None:
    try:
        address = kind(host)
    except ValueError:
        return "its host is no IP address"
    # httpx and TLS know no zones; a link-local address is of no use for an API.
    return "its host has a zone" if getattr(address, "scope_id", None) else None


def find_name_error(host: str) -> str | None:
    odd = "its host has characters that no host name has"
    try:
        name = encode_host(host).removesuffix(".")
    except ValueError:
        return odd
    labels = name.split(".")
    if "" in labels:
        return "its host has two dots in a row, or begins with one"
    if any(len(label) > LABEL_CHARACTERS_MAX for label in labels):
        return f"its host has more than {LABEL_CHARACTERS_MAX} characters between two dots"
    if len(name) > NAME_CHARACTERS_MAX:
        return f"its host has more than {NAME_CHARACTERS_MAX} characters"
    return None if all(map(_LABEL.fullmatch, labels)) and is_decodable(name) else odd


def is_decodable(name: str) -> bool:
    """Whether a name that begins with `xn--` stands for characters that a host name has: httpx decodes such a name."""
    if not name.lower().startswith("xn--"):
        return True
    import idna  # noqa: PLC0415 - as below

    try:
        idna.decode(name)
    except ValueError:
        return False
    return True


def encode_host(host: str) -> str:
    """A host name in ASCII, as it is asked for. Raises ValueError for characters that no host name has."""
    if host.isascii():
        return host
    import idna  # noqa: PLC0415 - its tables are large, and most hosts are ASCII

    return idna.encode(host.lower()).decode("ascii")


def format_address(host: str, port: int) -> str:
    """Host and port as one word; IPv6 addresses stand in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def tls_name(host: str) -> str:
    """A host as TLS and certificates name it: without the dot of the root (RFC 6066, 3)."""
    return host.removesuffix(".")

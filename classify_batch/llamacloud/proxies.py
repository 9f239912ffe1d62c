"""Which proxy leads to the API: one decision, which all calls share.

It is read from the environment, as curl and Python's urllib read it: `HTTPS_PROXY` before `ALL_PROXY`, lower case
before upper case, and hosts in `NO_PROXY` are reached without one. Pure: nothing is opened here.
"""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from urllib.parse import unquote_to_bytes, urlsplit

from classify_batch.errors import SettingsError
from classify_batch.settings.host_names import find_host_error, format_address

_VARIABLES = ("https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY")
_DEFAULT_PORTS = {"http": 80, "https": 443}
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_BROKEN_SCHEME = re.compile(r"/|(?:https?|socks\w*)(?::/(?!/)|:///|//)", re.IGNORECASE)
_QUOTE = re.compile("[\"'“”„‘’]")
_OTHER_SEPARATOR = re.compile("[;|<>，；、]")
"""What separates hosts on other systems, such as `localhost;<local>` on Windows: no host has it."""

_PORT_BEHIND = re.compile(r"(\[[^\]]*\]|[^:]*):([0-9]+)")


@dataclass(frozen=True, slots=True)
class Proxy:
    """An HTTP proxy, to which tunnels through it are asked for (`CONNECT`).

    Attributes:
        scheme: "http", or "https" for a proxy that is itself reached over TLS.
        variable: the environment variable that names it.
        authorization: the value of `Proxy-Authorization`; None where the URL has no user. A secret.
    """

    scheme: str
    host: str
    port: int
    variable: str
    authorization: bytes | None = field(default=None, repr=False)

    @property
    def address(self) -> str:
        """Host and port, and never the password: for messages."""
        return format_address(self.host, self.port)


def choose_proxy(host: str, port: int, environ: Mapping[str, str]) -> Proxy | None:
    """The proxy for an HTTPS address; None where it is reached without one.

    Raises:
        SettingsError: the variable that counts names no HTTP proxy. The message has no password.
    """
    excluding = next((name for name in ("no_proxy", "NO_PROXY") if environ.get(name, "").strip()), "")
    no_proxy = environ.get(excluding, "")
    if needs_no_proxy(host, port, no_proxy):
        return None
    variable = next((name for name in _VARIABLES if environ.get(name, "").strip()), None)
    if variable is None:
        return None
    if (fault := _find_no_proxy_error(host, port, no_proxy)) is not None:
        raise SettingsError(
            f"{excluding} in the environment {fault}",
            hint=f"set {excluding} to hosts with commas between them, without quotes",
        )
    return read_proxy(environ[variable].strip(), variable)


def _find_no_proxy_error(host: str, port: int, no_proxy: str) -> str | None:
    """What in NO_PROXY keeps it from naming an address that was meant: the proxy would be asked against all wishes.
    What is wrong about other hosts does no harm here, and may serve other programs."""
    meant = _QUOTE.sub("", _OTHER_SEPARATOR.sub(",", no_proxy))
    if not _is_quoted(no_proxy.strip()) and not needs_no_proxy(host, port, meant):
        return None
    if _QUOTE.search(no_proxy) is not None:  # as env files of containers keep them
        return "has quotes around its hosts: they must not be a part of it"
    if (found := _OTHER_SEPARATOR.search(no_proxy)) is not None:
        return f"has {found[0]!r} in it, where commas or spaces separate hosts"
    return None


def _is_quoted(value: str) -> bool:
    return value[:1] in ("'", '"') or value[-1:] in ("'", '"')


def read_proxy(url: str, variable: str) -> Proxy:
    """The proxy that a URL names; one without a scheme, such as `proxy.example.com:3128`, is an HTTP proxy."""
    if _is_quoted(url):
        raise _unusable_proxy_error(variable, "has quotes around its URL: they must not be a part of it")
    if _BROKEN_SCHEME.match(url):
        raise _unusable_proxy_error(variable, "is no URL of a proxy: it doesn't begin with http:// or https://")
    url = url if _SCHEME.match(url) else f"http://{url}"
    # First of all: what looks like a host or port may be a part of the password.
    if _has_unescaped_login(url):
        raise _unusable_proxy_error(variable, "has a user or password whose special characters must be written as %XX")
    try:
        parts = urlsplit(url)
        scheme, host, port = parts.scheme, parts.hostname or "", parts.port
    except ValueError:
        raise _unusable_proxy_error(variable, "is no URL of a proxy: its host or port can't be read") from None
    if scheme not in _DEFAULT_PORTS:
        raise _unusable_proxy_error(variable, f"names a {scheme} proxy, and only HTTP proxies can be used")
    if (error := find_host_error(host)) is not None or port == 0:
        raise _unusable_proxy_error(variable, f"is no URL of a proxy: {error or 'there is no port 0'}")
    authorization = None
    if parts.username or parts.password:
        pair = b":".join(map(_decode_login, (parts.username or "", parts.password or "")))
        authorization = b"Basic " + b64encode(pair)
    return Proxy(scheme, host, port or _DEFAULT_PORTS[scheme], variable, authorization)


def _has_unescaped_login(url: str) -> bool:
    """Whether a user or password has one of the characters that end the part of a URL in which they stand."""
    login, at, _ = url.partition("://")[2].rpartition("@")
    return bool(at) and any(sign in login for sign in "/?#[]")


def _decode_login(text: str) -> bytes:
    """A user or password as it is sent: any bytes, written as they are or as %XX."""
    return unquote_to_bytes(text.encode("utf-8", "surrogateescape"))


def _unusable_proxy_error(variable: str, what: str) -> SettingsError:
    return SettingsError(
        f"{variable} in the environment {what}",
        hint=f"set {variable} to a URL like http://proxy.example.com:3128, or the API's host in NO_PROXY",
    )


def needs_no_proxy(host: str, port: int, no_proxy: str) -> bool:
    """Whether `NO_PROXY` names an address. Its entries are separated by commas or spaces, and each is one of these:

    - `*`: all hosts
    - `example.com`, `.example.com` or `*.example.com`: that host, and all hosts below it
    - an IP address; IPv6 with or without brackets
    - a network such as `10.0.0.0/8` or `fe80::/10`, for hosts that are given as IP addresses
    - any of them but a network with `:PORT` behind it, for that port only
    - a URL of one of them, whose scheme and path say nothing; or a host with a slash behind it
    """
    host = host.rstrip(".").lower()  # `example.com.` is the same name, from the root
    return any(_names_address(entry, host, port) for entry in _split_entries(no_proxy))


def _split_entries(no_proxy: str) -> Iterator[str]:
    for entry in re.split(r"[,\s]+", no_proxy.lower()):
        if (scheme := _SCHEME.match(entry)) is not None:
            yield entry[scheme.end() :].partition("/")[0]
        elif entry:
            yield entry.rstrip("/")  # a network has digits behind its slash


def _names_address(entry: str, host: str, port: int) -> bool:
    if (behind := _PORT_BEHIND.fullmatch(entry)) is not None:
        entry = behind[1]
        if behind[2].lstrip("0") != str(port):  # not as numbers: int() refuses thousands of digits
            return False
    if (network := _read_network(entry)) is not None:
        address = _parse_ip_address(host)
        return address is not None and address in network
    domain = entry.removeprefix("*.").strip(".")
    if entry == "*" or ("*" in domain and fnmatchcase(host, domain)):
        return True
    return bool(domain) and (host == domain or host.endswith("." + domain))


def _read_network(entry: str) -> IPv4Network | IPv6Network | None:
    """The network that an entry is; a single address is one, too."""
    try:
        return ip_network(entry.replace("[", "").replace("]", ""), strict=False)
    except ValueError:
        return None


def _parse_ip_address(host: str) -> IPv4Address | IPv6Address | None:
    try:
        address = ip_address(host)
    except ValueError:
        return None
    # ::ffff:10.0.0.1 is the same machine as 10.0.0.1.
    return getattr(address, "ipv4_mapped", None) or address

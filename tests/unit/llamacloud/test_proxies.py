"""Which proxy is used, read from the environment."""

from __future__ import annotations

from base64 import b64encode

import pytest

from classify_batch.errors import SettingsError
from classify_batch.llamacloud.proxies import choose_proxy, needs_no_proxy, read_proxy

HOST = "api.cloud.llamaindex.ai"


def address_of(environ: dict[str, str], host: str = HOST, port: int = 443) -> str | None:
    proxy = choose_proxy(host, port, environ)
    return None if proxy is None else proxy.address


def test_the_variables_count_in_the_order_that_curl_has() -> None:
    """HTTPS_PROXY before ALL_PROXY, lower case before upper case; HTTP_PROXY and empty ones don't count."""
    assert address_of({}) is None
    assert address_of({"HTTP_PROXY": "http://a:1", "HTTPS_PROXY": "", "all_proxy": " "}) is None
    environ = {"ALL_PROXY": "http://d:4"}
    for name, url in (("all_proxy", "http://c:3"), ("HTTPS_PROXY", "http://b:2"), ("https_proxy", "http://a:1")):
        assert address_of(environ) != (address := url.removeprefix("http://"))
        environ[name] = url
        assert address_of(environ) == address


@pytest.mark.parametrize(
    ("url", "address", "scheme"),
    [
        ("http://proxy.example.com:3128", "proxy.example.com:3128", "http"),
        ("proxy.example.com:3128", "proxy.example.com:3128", "http"),
        ("user:pass@proxy:3128/", "proxy:3128", "http"),
        ("http://proxy", "proxy:80", "http"),
        ("HTTPS://proxy", "proxy:443", "https"),
        ("http://[::1]:8080", "[::1]:8080", "http"),
    ],
)
def test_a_proxy_is_read_from_its_url(url: str, address: str, scheme: str) -> None:
    """With or without scheme, user and port."""
    proxy = read_proxy(url, "HTTPS_PROXY")
    assert (proxy.address, proxy.scheme) == (address, scheme)


def test_user_and_password_are_sent_decoded_and_shown_nowhere() -> None:
    """They stand in the URL as %XX, and go out as they are."""
    proxy = read_proxy("http://us%40er:p%3Ass%C3%A9@proxy:1", "HTTPS_PROXY")
    assert proxy.authorization == b"Basic " + b64encode("us@er:p:ssé".encode())
    assert "Basic" not in repr(proxy)


def test_user_and_password_may_be_any_bytes() -> None:
    """Bytes that are no UTF-8, as Python gives them for a variable or as %XX, go out as they are."""
    for url in ("http://us\udcffer:p\udcfe@proxy:1", "http://us%FFer:p%FE@proxy:1"):
        assert read_proxy(url, "HTTPS_PROXY").authorization == b"Basic " + b64encode(b"us\xffer:p\xfe")


def test_a_port_of_thousands_of_digits_is_another_port() -> None:
    """In NO_PROXY it names nothing, and is no fault of ours."""
    assert not needs_no_proxy(HOST, 443, f"{HOST}:{'4' * 5000}")
    assert needs_no_proxy(HOST, 443, f"{HOST}:{'0' * 5000}443")


@pytest.mark.parametrize(
    "url",
    [
        "http://user:s3cret@proxy:abc",
        "http://user:s3cret@proxy:99999",
        "http://user:s3cret@proxy:0",
        "http://user:s3cret@",
        "http://user:s3cret@ex..ample.com:1",
        "http://user:s3cret@256.1.1.1:1",
        "http://user:12/s3cret@proxy:1",
        "http://user:12#s3cret@proxy:1",
        "http://user:12?s3cret@proxy:1",
        "http://[::1:80",
        "socks5://user:s3cret@proxy:1",
        "socks5h://proxy:1",
        "socks4://proxy:1",
        "ftp://proxy:1",
    ],
)
def test_an_unusable_proxy_is_an_error_that_names_its_variable(url: str) -> None:
    """A wrong port, host or scheme: status 2 with the variable's name, and never the password."""
    for variable in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY"):
        with pytest.raises(SettingsError, match=variable) as caught:
            choose_proxy(HOST, 443, {variable: url})
        assert "s3cret" not in str(caught.value) + caught.value.hint
        assert caught.value.hint
        assert choose_proxy(HOST, 443, {variable: url, "NO_PROXY": HOST}) is None


SPECIAL = "special characters must be written as %XX"
NO_SCHEME = "it doesn't begin with http:// or https://"
QUOTES = "has quotes around its URL"


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("http://user:12/s3cret@proxy:1", SPECIAL),
        ("http://user:12#s3cret@proxy:1", SPECIAL),
        ("http://user:12?s3cret@proxy:1", SPECIAL),
        ("http://user:/s3cret@proxy:1", SPECIAL),
        ("http://user:a/s3cret@proxy:1", SPECIAL),
        ("http://us/er:s3cret@proxy:1", SPECIAL),
        ("http://user:s3c[ret@proxy:1", SPECIAL),
        ("user:x/s3cret@proxy:1", SPECIAL),
        ("user:/s3cret@proxy:1", SPECIAL),
        ("socks5://user:x/s3cret@proxy:1", SPECIAL),
        ("//user:s3cret@proxy:1", NO_SCHEME),
        ("http:/user:s3cret@proxy:1", NO_SCHEME),
        ("http:///user:s3cret@proxy:1", NO_SCHEME),
        ("HTTP//user:s3cret@proxy:1", NO_SCHEME),
        ("'http://user:s3cret@proxy:1'", QUOTES),
        ('"http://user:s3cret@proxy:1"', QUOTES),
        ('http://user:s3cret@proxy:1"', QUOTES),
        ("http://user:s3cret@proxy:abc", "its host or port can't be read"),
    ],
)
def test_the_error_says_what_is_wrong_with_the_url(url: str, words: str) -> None:
    """A password that isn't escaped is not called a bad host or port, nor quotes and a broken scheme a bad password."""
    with pytest.raises(SettingsError, match=words) as caught:
        read_proxy(url, "HTTPS_PROXY")
    assert "s3c" not in str(caught.value)


@pytest.mark.parametrize("url", ["http://user:12@34@proxy:1", "http://user:it's@proxy:1", "http://https:1"])
def test_signs_that_need_no_escape_stay(url: str) -> None:
    """The last @ is the one before the host; quotes inside, and hosts with odd names."""
    assert read_proxy(url, "HTTPS_PROXY").port == 1


@pytest.mark.parametrize(
    ("no_proxy", "host"),
    [
        ("*", HOST),
        (HOST, HOST),
        (HOST.upper(), HOST),
        ("llamaindex.ai", HOST),
        (".llamaindex.ai", HOST),
        ("*.llamaindex.ai", HOST),
        ("a.test, .llamaindex.ai ,b.test", HOST),
        ("a.test .llamaindex.ai", HOST),
        (f"{HOST}:443", HOST),
        (f"https://{HOST}", HOST),
        (f"https://{HOST}/", HOST),
        (f"https://{HOST}:443/api/v1", HOST),
        (f"{HOST}/", HOST),
        (HOST, f"{HOST}."),
        ("127.0.0.1", "127.0.0.1"),
        ("127.0.0.0/8", "127.0.0.1"),
        ("10.1.2.3/8", "10.200.0.1"),
        ("10.*", "10.200.0.1"),
        ("10.0.0.0/8", "::ffff:10.1.1.1"),
        ("::1", "::1"),
        ("[::1]", "::1"),
        ("[::1]:443", "::1"),
        ("0:0:0:0:0:0:0:1", "::1"),
        ("fe80::/10", "fe80::1"),
        ("localhost,127.0.0.1,[::1],fe80::/10", "fe80::1"),
    ],
)
def test_no_proxy_names_hosts_addresses_and_networks(no_proxy: str, host: str) -> None:
    """Hosts with all below them, IPv6 with and without brackets, networks, and ports."""
    assert needs_no_proxy(host, 443, no_proxy)
    for name in ("no_proxy", "NO_PROXY"):
        assert choose_proxy(host, 443, {"ALL_PROXY": "socks5h://127.0.0.1:1", name: no_proxy}) is None


@pytest.mark.parametrize(
    ("no_proxy", "host"),
    [
        ("", HOST),
        (",, ,", HOST),
        ("index.ai", HOST),
        ("api", HOST),
        (f"{HOST}:444", HOST),
        ("[::1]:444", "::1"),
        ("10.0.0.0/8", "11.0.0.1"),
        ("10.0.0.0/8", HOST),
        ("fe80::/10", "::1"),
        ("10.0.0.0/99", "10.0.0.1"),
        (".", HOST),
    ],
)
def test_no_proxy_names_nothing_else(no_proxy: str, host: str) -> None:
    """Neither a part of a name, nor another port or network."""
    assert not needs_no_proxy(host, 443, no_proxy)


@pytest.mark.parametrize("name", ["NO_PROXY", "no_proxy"])
@pytest.mark.parametrize(
    "no_proxy",
    ['"localhost,llamaindex.ai"', 'a.test,"llamaindex.ai",b.test', "'llamaindex.ai'", '"a.test", "llamaindex.ai"'],
)
def test_quotes_around_no_proxy_are_an_error_where_there_is_a_proxy(name: str, no_proxy: str) -> None:
    """A file of variables may keep them, and then it names no host: the proxy would be asked against all wishes."""
    with pytest.raises(SettingsError, match=f"{name} in the environment has quotes"):
        choose_proxy(HOST, 443, {"HTTPS_PROXY": "http://proxy:1", name: no_proxy})
    assert choose_proxy(HOST, 443, {name: no_proxy}) is None


@pytest.mark.parametrize("name", ["NO_PROXY", "no_proxy"])
@pytest.mark.parametrize(
    ("no_proxy", "sign"),
    [
        (f"localhost;{HOST}", ";"),
        (f"{HOST}; localhost", ";"),
        (f"{HOST};", ";"),
        (f"localhost|{HOST}", "|"),
        (f"<local>,{HOST};", "<"),
        (f"localhost，{HOST}", "，"),
        (f"a.test,b.test;{HOST}", ";"),
    ],
)
def test_another_separator_in_no_proxy_is_an_error_where_there_is_a_proxy(name: str, no_proxy: str, sign: str) -> None:
    """No host has it, so it names none: the error says which sign it is, and what separates hosts."""
    with pytest.raises(SettingsError, match=f"{name} in the environment has ") as caught:
        choose_proxy(HOST, 443, {"HTTPS_PROXY": "http://proxy:1", name: no_proxy})
    assert repr(sign) in str(caught.value)
    assert f"set {name} to hosts with commas between them" in caught.value.hint
    assert choose_proxy(HOST, 443, {name: no_proxy}) is None
    assert choose_proxy(HOST, 443, {"HTTPS_PROXY": "http://proxy:1", name: f"{no_proxy},{HOST}"}) is None


@pytest.mark.parametrize(
    "no_proxy",
    ["localhost;127.0.0.1", "<local>", "localhost|10.0.0.0/8", "localhost;<local>;*.corp.test", 'a.test,"b",c.test'],
)
def test_what_is_wrong_about_other_hosts_in_no_proxy_stops_nobody(no_proxy: str) -> None:
    """The proxy is asked, as was wished. Where it serves other programs, too, it can't be changed for this one."""
    assert address_of({"HTTPS_PROXY": "http://proxy:1", "NO_PROXY": no_proxy}) == "proxy:1"


def test_a_blank_no_proxy_counts_as_unset() -> None:
    """As any variable does: the other spelling of its name counts."""
    assert address_of({"HTTPS_PROXY": "http://proxy:1", "no_proxy": " ", "NO_PROXY": HOST}) is None

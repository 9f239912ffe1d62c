"""Commands behind real proxies and before real TLS servers, on 127.0.0.1: what is wrong with the machine's network is
reported with the variable that a person changes."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import trustme

from tests.support.command_line import Call, Done, asked, calling, command_process, sandbox
from tests.support.networking import (
    AUTHORITY,
    ConnectProxy,
    listening,
    server_context,
    tls_front,
    tls_refusing,
    write_authority,
)

CONFIG = """
[job]
rules = [{ type = "invoice", description = "has line items and a total" }]
[limits]
settle_s = 0.5
accept_s = 0
patience_s = 3
"""

PROXY_VARIABLES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")
TLS_VARIABLES = ("SSL_CERT_FILE", "SSL_CERT_DIR", "SSLKEYLOGFILE")

Command = Callable[[str], Done]


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Call:
    """The command line, with no proxy, and one authority that is trusted."""
    for name in (*PROXY_VARIABLES, *map(str.lower, PROXY_VARIABLES), *TLS_VARIABLES):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("SSL_CERT_FILE", write_authority(tmp_path / "authority.pem"))
    (tmp_path / "c.toml").write_text(CONFIG)
    (tmp_path / "ids.txt").write_text("a\nb\nc\n")
    (tmp_path / "document.txt").write_text("an invoice")
    return calling(capsys, monkeypatch, tmp_path, patience_s="1")


COMMANDS: dict[str, tuple[str, ...]] = {
    "run": ("run", "c.toml", "--input", "ids.txt", "--run-dir", "run"),
    "check": ("check", "c.toml", "--input", "ids.txt"),
    "jobs list": ("jobs", "list", "--json"),
    "jobs create": ("jobs", "create", "--config", "c.toml", "--file-id", "a"),
    "files list": ("files", "list", "--json"),
    "files upload": ("files", "upload", "document.txt"),
}


@pytest.fixture(params=list(COMMANDS))
def command(request: pytest.FixtureRequest, call: Call) -> Command:
    """Each command that calls the API, given the base URL."""
    return lambda base_url: call(base_url, *COMMANDS[request.param])


@pytest.fixture(scope="module")
def api() -> Iterator[str]:
    """A sandbox that speaks HTTP."""
    with sandbox() as base_url:
        yield base_url


@pytest.fixture(scope="module")
def secure_api(api: str) -> Iterator[str]:
    """The same sandbox over TLS."""
    with tls_front(api) as base_url:
        yield base_url


def all_output(done: Done) -> str:
    """What a command says to a person: on stderr, and `check` on stdout."""
    return done.out + done.err


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


def test_a_root_dot_in_the_base_url_is_no_part_of_the_servers_name(
    command: Command, api: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`https://api.test./` is asked for without a search list, as in Kubernetes; no certificate has that dot."""
    proxy, names = ConnectProxy(), list[str | None]()
    context = server_context("api.test")
    context.sni_callback = lambda _socket, name, _context: names.append(name)
    with tls_front(api, context) as front, proxy.serving() as address:
        monkeypatch.setenv("HTTPS_PROXY", f"http://{address}")  # which finds the host for us
        done = command(f"https://api.test.:{urlsplit(front).port}")
    assert "not trusted" not in all_output(done), all_output(done)
    assert set(names) == {"api.test"}


# --- Proxies ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("over_tls", [False, True])
def test_all_calls_go_through_the_proxy(
    command: Command, secure_api: str, over_tls: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Runs, single calls and uploads go through the proxy that HTTPS_PROXY names, over TLS too, with its password."""
    proxy = ConnectProxy(user="user:p@ss")
    with proxy.serving(server_context() if over_tls else None) as address:
        monkeypatch.setenv("HTTPS_PROXY", f"{'https' if over_tls else 'http'}://user:p%40ss@{address}")
        done = command(secure_api)
    assert done.status == 0 or "not in the project" in all_output(done) or "rejected" in all_output(done), all_output(
        done
    )
    assert set(proxy.asked) == {secure_api.removeprefix("https://")}
    assert not any(b"Bearer" in head for head in proxy.heads)


def test_a_run_of_many_jobs_goes_through_the_proxy(
    call: Call, secure_api: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Connections through a proxy are kept like any others."""
    (tmp_path / "ids.txt").write_text("".join(f"file-{number}\n" for number in range(300)))
    proxy = ConnectProxy()
    with proxy.serving() as address:
        monkeypatch.setenv("all_proxy", address)  # without a scheme, as curl takes it
        done = call(secure_api, *COMMANDS["run"], "--files-per-job", "5")
    assert done.status == 0, done.err
    assert len((tmp_path / "run" / "results.jsonl").read_text().splitlines()) == 300
    assert len(proxy.asked) <= 20


@pytest.mark.parametrize("excluded", ["127.0.0.0/8", "127.0.0.1", "*", "fe80::/10,[::1],127.0.0.1", "10.0.0.0/8 127.*"])
def test_no_proxy_counts_for_all_calls(
    command: Command, secure_api: str, excluded: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A host in NO_PROXY is reached without a proxy, even where the variable names one that can't be used."""
    monkeypatch.setenv("ALL_PROXY", "socks5h://127.0.0.1:9")
    monkeypatch.setenv("NO_PROXY", excluded)
    done = command(secure_api)
    assert done.status in (0, 1, 2), all_output(done)
    assert "PROXY" not in all_output(done)


@pytest.mark.parametrize("url", ["socks5h://127.0.0.1:9", "socks5://127.0.0.1:9", "http://127.0.0.1:port", "ftp://p:1"])
def test_an_unusable_proxy_is_2_with_the_name_of_its_variable(
    command: Command, secure_api: str, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A SOCKS proxy, or a port that is no number: a person changes the variable, and nothing was sent."""
    for variable in ("HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(variable, url)
        done = command(secure_api)
        assert done.status == 2, all_output(done)
        assert variable in all_output(done)
        assert "hint: " in all_output(done)
        monkeypatch.delenv(variable)


ESTABLISHED = {
    "lines without CR": b"HTTP/1.0 200 OK\nVia: proxy\n\n",
    "no reason": b"HTTP/1.1 200\r\n\r\n",
    "100 before it": b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n\r\n",
    "102 twice": b"HTTP/1.1 102 Processing\n\n" * 2 + b"HTTP/1.1 200 OK\n\n",
}


@pytest.mark.parametrize("established", ESTABLISHED.values(), ids=ESTABLISHED.keys())
def test_a_proxy_may_spell_its_answer_in_any_way(
    call: Call, secure_api: str, monkeypatch: pytest.MonkeyPatch, established: bytes
) -> None:
    """As HTTP allows it: lines without CR, no reason, and answers that only say that it goes on (1xx)."""
    with ConnectProxy(established=established).serving() as proxy:
        monkeypatch.setenv("HTTPS_PROXY", f"http://{proxy}")
        done = call(secure_api, *COMMANDS["jobs list"])
    assert done.status == 0, all_output(done)


@pytest.mark.parametrize("status", [403, 407])
def test_a_proxy_that_refuses_is_for_a_person(
    command: Command, secure_api: str, status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """403 and 407 don't pass by themselves: 77, with the proxy's address and without its password."""
    proxy = ConnectProxy(status=status) if status == 403 else ConnectProxy(user="user:right")
    with proxy.serving() as address:
        monkeypatch.setenv("HTTPS_PROXY", f"http://user:wr0ng@{address}")
        done = command(secure_api)
    assert done.status == 77, all_output(done)
    assert address in all_output(done)
    assert str(status) in all_output(done)
    assert "HTTPS_PROXY" in all_output(done)
    assert "wr0ng" not in all_output(done)


@pytest.mark.parametrize(
    ("login", "advice"),
    [("", "put user and password into its URL"), ("user:wr0ng@", "correct the user and")],
)
def test_a_407_advises_what_was_not_done_yet(
    command: Command, secure_api: str, login: str, advice: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever has a password in the URL is told that the proxy doesn't take it."""
    with ConnectProxy(user="user:right").serving() as address:
        monkeypatch.setenv("HTTPS_PROXY", f"http://{login}{address}")
        done = command(secure_api)
    assert f"hint: {advice}" in all_output(done), all_output(done)


@pytest.mark.parametrize("proxied", [False, True])
def test_plain_http_in_the_place_of_tls_is_for_a_person(
    command: Command, secure_api: str, proxied: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`HTTPS_PROXY=https://…` of a proxy that speaks HTTP, or a base URL with such a port: 77, and what to change."""
    with listening(answer_in_plain_http) as port:
        if proxied:
            monkeypatch.setenv("HTTPS_PROXY", f"https://127.0.0.1:{port}")
        done = command(secure_api if proxied else f"https://127.0.0.1:{port}")
    assert done.status == 77, all_output(done)
    assert "what answers there doesn't speak TLS" in all_output(done)
    assert "check host and port of api.base_url; if HTTPS_PROXY begins with https://, try http://" in all_output(done)


async def answer_in_plain_http(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read(65536)
    writer.write(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
    await writer.drain()
    await reader.read(65536)


@pytest.mark.parametrize(("status", "words"), [(403, "403 Forbidden"), (503, "503 Service Unavailable"), (599, "599")])
def test_a_proxys_own_words_are_neither_shown_nor_kept(
    call: Call, secure_api: str, status: int, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may repeat the password in its reason: the status's usual words are on screen and in the run's files."""
    with ConnectProxy(status=status).serving() as address:
        monkeypatch.setenv("HTTPS_PROXY", f"http://user:s3cr3t-pass@{address}")
        said = all_output(call(secure_api, *COMMANDS["run"]))
    assert f"answers {words}" in said
    kept = b"".join(path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file())
    assert words.encode() in kept
    assert b"s3cr3t-pass" not in said.encode() + kept


@pytest.mark.parametrize("behind", [b"", b"no TLS at all, sorry " * 20])
def test_a_proxy_whose_tunnel_breaks_before_tls_is_named(
    command: Command, secure_api: str, behind: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After its 200 it closes the connection, or sends something else: 75, with proxy, variable and a reason."""
    with ConnectProxy(behind=behind).serving() as address:
        monkeypatch.setenv("HTTPS_PROXY", f"http://user:s3cr3t-pass@{address}")
        done = command(secure_api)
    said = all_output(done)
    assert done.status == 75, said
    reason = "WRONG_VERSION_NUMBER" if behind else "the connection was closed before TLS began"
    assert f"through the proxy {address}, which HTTPS_PROXY names: " in said
    assert reason in said
    assert "s3cr3t-pass" not in said


def test_a_dead_proxy_is_named(command: Command, secure_api: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """75, and the message has host and port of the proxy, and never its password."""
    address = f"127.0.0.1:{free_port()}"
    monkeypatch.setenv("HTTPS_PROXY", f"http://user:s3cr3t-pass@{address}")
    done = command(secure_api)
    assert done.status == 75, all_output(done)
    assert address in all_output(done)
    assert "HTTPS_PROXY" in all_output(done)
    assert "s3cr3t-pass" not in all_output(done)


def test_a_proxy_that_fails_before_the_tunnel_stands_makes_no_create_ambiguous(
    call: Call, secure_api: str, api: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing of the request had left: the same create goes out later, and nothing has to be looked for."""
    before = asked(api)["creates_accepted"]
    with ConnectProxy(status=503).serving() as address:
        monkeypatch.setenv("HTTPS_PROXY", f"http://{address}")
        assert call(secure_api, *COMMANDS["run"]).status == 75
    monkeypatch.delenv("HTTPS_PROXY")
    journal = (tmp_path / "run" / "journal.jsonl").read_text()
    assert '"ambiguous":true' not in journal.replace(" ", "")
    assert call(secure_api, *COMMANDS["run"]).status == 0
    assert asked(api)["creates_accepted"] == before + 1


# --- TLS --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("variable", ["SSL_CERT_FILE", "SSL_CERT_DIR"])
def test_an_authority_of_the_environment_is_trusted(
    command: Command, secure_api: str, variable: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file of authorities, or a folder of them, counts for all calls."""
    if variable == "SSL_CERT_DIR":
        monkeypatch.delenv("SSL_CERT_FILE")
        folder = tmp_path / "authorities"
        folder.mkdir()
        pem = (tmp_path / "authority.pem").read_text()
        name = hash_of_authority(tmp_path / "authority.pem")
        (folder / f"{name}.0").write_text(pem)
        monkeypatch.setenv("SSL_CERT_DIR", str(folder))
    assert command(secure_api).status in (0, 1, 2)


def hash_of_authority(path: Path) -> str:
    """The name under which OpenSSL looks for an authority in a folder."""
    import subprocess

    words = ["openssl", "x509", "-hash", "-noout", "-in", str(path)]
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout.strip()


@pytest.mark.parametrize("case", ["another authority", "another host", "expired"])
def test_an_untrusted_certificate_is_for_a_person(
    command: Command, api: str, case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It doesn't pass by itself: 77, and the hint names SSL_CERT_FILE."""
    context = server_context("elsewhere.test" if case == "another host" else "127.0.0.1")
    if case == "another authority":
        monkeypatch.setenv("SSL_CERT_FILE", write_authority(tmp_path / "other.pem", trustme.CA()))
    if case == "expired":
        context = expired_context()
    with tls_front(api, context) as base_url:
        done = command(base_url)
    assert done.status == 77, all_output(done)
    assert "certificate is not trusted" in all_output(done)
    hints = [line for line in all_output(done).splitlines() if line.lstrip().startswith(("hint:", "→", "fix"))]
    assert "SSL_CERT_FILE" in "".join(hints), all_output(done)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_server_that_wants_a_clients_certificate_is_for_a_person(command: Command, version: ssl.TLSVersion) -> None:
    """Nobody here has one, and another try changes nothing: 77, and the hint says so."""
    context = server_context()
    context.verify_mode = ssl.CERT_REQUIRED
    AUTHORITY.configure_trust(context)
    context.maximum_version = version
    with tls_refusing(context) as base_url:
        done = command(base_url)
    assert done.status == 77, all_output(done)
    assert "refuses to speak TLS with this client" in all_output(done)
    assert "a client's certificate" in all_output(done)


def test_a_proxy_that_wants_a_clients_certificate_is_for_a_person(
    call: Call, monkeypatch: pytest.MonkeyPatch, secure_api: str
) -> None:
    """Likewise, and the message names the proxy."""
    context = server_context()
    context.verify_mode = ssl.CERT_REQUIRED
    AUTHORITY.configure_trust(context)
    with tls_refusing(context) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", proxy)
        done = call(secure_api, *COMMANDS["jobs list"])
    assert done.status == 77, all_output(done)
    assert f"the proxy {proxy.removeprefix('https://')}, which HTTPS_PROXY names" in all_output(done)
    assert "a client's certificate" in all_output(done)


def expired_context() -> ssl.SSLContext:
    import datetime

    from tests.support.networking import AUTHORITY

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ended = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=1)
    AUTHORITY.issue_cert("127.0.0.1", not_after=ended).configure_cert(context)
    return context


@pytest.mark.parametrize("what", ["missing", "a folder", "no certificate", "empty", "unreadable path"])
def test_an_unusable_certificate_file_is_2_with_its_variable(
    command: Command, secure_api: str, what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Missing, a folder, no certificate: a person changes SSL_CERT_FILE, and nothing was sent."""
    place = tmp_path / "certificates.pem"
    if what == "a folder":
        place.mkdir()
    elif what == "no certificate":
        place.write_text("no certificate")
    elif what == "empty":
        place.write_text("")
    elif what == "unreadable path":
        place = tmp_path / "c.toml" / "certificates.pem"
    monkeypatch.setenv("SSL_CERT_FILE", str(place))
    done = command(secure_api)
    assert done.status == 2, all_output(done)
    assert "SSL_CERT_FILE" in all_output(done)
    assert str(place) in all_output(done)


@pytest.mark.parametrize(("variable", "name"), [("SSLKEYLOGFILE", "absent/keys.log"), ("SSL_CERT_DIR", "absent")])
def test_other_variables_of_tls_are_2_with_their_name(
    command: Command, secure_api: str, variable: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A key log in a folder that isn't there, a folder of authorities that isn't there."""
    if variable == "SSL_CERT_DIR":
        monkeypatch.delenv("SSL_CERT_FILE")
    monkeypatch.setenv(variable, str(tmp_path / name))
    done = command(secure_api)
    assert done.status == 2, all_output(done)
    assert variable in all_output(done)
    assert str(tmp_path / name) in all_output(done)


@contextmanager
def pipe_at(path: Path, data: bytes) -> Iterator[None]:
    """A named pipe that gives `data` to the first who reads it, and may be written to."""

    def give() -> None:
        with suppress(BrokenPipeError), path.open("wb") as pipe:
            pipe.write(data)

    os.mkfifo(path)
    giver = threading.Thread(target=give)
    giver.start()
    try:
        yield
    finally:
        reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        giver.join()  # it may come to open its end only now: it would wait for ever for a reader that is gone
        os.close(reader)


@pytest.mark.parametrize("variable", ["SSL_CERT_FILE", "SSLKEYLOGFILE"])
def test_a_pipe_in_a_variable_of_tls_is_2_with_its_name(
    command: Command, secure_api: str, variable: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also one that has another end: the next command, or account, would wait for it."""
    place = tmp_path / "pipe"
    with pipe_at(place, (tmp_path / "authority.pem").read_bytes()):
        kept = os.open(place, os.O_RDWR) if variable == "SSLKEYLOGFILE" else None
        monkeypatch.setenv(variable, str(place))
        done = command(secure_api)
        if kept is not None:
            os.close(kept)
    assert done.status == 2, all_output(done)
    assert f"{variable} in the environment names '{place}', which is a pipe" in all_output(done)
    assert f"let {variable} name a file" in all_output(done)


@pytest.mark.parametrize(
    ("variable", "words"),
    [
        ("SSL_CERT_FILE", "jobs list --base-url https://127.0.0.1:9"),
        ("SSLKEYLOGFILE", "jobs list --base-url https://127.0.0.1:9"),
        ("SSL_CERT_FILE", "check c.toml --base-url http://127.0.0.1:9 --input s3://bucket/key"),
    ],
)
def test_a_silent_pipe_in_a_variable_of_tls_is_not_waited_for(variable: str, words: str, tmp_path: Path) -> None:
    """Nobody holds its other end: opening it would wait for ever, and no signal would end that."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "c.toml").write_text(CONFIG)
    store = {"AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "y", "AWS_ENDPOINT_URL": "https://127.0.0.1:9"}
    environ = {variable: str(tmp_path / "pipe"), "LLAMA_CLOUD_API_KEY": "sandbox", "AWS_REGION": "us-east-1", **store}
    done = command_process(*words.split(), folder=tmp_path, environ=environ)
    assert done.returncode == 2, done.stderr
    assert f"error: {variable} in the environment names" in done.stderr
    assert "which is a pipe" in done.stderr


def test_the_null_device_takes_the_keys_of_connections(
    call: Call, secure_api: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So a key log is turned off where it can't be unset."""
    monkeypatch.setenv("SSLKEYLOGFILE", os.devnull)
    assert call(secure_api, *COMMANDS["jobs list"]).status == 0


def test_variables_of_tls_mean_nothing_for_plain_http(
    command: Command, api: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server on this machine, without TLS, needs neither certificates nor a proxy."""
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "absent"))
    monkeypatch.setenv("SSLKEYLOGFILE", str(tmp_path / "absent" / "log"))
    monkeypatch.setenv("ALL_PROXY", "socks5h://127.0.0.1:9")
    assert command(api).status in (0, 1, 2)


# --- Addresses --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "host",
    [
        "ex..ample.com",
        "a" * 64 + ".com",
        "\u00ad",
        "ex\u00adample.com",
        "256.1.1.1",
        "exa%6dple.com",
        "a.com:0",
        ".com",
        "example.com/?",
        "example.com/#",
        "example.com#/",
        "@example.com",
    ],
)
def test_an_address_that_cannot_be_asked_for_is_2(command: Command, host: str) -> None:
    """Before anything is resolved or sent."""
    done = command(f"https://{host}")
    assert done.status == 2, all_output(done)
    assert "base_url" in all_output(done)


@pytest.mark.parametrize("end", ["/api/v1", "/api/v1/", "/api", "/api/v2"])
def test_a_base_url_that_ends_like_the_paths_is_reported(command: Command, api: str, end: str) -> None:
    """404 from everywhere, and the hint says which part of base_url is too much."""
    done = command(api + end)
    assert done.status == 77, all_output(done)
    assert f"leave {end.rstrip('/')} out of api.base_url" in all_output(done)


def test_the_hint_about_paths_is_also_in_json(call: Call, api: str) -> None:
    """Programs get it, too."""
    done = call(f"{api}/api/v1", *COMMANDS["check"], "--json")
    assert "leave /api/v1 out of api.base_url" in json.dumps(json.loads(done.out))


@pytest.mark.parametrize("variable", ["SSL_CERT_FILE", None])
@pytest.mark.skipif(ssl.OPENSSL_VERSION_INFO < (3,), reason="older ones have no modules")
@pytest.mark.usefixtures("call")
def test_an_openssl_without_algorithms_is_2_and_no_fault_of_a_file(variable: str | None, tmp_path: Path) -> None:
    """A configuration of OpenSSL that wants a module which isn't there (FIPS) leaves it without any cipher."""
    module = "[module]\nmodule = /nowhere/fips.so\nactivate = 1\n"
    (tmp_path / "openssl.cnf").write_text(f"openssl_conf = o\n[o]\nproviders = p\n[p]\nfips = module\n{module}")
    environ: dict[str, str | None] = {"OPENSSL_CONF": str(tmp_path / "openssl.cnf"), "SSL_CERT_FILE": None}
    if variable is not None:
        environ[variable] = write_authority(tmp_path / "authority.pem")
    words = (*COMMANDS["run"], "--base-url", "https://127.0.0.1:9")
    done = command_process(*words, folder=tmp_path, environ=environ, status=2)
    assert "OpenSSL can't be used" in done.stderr
    assert "OPENSSL_CONF" in done.stderr

"""Moto's server with S3's API, in a process of its own; where moto isn't installed, tests that need it are skipped."""

from __future__ import annotations

import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple
from urllib.parse import quote

import pytest

from tests.support.object_server import NO_STORE

_SERVE = """
import sys, time
from moto.server import ThreadedMotoServer
server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
server.start()
print("http://%s:%d" % server.get_host_and_port(), flush=True)
sys.stdin.read()
"""


_OWNER = (
    "AWS4-HMAC-SHA256 Credential=testing/20261122/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=unchecked"
)


class S3Server(NamedTuple):
    """A server with one bucket, called `bucket`."""

    base_url: str

    @property
    def environ(self) -> dict[str, str | None]:
        """The variables by which it is S3."""
        return {
            **NO_STORE,
            "AWS_ACCESS_KEY_ID": "testing",
            "AWS_SECRET_ACCESS_KEY": "testing",
            "AWS_ENDPOINT_URL": self.base_url,
            "AWS_ALLOW_HTTP": "true",
            "AWS_REGION": "us-east-1",
        }

    def put(self, key: str, data: bytes) -> None:
        """Keeps an object."""
        self._call("PUT", f"/{quote(key)}", data)

    def get(self, key: str) -> bytes:
        """An object's bytes."""
        return self._call("GET", f"/{quote(key)}")

    def has_uploads(self) -> bool:
        """Whether an upload in parts is neither complete nor aborted."""
        return b"<UploadId>" in self._call("GET", "?uploads")

    def _call(self, method: str, path: str, data: bytes | None = None) -> bytes:
        headers = {"Authorization": _OWNER, "Content-Type": "application/octet-stream"}
        request = urllib.request.Request(f"{self.base_url}/bucket{path}", data, headers, method=method)
        with urllib.request.urlopen(request, timeout=60) as response:
            found: bytes = response.read()
        return found


@contextmanager
def serving_s3() -> Iterator[S3Server]:
    """A server for as long as the block."""
    pytest.importorskip("moto.server")
    words = [sys.executable, "-c", _SERVE]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert process.stdout is not None
        lines = iter(process.stdout.readline, b"")
        server = S3Server(next(line for line in lines if line.startswith(b"http://")).decode().strip())
        server._call("PUT", "")
        try:
            yield server
        finally:
            process.kill()

"""An object store on a socket: as much of the APIs of S3, Google Cloud Storage and Azure as the package asks for.

It keeps nothing but what was sent to it, and can be set to refuse, to fail or to hang. What S3 itself would do, moto's
server says, in `tests/command/test_s3.py`.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from hashlib import md5
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit

from tests.support.command_line import PATIENCE_S

SECRET = "s3cr3t-access-key"
HANG = 0
"""In the place of a status: no answer comes before the server ends."""

Fault = Callable[[str, str], tuple[int, str] | None]
"""Given a method and a path with its query: the status and the store's code in the place of an answer."""


class ObjectServer(ThreadingHTTPServer):
    """The store.

    Attributes:
        objects: by the path, such as `/bucket/key`.
        uploads: parts by number, of the multipart uploads that are neither complete nor aborted.
        asked: each request, as `METHOD /path?query`.
        fault: what goes wrong.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.objects: dict[str, bytes] = {}
        self.uploads: dict[str, dict[int, bytes]] = {}
        self.asked: list[str] = []
        self.fault: Fault = lambda _method, _path: None
        self.ended = threading.Event()
        self.hanging = threading.Event()

    def handle_error(self, request: object, client_address: object) -> None:
        """Whoever was killed, or has heard enough, hangs up."""

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    @property
    def environ(self) -> dict[str, str | None]:
        """The variables by which each of the three kinds of stores is this one."""
        return {
            **NO_STORE,
            "AWS_ACCESS_KEY_ID": "an-access-key",
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_ENDPOINT_URL": self.base_url,
            "AWS_ALLOW_HTTP": "true",
            "GOOGLE_SERVICE_ACCOUNT_KEY": f'{{"gcs_base_url": "{self.base_url}", "disable_oauth": true, '
            '"client_email": "", "private_key": "", "private_key_id": ""}',
            "GOOGLE_ALLOW_HTTP": "true",
            "AZURE_STORAGE_ACCOUNT_NAME": "account",
            "AZURE_STORAGE_ACCOUNT_KEY": "c2VjcmV0",
            "AZURE_STORAGE_ENDPOINT": self.base_url,
            "AZURE_ALLOW_HTTP": "true",
        }


NO_STORE: dict[str, str | None] = {
    **dict.fromkeys(
        (
            *("AWS_PROFILE", "AWS_DEFAULT_PROFILE", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"),
            *("AWS_REGION", "AWS_DEFAULT_REGION", "AWS_ENDPOINT", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"),
            *("AWS_ROLE_ARN", "AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_CONTAINER_CREDENTIALS_FULL_URI", "AWS_ALLOW_HTTP"),
            *("GOOGLE_SERVICE_ACCOUNT", "GOOGLE_APPLICATION_CREDENTIALS", "AZURE_STORAGE_ACCOUNT_NAME"),
        )
    ),
    "AWS_EC2_METADATA_DISABLED": "true",
    "AWS_CONFIG_FILE": "/dev/null",
    "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
    "RUST_BACKTRACE": None,
}
"""The environment of somebody who has never used an object store."""


@contextmanager
def serving_objects() -> Iterator[ObjectServer]:
    """A store, in threads of this process."""
    with ObjectServer() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield server
        finally:
            server.ended.set()
            server.shutdown()
            thread.join()


class _Handler(BaseHTTPRequestHandler):
    server: ObjectServer
    protocol_version = "HTTP/1.1"

    def log_message(self, *_words: object) -> None:
        pass

    def do_GET(self) -> None:
        data = self._find()
        if data is None:
            return
        tag = f'"{md5(data).hexdigest()}"'
        if self.headers.get("If-Match", tag) != tag:
            self._refuse(412, "PreconditionFailed")
            return
        wanted = self.headers.get("Range") or self.headers.get("x-ms-range") or ""
        found = re.fullmatch(r"bytes=(\d+)-(\d+)", wanted)
        if found is None:
            self._answer(200, data, ETag=tag)
        elif int(found[1]) >= len(data):
            self._refuse(416, "InvalidRange")
        else:
            start, end = int(found[1]), min(int(found[2]) + 1, len(data))
            self._answer(206, data[start:end], ETag=tag, Content_Range=f"bytes {start}-{end - 1}/{len(data)}")

    def do_PUT(self) -> None:
        data = self._take()
        if data is None:
            return
        if (upload := self._query.get("uploadId")) is not None:
            self.server.uploads[upload][int(self._query["partNumber"])] = data
        else:
            self.server.objects[self._name] = data
        self._answer(201 if "x-ms-version" in self.headers else 200, b"", ETag=f'"{md5(data).hexdigest()}"')

    def do_POST(self) -> None:
        if self._take() is None:
            return
        upload = self._query.get("uploadId")
        if upload is None:
            upload = f"upload-{len(self.server.asked)}"
            self.server.uploads[upload] = {}
            self._answer(200, f"<R><Bucket>b</Bucket><Key>k</Key><UploadId>{upload}</UploadId></R>".encode())
            return
        parts = self.server.uploads.pop(upload)
        self.server.objects[self._name] = b"".join(parts[number] for number in sorted(parts))
        self._answer(200, b"<R><Location>l</Location><Bucket>b</Bucket><Key>k</Key><ETag>e</ETag></R>")

    def do_DELETE(self) -> None:
        if self._take() is not None:
            self.server.uploads.pop(self._query.get("uploadId", ""), None)
            self._answer(204, b"")

    @property
    def _name(self) -> str:
        return unquote(urlsplit(self.path).path)

    @property
    def _query(self) -> dict[str, str]:
        return {name: values[0] for name, values in parse_qs(urlsplit(self.path).query, True).items()}

    def _find(self) -> bytes | None:
        if self._take() is None:
            return None
        if self._name not in self.server.objects:
            self._refuse(404, "NoSuchKey" if self._name.startswith("/bucket/") else "NoSuchBucket")
        return self.server.objects.get(self._name)

    def _take(self) -> bytes | None:
        """The body of a request; None where it is answered already."""
        data = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.server.asked.append(f"{self.command} {self.path}")
        fault = self.server.fault(self.command, self.path)
        if fault is None:
            return data
        if fault[0] != HANG:
            self._refuse(*fault)
            return None
        self.server.hanging.set()
        self.server.ended.wait(PATIENCE_S)
        self.close_connection = True
        return None

    def _refuse(self, status: int, code: str) -> None:
        self._answer(status, f"<Error><Code>{code}</Code><Message>{SECRET}</Message></Error>".encode())

    def _answer(self, status: int, data: bytes, **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Last-Modified", "Sun, 22 Nov 2026 01:00:00 GMT")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

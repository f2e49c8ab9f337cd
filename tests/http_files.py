"""An HTTP server on loopback that serves one file and fails as the tests tell it to."""

import hashlib
import random
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from showtell.data.datasets.transfer import RemoteFile

BODY = random.Random(1).randbytes(300_000)
SHA = hashlib.sha256(BODY).hexdigest()


class Server:
    """Serves BODY; `plan` holds the answers to the next requests, later ones are answered correctly."""

    def __init__(self):
        self.plan: list[Callable[[Handler], None]] = []
        self.ranges: list[str | None] = []
        self.paths: list[str] = []
        self.if_ranges: list[str | None] = []
        self.httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.httpd.server = self
        self.httpd.handle_error = lambda *_: None  # clients hang up on purpose
        self.thread = threading.Thread(target=self.httpd.serve_forever, args=(0.01,))
        self.thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.httpd.server_port}/file.zip"

    def stop(self) -> None:
        self.httpd.shutdown()
        self.httpd.server_close()
        self.thread.join()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_GET(self):
        server = self.server.server
        server.ranges.append(self.headers.get("Range"))
        server.if_ranges.append(self.headers.get("If-Range"))
        server.paths.append(self.path)
        action = server.plan.pop(0) if server.plan else good
        try:
            action(self)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True

    def answer(self, status: int, body: bytes, length: int | None = -1, **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        if length is not None:
            self.send_header("Content-Length", str(len(body) if length == -1 else length))
        self.end_headers()
        self.wfile.write(body)
        self.wfile.flush()

    def start(self) -> int:
        span = self.headers.get("Range")
        return int(span.removeprefix("bytes=").rstrip("-")) if span else 0


def good(handler: Handler, body: bytes = BODY, tag: str = '"one"') -> None:
    start = handler.start()
    if start and handler.headers.get("If-Range") not in (None, tag):
        start = 0
    if start >= len(body):
        handler.answer(416, b"", Content_Range=f"bytes */{len(body)}")
    elif start:
        span = f"bytes {start}-{len(body) - 1}/{len(body)}"
        handler.answer(206, body[start:], Content_Range=span, ETag=tag)
    else:
        handler.answer(200, body, ETag=tag)


def no_range(handler: Handler) -> None:
    handler.answer(200, BODY)


def cut(after: int, ranges: bool = True) -> Callable[[Handler], None]:
    """Announce the full length, send `after` bytes, hang up."""

    def act(handler: Handler) -> None:
        start = handler.start() if ranges else 0
        span = {"Content_Range": f"bytes {start}-{len(BODY) - 1}/{len(BODY)}"} if start else {}
        handler.answer(206 if start else 200, BODY[start : start + after], len(BODY) - start, ETag='"one"', **span)
        handler.close_connection = True

    return act


def status(code: int, **headers: str) -> Callable[[Handler], None]:
    return lambda handler: handler.answer(code, b"no", **headers)


def remote(server: Server, **changes) -> RemoteFile:
    return RemoteFile(**{"name": "file.zip", "urls": (server.url,), "size": len(BODY), "sha256": SHA} | changes)


def folder_is_clean(folder) -> bool:
    return sorted(p.name for p in folder.iterdir() if not p.name.endswith(".lock")) == ["file.zip"]


def unmeasured(body: bytes) -> Callable[[Handler], None]:
    def act(handler: Handler) -> None:
        handler.answer(200, body, None, Connection="close")
        handler.close_connection = True

    return act

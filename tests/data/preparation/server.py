"""A small web server on the loopback interface that can resume, break off and refuse."""

import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Site:
    """What the server offers and what it was asked."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.tags: dict[str, str] = {}
        self.break_after: dict[str, list[int]] = {}  # path -> bytes after which each coming answer breaks off
        self.refuse: dict[str, list[int]] = {}  # path -> HTTP codes of the coming answers
        self.asked: list[tuple[str, str | None]] = []  # (path, Range header)
        self.sent = 0
        self.address = ""


@contextmanager
def serve():
    """Yields the :class:`Site` of a running server."""
    site = Site()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            _answer(site, self)

        def log_message(self, *_args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    site.address = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield site
    finally:
        server.shutdown()
        server.server_close()


def _answer(site: Site, request: BaseHTTPRequestHandler) -> None:
    path, wanted = request.path, request.headers.get("Range")
    site.asked.append((path, wanted))
    if site.refuse.get(path):
        return request.send_error(site.refuse[path].pop(0))
    if path not in site.files:
        return request.send_error(404)
    data, tag = site.files[path], site.tags.get(path, '"one"')
    start = 0
    if wanted and request.headers.get("If-Range") == tag:
        start = int(wanted.removeprefix("bytes=").rstrip("-"))
        if start >= len(data):
            return request.send_error(416)
    request.send_response(206 if start else 200)
    request.send_header("ETag", tag)
    request.send_header("Content-Length", str(len(data) - start))
    request.end_headers()
    end = len(data)
    if site.break_after.get(path):
        end = start + site.break_after[path].pop(0)
    request.wfile.write(data[start:end])
    site.sent += end - start

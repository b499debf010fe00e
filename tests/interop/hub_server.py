"""A small server that speaks the hub's protocol: lists a repository's files, and sends them, also badly."""

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclass
class Hub:
    """One repository, and how it misbehaves."""

    repository: str
    files: dict[str, bytes]
    cut: str = ""  # a file whose first answer ends halfway
    wrong: str = ""  # a file that arrives with another byte
    requests: list[tuple[str, str, str]] = field(default_factory=list)  # method, path, range

    def sibling(self, name: str) -> dict[str, Any]:
        """What the hub lists of a file; large ones have the hash of Git LFS."""
        data = self.files[name]
        git = hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
        entry: dict[str, Any] = {"rfilename": name, "size": len(data), "blobId": git}
        if name.endswith((".safetensors", ".bin")):
            entry["lfs"] = {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data), "pointerSize": 130}
        return entry

    def info(self) -> dict[str, Any]:
        """The answer about the repository."""
        return {
            "id": self.repository,
            "sha": COMMIT,
            "cardData": {"license": "mit"},
            "siblings": [self.sibling(name) for name in self.files],
            "tags": ["license:mit"],
        }


def _handler(hub: Hub) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, format: str, *args: Any) -> None:
            """Nothing."""

        def do_HEAD(self) -> None:
            self._answer(with_body=False)

        def do_GET(self) -> None:
            self._answer(with_body=True)

        def _answer(self, *, with_body: bool) -> None:
            path = self.path.partition("?")[0]
            wanted = self.headers.get("Range", "")
            hub.requests.append((self.command, path, wanted))
            if path.startswith(f"/api/models/{hub.repository}"):
                self._send(200, json.dumps(hub.info()).encode(), {"Content-Type": "application/json"})
                return
            start = f"/{hub.repository}/resolve/{COMMIT}/"
            name = path.removeprefix(start)
            if not path.startswith(start) or name not in hub.files:
                code = "EntryNotFound" if path.startswith(f"/{hub.repository}/") else "RepoNotFound"
                self._send(404, b"", {"X-Error-Code": code, "X-Error-Message": "not there"})
                return
            self._file(name, wanted, with_body=with_body)

        def _file(self, name: str, wanted: str, *, with_body: bool) -> None:
            data, listed = hub.files[name], hub.sibling(name)
            etag = listed["lfs"]["sha256"] if "lfs" in listed else listed["blobId"]
            first = int(wanted.removeprefix("bytes=").partition("-")[0]) if wanted else 0
            if name == hub.wrong:
                data = bytes([data[0] ^ 1]) + data[1:]
            headers = {
                "ETag": f'"{etag}"',
                "X-Repo-Commit": COMMIT,
                "Accept-Ranges": "bytes",
                "Content-Length": str(len(data) - first),
            }
            if wanted:
                headers["Content-Range"] = f"bytes {first}-{len(data) - 1}/{len(data)}"
            self.send_response(206 if wanted else 200)
            for key, value in headers.items():
                self.send_header(key, value)
            self.end_headers()
            if not with_body:
                return
            if name == hub.cut and not wanted:
                hub.cut = ""
                self.wfile.write(data[: len(data) // 2])
                self.wfile.flush()
                self.close_connection = True
                self.connection.close()
                return
            self.wfile.write(data[first:])

        def _send(self, status: int, body: bytes, headers: dict[str, str]) -> None:
            self.send_response(status)
            for key, value in {**headers, "Content-Length": str(len(body))}.items():
                self.send_header(key, value)
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

    return Handler


@contextmanager
def serving(hub: Hub) -> Iterator[str]:
    """The server's address while it runs."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(hub))
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request

import pytest

from frugalclip.cli import main
from frugalclip.core.errors import UsageError
from frugalclip.verbs.serve import is_loopback, read_token, serve

from ..serving.conftest import build, draw, small_model


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("127.0.0.1", True),
        ("127.8.9.1", True),
        ("::1", True),
        ("localhost", True),
        ("0.0.0.0", False),
        ("::", False),
        ("192.168.1.5", False),
        ("localhost.example", False),
    ],
)
def test_only_addresses_of_this_machine_need_no_token(host, expected, tmp_path):
    assert is_loopback(host) is expected
    if not expected:
        with pytest.raises(UsageError, match="--token-file"):
            serve(tmp_path, host=host)


@pytest.mark.parametrize(
    "content", [b"", b"short", b"with a space in it anyway", "schlüssel-schlüssel".encode(), b"\xff" * 20]
)
def test_a_weak_token_is_refused_with_a_way_to_make_one(content, tmp_path):
    (tmp_path / "token").write_bytes(content)
    with pytest.raises(UsageError, match="token"):
        read_token(tmp_path / "token")


def test_a_token_is_what_its_file_holds(tmp_path):
    (tmp_path / "token").write_text("abcdefghijklmnop1234\n")
    assert read_token(tmp_path / "token") == "abcdefghijklmnop1234"
    with pytest.raises(UsageError, match="cannot be read"):
        read_token(tmp_path / "nothing")


def test_a_folder_without_an_index_is_refused_before_a_port_is_taken(tmp_path, capsys):
    assert main(["serve", str(tmp_path)]) == 2
    assert "is not a search index" in capsys.readouterr().err


@pytest.mark.slow
def test_sigterm_ends_the_server_after_its_requests(tmp_path):
    build(tmp_path / "index", small_model(), draw(tmp_path / "data", shades=(40,)))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "frugalclip", "serve", str(tmp_path / "index"), "--port", str(port)]
    server = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env={**os.environ})
    try:
        address, end = f"http://127.0.0.1:{port}/healthz", time.monotonic() + 60
        while True:
            try:
                with urllib.request.urlopen(address, timeout=20) as answer:
                    assert answer.status == 200
                    break
            except urllib.error.URLError:
                assert server.poll() is None and time.monotonic() < end
                time.sleep(0.2)
        with socket.create_connection(("127.0.0.1", port)) as begun:
            begun.sendall(
                b"GET /api/search?q=red&k=2 HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n"
            )
            time.sleep(0.05)
            server.send_signal(signal.SIGTERM)
            answer = b"".join(iter(lambda: begun.recv(65536), b""))
        assert answer.startswith(b"HTTP/1.1 200")
        assert server.wait(30) in (0, -signal.SIGTERM, 143)
    finally:
        server.kill()
        server.communicate()

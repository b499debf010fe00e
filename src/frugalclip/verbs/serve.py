"""`frugalclip serve`: a search page and a JSON API on an index."""

import ipaddress
import logging
from pathlib import Path
from typing import Any

import typer

from frugalclip.core.errors import UsageError, require
from frugalclip.core.paths import user_path
from frugalclip.serving.http import create_app
from frugalclip.serving.limits import LOOPBACK
from frugalclip.serving.served import ServedIndex

LEAST_TOKEN = 16  # characters
_DRAIN = 20  # seconds that requests may take to end after SIGTERM


def serve(
    index: str | Path, *, host: str = "127.0.0.1", port: int = 8000, token_file: str | Path | None = None
) -> None:
    """Serve an index until Ctrl-C or SIGTERM; requests that have begun are answered first.

    Args:
        index: its folder. When the index is replaced, the server goes on with the new one.
        host: address to listen at; any other than this machine's own needs a token.
        port: to listen at.
        token_file: a file with the token that requests must carry.

    Raises:
        UsageError: for an address that other machines reach without a token.
        MissingExtra: without FastAPI, uvicorn or python-multipart.
    """
    uvicorn = require("uvicorn", extra="serve", purpose="serving an index")
    token = None if token_file is None else read_token(token_file)
    is_local = is_loopback(host)
    if not is_local and token is None:
        raise UsageError(
            f"{host} is reached from other machines, and everybody there could read it; write a token into "
            "a file and give it with --token-file, or leave --host out."
        )
    served = ServedIndex(user_path(index), note=lambda line: typer.echo(line, err=True))
    hosts = tuple(dict.fromkeys((*LOOPBACK, host))) if is_local and token is None else ()
    app = create_app(served, token=token, hosts=hosts)
    served.follow()
    name = f"[{host}]" if ":" in host else host
    typer.echo(f"{index}: {len(served.index):,} rows at http://{name}:{port}/ (Ctrl-C ends it)", err=True)
    settings: dict[str, Any] = {"log_level": logging.WARNING, "timeout_graceful_shutdown": _DRAIN}
    settings |= {
        "access_log": False,
        "server_header": False,
        "timeout_keep_alive": 5,
        "h11_max_incomplete_event_size": 65_536,
    }
    try:
        uvicorn.run(app, host=host, port=port, **settings)
    finally:
        served.close()


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches an address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def read_token(file: str | Path) -> str:
    """The token in a file.

    Raises:
        UsageError: if it is short, or cannot be read.
    """
    path = user_path(file)
    try:
        token = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"--token-file {path} cannot be read ({error}); give a text file.") from None
    if len(token) < LEAST_TOKEN or not token.isascii() or any(mark in token for mark in ' ;,"\\\n'):
        raise UsageError(
            f"--token-file {path} holds {len(token)} characters, expected at least {LEAST_TOKEN} letters and "
            f"digits; make one with: python -c 'import secrets; print(secrets.token_urlsafe())' > {path}"
        )
    return token

"""What a request must keep to before anything of it is read: host, token, bytes, time, number at once.

A plain ASGI middleware. A body is read whole, within its limits, before the application sees the request, so
a slow or endless one never reaches the form parser.
"""

import asyncio
import hmac
import json
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from http.cookies import CookieError, SimpleCookie
from typing import Any, final

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]

COOKIE = "frugalclip_token"
LOOPBACK = ("127.0.0.1", "::1", "localhost")
_OPEN = ("/healthz", "/login")  # paths that need no token
_HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-frame-options", b"DENY"),
    (b"cross-origin-resource-policy", b"same-origin"),
)


@dataclass(frozen=True)
class ServerLimits:
    """What one request, and all together, may cost."""

    body_bytes: int = 20_000_000
    open_bytes: int = 10_000  # of a request that needs no token, such as the one that brings it
    seconds: float = 20.0  # for a whole body to arrive
    at_once: int = 256  # requests; more are told to come back
    hits: int = 200  # of one answer
    offset: int = 10_000


class RequestRefusal(Exception):
    """A request that breaks a limit."""

    def __init__(self, status: int, sentence: str) -> None:
        super().__init__(sentence)
        self.status = status


@final
class Guarded:
    """An application behind limits.

    Args:
        application: what answers.
        limits: of requests.
        token: that requests must carry, or None.
        hosts: names in the Host header that are answered; empty for any. It refuses pages of other sites
            that point their own name at this machine.
    """

    def __init__(
        self,
        application: Application,
        *,
        limits: ServerLimits,
        token: str | None = None,
        hosts: tuple[str, ...] = (),
    ) -> None:
        self.application, self.limits, self.token, self.hosts = application, limits, token, hosts
        self._running = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.application(scope, receive, send)
            return
        self._running += 1
        try:
            self._check(scope)
            body = await self._body(scope, receive)
            await self.application(scope, _replayed(body, receive), _with_headers(send))
        except RequestRefusal as refusal:
            await _answer(send, refusal)
        finally:
            self._running -= 1

    def _check(self, scope: Scope) -> None:
        headers = {name: value.decode("latin-1") for name, value in scope["headers"]}
        host = _host_name(headers.get(b"host", ""))
        if self.hosts and host not in self.hosts:
            raise RequestRefusal(
                421, f"this server answers for {', '.join(self.hosts)}; open it by that name."
            )
        if self.token is not None and scope["path"] not in _OPEN and not self._has_token(headers):
            raise RequestRefusal(401, "this server wants a token; open /login, or send it as 'Bearer TOKEN'.")
        if self._running > self.limits.at_once:
            raise RequestRefusal(503, "too many requests at once; try again in a moment.")

    def _has_token(self, headers: dict[bytes, str]) -> bool:
        given = headers.get(b"authorization", "").removeprefix("Bearer ").strip()
        return self.is_token(given) or self.is_token(cookie_of(headers.get(b"cookie", "")))

    def is_token(self, given: str) -> bool:
        """Whether a text is the token, in the same time whatever it is."""
        return self.token is not None and hmac.compare_digest(given.encode(), self.token.encode())

    async def _body(self, scope: Scope, receive: Receive) -> bytes:
        most = self.limits.open_bytes if scope["path"] in _OPEN else self.limits.body_bytes
        declared = next((value for name, value in scope["headers"] if name == b"content-length"), b"0")
        if not declared.isdigit() or int(declared) > most:
            raise RequestRefusal(413, f"the body is larger than {most:,} bytes; send a smaller one.")
        try:
            return await asyncio.wait_for(_read(receive, most), self.limits.seconds)
        except TimeoutError:
            seconds = self.limits.seconds
            raise RequestRefusal(
                408, f"the body did not arrive within {seconds:g} s; send it again."
            ) from None


async def _read(receive: Receive, most: int) -> bytes:
    parts, size = [], 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise RequestRefusal(400, "the body ended early.")
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        if size > most:
            raise RequestRefusal(413, f"the body is larger than {most:,} bytes; send a smaller one.")
        if not message.get("more_body"):
            return b"".join(parts)


def _replayed(body: bytes, receive: Receive) -> Receive:
    """A `receive` that gives a body that has been read, and then what else comes."""
    given = False

    async def replay() -> MutableMapping[str, Any]:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replay


def _with_headers(send: Send) -> Send:
    async def sent(message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message.get("headers", []), *_HEADERS]
        await send(message)

    return sent


async def _answer(send: Send, refusal: RequestRefusal) -> None:
    body = json.dumps({"error": str(refusal)}).encode()
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
        (b"connection", b"close"),  # the rest of a body that was refused is not read
        *_HEADERS,
    ]
    if refusal.status == 503:
        headers.append((b"retry-after", b"1"))
    await send({"type": "http.response.start", "status": refusal.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _host_name(header: str) -> str:
    """The name in a Host header, without its port."""
    name = header.rpartition(":")[0] if header.rpartition(":")[2].isdigit() else header
    return name.strip("[]").lower()


def cookie_of(header: str) -> str:
    """The token in a Cookie header, or an empty text."""
    try:
        found = SimpleCookie(header).get(COOKIE)
    except CookieError:
        return ""
    return found.value if found else ""

"""The page of the server: one document with style and script inside, that loads nothing from elsewhere."""

import base64
import hashlib
from functools import cache
from importlib import resources


@cache
def search_page() -> tuple[bytes, str]:
    """The page, and the content security policy that it is sent with."""
    return _document("page.html", "page.js")


@cache
def login_page() -> tuple[bytes, str]:
    """The form that takes a token, likewise."""
    return _document("login.html", None)


def _document(name: str, script: str | None) -> tuple[bytes, str]:
    style, code = _asset("page.css"), _asset(script) if script else ""
    page = _asset(name).replace("/*STYLE*/", style).replace("/*SCRIPT*/", code)
    policy = {
        "default-src": "'none'",
        "img-src": "'self' blob:",
        "style-src": _hash(style),
        "script-src": _hash(code) if script else "'none'",
        "connect-src": "'self'",
        "form-action": "'self'",
        "base-uri": "'none'",
        "frame-ancestors": "'none'",
    }
    return page.encode(), "; ".join(f"{name} {value}" for name, value in policy.items())


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _asset(name: str) -> str:
    return resources.files("frugalclip.serving").joinpath(name).read_text(encoding="utf-8")

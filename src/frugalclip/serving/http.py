"""The HTTP server of an index: a page, a JSON API, and images by id.

Nothing in a request names a file or an address: rows are known by id, and no URL is fetched. Uploads are
limited before they are decoded, and decoded by the one function that reads every image.
"""

import sys
import traceback
from typing import Annotated, Any

from PIL import Image
from pydantic import BaseModel, Field

from frugalclip.core.errors import FrugalclipError, require
from frugalclip.core.thumbnails import KIND
from frugalclip.data.image_faults import BadImage
from frugalclip.data.images import decode, open_image
from frugalclip.features.format import digest
from frugalclip.serving.limits import COOKIE, Guarded, ServerLimits
from frugalclip.serving.page import login_page, search_page
from frugalclip.serving.queries import SearchRequest
from frugalclip.serving.served import ServedIndex
from frugalclip.serving.thumbnails import Thumbnails, side_of

_TEXT, _CONDITION = "what the images show", "such as split=train,style!=noto"
_WEEK = "private, max-age=604800"


class ReasonModel(BaseModel):
    """A word for which an image was found."""

    word: str
    weight: float


class HitModel(BaseModel):
    """One image that was found."""

    id: str
    score: float = Field(description="cosine; of an index of words, the sum of its reasons")
    path: str
    captions: list[str]
    reasons: list[ReasonModel]
    false_hits: float | None = Field(
        None, description="share of random pairs that score as high; with max_false_hits"
    )


class AboutModel(BaseModel):
    """An index."""

    rows: int
    kind: str
    model: str = Field(description="fingerprint")


class AnswerModel(BaseModel):
    """Hits, best first."""

    hits: list[HitModel]
    index: AboutModel


class ErrorModel(BaseModel):
    """What went wrong, in one sentence."""

    error: str


def create_app(
    served: ServedIndex,
    *,
    limits: ServerLimits | None = None,
    token: str | None = None,
    hosts: tuple[str, ...] = (),
    thumbnails: Thumbnails | None = None,
) -> Guarded:
    """The application, as uvicorn runs it.

    Args:
        served: the index.
        limits: of requests.
        token: that requests must carry.
        hosts: names in the Host header that are answered; empty for any.
        thumbnails: made and kept there.

    Raises:
        MissingExtra: without FastAPI or python-multipart.
    """
    fastapi = require("fastapi", extra="serve", purpose="serving an index")
    require("python_multipart", extra="serve", purpose="serving an index")
    limits, thumbnails = limits or ServerLimits(), thumbnails or Thumbnails()
    app = fastapi.FastAPI(title="frugalclip", docs_url=None, redoc_url=None)
    guarded = Guarded(app, limits=limits, token=token, hosts=hosts)
    _add_errors(app)
    _add_pages(app, served, guarded)
    _add_search(app, served, limits, thumbnails)
    _add_images(app, served, thumbnails)
    return guarded


def _add_errors(app: Any) -> None:
    """Every error is JSON with one sentence."""
    from fastapi.exceptions import RequestValidationError
    from fastapi.responses import JSONResponse
    from starlette.exceptions import HTTPException

    def answer(status: int, sentence: str) -> JSONResponse:
        return JSONResponse({"error": sentence}, status)

    @app.exception_handler(FrugalclipError)
    def refused(_: Any, error: FrugalclipError) -> JSONResponse:
        return answer(400, str(error))

    @app.exception_handler(RequestValidationError)
    def invalid(_: Any, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        name = ".".join(map(str, first["loc"][1:])) or "the request"
        return answer(422, f"{name}: {first['msg']}; see /openapi.json.")

    @app.exception_handler(HTTPException)
    def known(_: Any, error: HTTPException) -> JSONResponse:
        return answer(error.status_code, str(error.detail))

    @app.exception_handler(Exception)
    def unknown(_: Any, error: Exception) -> JSONResponse:
        traceback.print_exception(error, file=sys.stderr)
        return answer(500, "the server failed; its log has the traceback.")


def _add_pages(app: Any, served: ServedIndex, guarded: Guarded) -> None:
    from fastapi import Form, HTTPException
    from fastapi.responses import HTMLResponse, JSONResponse, RedirectResponse

    def page(content: tuple[bytes, str]) -> HTMLResponse:
        body, policy = content
        headers = {"content-security-policy": policy, "cache-control": "no-cache"}
        return HTMLResponse(body, headers=headers)

    @app.get("/", response_class=HTMLResponse, include_in_schema=False)
    def start() -> HTMLResponse:
        return page(search_page())

    @app.get("/login", response_class=HTMLResponse, include_in_schema=False)
    def login() -> HTMLResponse:
        return page(login_page())

    @app.post("/login", include_in_schema=False)
    def log_in(token: Annotated[str, Form()]) -> RedirectResponse:
        if not guarded.is_token(token):
            raise HTTPException(401, "this is not the token of the server; look into its --token-file.")
        answer = RedirectResponse("/", 303)
        answer.set_cookie(COOKIE, token, httponly=True, samesite="strict", max_age=30 * 86_400)
        return answer

    @app.get("/healthz")
    def health() -> JSONResponse:
        """Encodes a text, so that a model that fails does not look healthy."""
        try:
            served.prove()
        except Exception as error:
            traceback.print_exception(error, file=sys.stderr)
            return JSONResponse({"error": "the model does not encode; the log says why."}, 503)
        return JSONResponse({"status": "ok", "index": served.index.about()})


def _add_search(app: Any, served: ServedIndex, limits: ServerLimits, thumbnails: Thumbnails) -> None:
    from fastapi import Form, Query, UploadFile
    from fastapi.responses import JSONResponse

    refusals = {status: {"model": ErrorModel} for status in (400, 401, 408, 413, 422, 503)}
    documented: dict[str, Any] = {"response_model": AnswerModel, "responses": refusals}
    most = limits.hits

    @app.get("/api/search", **documented)
    def by_text(
        q: Annotated[str | None, Query(description=_TEXT)] = None,
        k: Annotated[int, Query(ge=1, le=most)] = 10,
        where: Annotated[str | None, Query(description=_CONDITION)] = None,
        like: Annotated[str | None, Query(description="id of a row")] = None,
        without: Annotated[str | None, Query(alias="not", description="words not wanted")] = None,
        weight: Annotated[float, Query(ge=0, le=1)] = 0.5,
        offset: Annotated[int, Query(ge=0, le=limits.offset)] = 0,
        max_false_hits: Annotated[float | None, Query(gt=0, le=1)] = None,
    ) -> JSONResponse:
        """Find images by words, or by a row that is like them."""
        return answer(SearchRequest(q, None, like, without, weight, {}, k, offset, where, max_false_hits))

    @app.post("/api/search", **documented)
    def by_image(
        image: UploadFile,
        q: Annotated[str | None, Form(description=_TEXT)] = None,
        k: Annotated[int, Form(ge=1, le=most)] = 10,
        where: Annotated[str | None, Form(description=_CONDITION)] = None,
        without: Annotated[str | None, Form(alias="not")] = None,
        weight: Annotated[float, Form(ge=0, le=1)] = 0.5,
        offset: Annotated[int, Form(ge=0, le=limits.offset)] = 0,
        max_false_hits: Annotated[float | None, Form(gt=0, le=1)] = None,
    ) -> JSONResponse:
        """Find images that are like an uploaded one, and like a text where there is one."""
        with thumbnails.decoding:
            opened = decode(image.file.read())
            opened.thumbnail((1024, 1024))  # what waits for the model is small
        return answer(SearchRequest(q, opened, None, without, weight, {}, k, offset, where, max_false_hits))

    def answer(request: SearchRequest) -> JSONResponse:
        return JSONResponse(served.index.answer(request))

    @app.get("/api/index")
    def about() -> JSONResponse:
        """The index, and the fields by which it can be filtered."""
        index = served.index
        fields = [
            {"name": one.name, "values": [{"value": value, "rows": rows} for value, rows in one.values]}
            for one in index.fields
        ]
        reads_text = index.encoder.model.reads == "both"
        return JSONResponse({"index": index.about(), "fields": fields, "reads_text": reads_text})


def _add_images(app: Any, served: ServedIndex, thumbnails: Thumbnails) -> None:
    from fastapi import HTTPException, Query
    from fastapi.responses import Response

    @app.get("/image/{id:path}", response_class=Response)
    def image(
        id: str, size: Annotated[int | None, Query(ge=1, le=4096, description="px of a thumbnail")] = None
    ) -> Response:
        """The image of a row: its file's bytes, or a thumbnail."""
        index = served.index
        row = index.rows.row_of(id)
        if row is None:
            raise HTTPException(404, f"the index has no row '{id[:200]}'; take ids from /api/search.")
        try:
            if size is None:
                data = index.images.bytes(row)
                kind = Image.MIME.get(open_image(data).format or "", "application/octet-stream")
                return Response(data, media_type=kind, headers={"cache-control": "private, no-cache"})
            side, key = side_of(size), index.rows.row_map["image_digest"][row].as_py()
            found = thumbnails.find(key, side)
            if found is None:
                data = index.images.bytes(row)
                found = thumbnails.make(data, digest(data), side)
            return Response(found, media_type=f"image/{KIND}", headers={"cache-control": _WEEK})
        except BadImage as error:
            raise HTTPException(
                404, f"the image of '{id[:200]}' cannot be read any more ({error.cause})."
            ) from error

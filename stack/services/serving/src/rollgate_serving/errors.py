"""Every error of our servers as one JSON object: {"error": sentence}."""

import logging
from collections.abc import Awaitable, Callable

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from rollgate_serving.body import BadRequest, error_response

log = logging.getLogger("rollgate.serving")


async def _bad_request(request: Request, error: Exception) -> Response:  # noqa: ARG001 (Starlette's signature)
    return error_response(str(error), error.status if isinstance(error, BadRequest) else 400)


async def _http(request: Request, error: Exception) -> JSONResponse:
    status = error.status_code if isinstance(error, HTTPException) else 500
    headers = dict(error.headers or {}) if isinstance(error, HTTPException) else {}
    sentence = {
        404: f"there is no {request.url.path} here",
        405: f"{request.url.path} does not accept {request.method}",
    }.get(status, str(getattr(error, "detail", error)))
    return JSONResponse({"error": sentence}, status_code=status, headers=headers)


async def _unexpected(request: Request, error: Exception) -> Response:
    log.error("%s %s failed: %r", request.method, request.url.path, error)
    return error_response(f"internal error: {type(error).__name__}", 500)


HANDLERS: dict[int | type[Exception], Callable[[Request, Exception], Awaitable[Response]]] = {
    BadRequest: _bad_request,
    HTTPException: _http,
    Exception: _unexpected,
}

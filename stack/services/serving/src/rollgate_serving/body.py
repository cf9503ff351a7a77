"""Request bodies: bounded, parsed and checked, so that bad input is always a 4xx with one clear sentence."""

import json
import math
from typing import Any, NoReturn

from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse


class BadRequest(Exception):
    """The client's request cannot be served. `status` is a 4xx code."""

    def __init__(self, message: str, status: int = 400) -> None:
        """Carry one sentence for the client."""
        super().__init__(message)
        self.status = status


def error_response(message: str, status: int) -> JSONResponse:
    """Return the one shape that every error of our servers has."""
    return JSONResponse({"error": message}, status_code=status)


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON number")


async def read_object(request: Request, *, most_bytes: int) -> dict[str, Any]:
    """Return the body as a JSON object.

    Raises BadRequest: 413 for more than `most_bytes`, 400 for what is no JSON object (NaN and Infinity,
    which JSON does not have, included).
    """
    raw = await _read(request, most_bytes)
    try:
        value = json.loads(raw, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise BadRequest(f"the body is not valid JSON: {error}") from None
    if not isinstance(value, dict):
        raise BadRequest(f"the body must be a JSON object, not {_kind(value)}")
    return value


async def _read(request: Request, most_bytes: int) -> bytes:
    msg = f"the body is larger than {most_bytes} bytes"
    declared = request.headers.get("content-length", "0")
    if declared.isdigit() and int(declared) > most_bytes:
        raise BadRequest(msg, 413)
    chunks: list[bytes] = []
    size = 0
    try:
        async for chunk in request.stream():
            size += len(chunk)
            if size > most_bytes:
                raise BadRequest(msg, 413)
            chunks.append(chunk)
    except ClientDisconnect:
        gone = "the client went away before its body was complete"
        raise BadRequest(gone, 499) from None
    return b"".join(chunks)


def text_field(body: dict[str, Any], name: str, *, most: int, required: bool = True) -> str:
    """Return a text field of at most `most` characters; a required one is not blank."""
    value = body.get(name)
    if value is None and not required:
        return ""
    if not isinstance(value, str):
        raise BadRequest(f"`{name}` must be a string, not {_kind(value)}")
    if required and not value.strip():
        raise BadRequest(f"`{name}` must not be empty")
    if len(value) > most:
        raise BadRequest(f"`{name}` has {len(value)} characters; at most {most} are allowed")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise BadRequest(f"`{name}` is not valid Unicode (a lone surrogate)") from None
    return value


def whole_field(body: dict[str, Any], name: str, *, least: int, most: int, default: int | None = None) -> int:
    """Return a whole-number field within [least, most]."""
    value = body.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int):
        raise BadRequest(f"`{name}` must be a whole number, not {_kind(value)}")
    if not least <= value <= most:
        raise BadRequest(f"`{name}` is {value}; expected {least} to {most}")
    return value


def list_field(body: dict[str, Any], name: str, *, most: int, required: bool = True) -> list[Any]:
    """Return a list field of 1 to `most` items (or an empty list when it is optional and absent)."""
    value = body.get(name)
    if value is None and not required:
        return []
    if not isinstance(value, list):
        raise BadRequest(f"`{name}` must be a list, not {_kind(value)}")
    if not 1 <= len(value) <= most:
        raise BadRequest(f"`{name}` has {len(value)} items; expected 1 to {most}")
    return value


def is_number(value: object) -> bool:
    """Tell whether a JSON value is a finite number (true and false are none)."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:
        return False


def _kind(value: object) -> str:
    names = {dict: "an object", list: "a list", str: "a string", bool: "a boolean", type(None): "null or missing"}
    return names.get(type(value), "a number")

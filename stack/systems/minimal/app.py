"""A tiny HTTP service: GET /answer?q=N answers {"answer": 2N, "quality": 0.93}, GET /health answers {"status": "ok"}.

Standard library only. Settings by environment: PORT; ARM and VERSION, told in every answer's headers; and faults to
practise with: ERROR_RATE and WRONG_RATE (shares in 0..1), QUALITY (the mean of what answers tell), DELAY_MS,
CRASH_AFTER_S (exits with 1).
"""

import asyncio
import json
import os
import random
import signal
from urllib.parse import parse_qs, urlsplit

PORT = int(os.environ["PORT"])
ARM = os.environ.get("ARM", "")
VERSION = os.environ.get("VERSION", "")
ERROR_RATE = float(os.environ.get("ERROR_RATE", "0"))
WRONG_RATE = float(os.environ.get("WRONG_RATE", "0"))
QUALITY = float(os.environ.get("QUALITY", "0.9"))
DELAY_S = float(os.environ.get("DELAY_MS", "0")) / 1000
CRASH_AFTER_S = float(os.environ.get("CRASH_AFTER_S", "0"))
REASONS = {200: "OK", 400: "Bad Request", 404: "Not Found", 500: "Internal Server Error"}
draw = random.Random(f"{ARM} {VERSION}")


async def answer(target: str) -> tuple[int, dict[str, object]]:
    """Return status and body for one request target."""
    url = urlsplit(target)
    if url.path == "/health":
        return 200, {"status": "ok"}
    if url.path != "/answer":
        return 404, {"error": "there is /health and /answer?q=N"}
    try:
        number = int(parse_qs(url.query)["q"][0])
    except (KeyError, ValueError):
        return 400, {"error": "q must be an integer"}
    if DELAY_S:
        await asyncio.sleep(DELAY_S)
    if draw.random() < ERROR_RATE:
        return 500, {"error": "this release fails on purpose"}
    quality = min(1.0, max(0.0, draw.uniform(QUALITY - 0.1, QUALITY + 0.1)))
    return 200, {"answer": 2 * number + (draw.random() < WRONG_RATE), "quality": round(quality, 3)}


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Serve one connection until its client leaves it."""
    try:
        while True:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            request, *lines = head.split("\r\n")
            headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
            await reader.readexactly(int(headers.get("content-length", "0")))
            status, body = await answer(request.split(" ")[1])
            content = json.dumps(body).encode()
            writer.write(
                f"HTTP/1.1 {status} {REASONS[status]}\r\nContent-Type: application/json\r\n"
                f"Content-Length: {len(content)}\r\nX-Arm: {ARM}\r\nX-Version: {VERSION}\r\n\r\n".encode()
                + content
            )
            await writer.drain()
            if headers.get("connection", "").lower() == "close":
                break
    except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, ConnectionError, IndexError, ValueError):
        pass
    finally:
        writer.close()


async def main() -> None:
    """Serve until SIGTERM."""
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    if CRASH_AFTER_S:
        loop.call_later(CRASH_AFTER_S, os._exit, 1)
    server = await asyncio.start_server(serve, "127.0.0.1", PORT)
    await stop.wait()
    server.close()


if __name__ == "__main__":
    asyncio.run(main())

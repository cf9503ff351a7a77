"""Start a server, and stop it gracefully on SIGTERM."""

import logging
import os
import signal
import sys
from collections.abc import Callable, Mapping

import uvicorn
from starlette.applications import Starlette

from rollgate_serving.settings import Environment, SettingError

LOG_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"
GRACE_S = 5


def main(
    build: Callable[[Environment], tuple[Starlette, str, int]], *, environ: Mapping[str, str] | None = None
) -> None:
    """Build the application from the environment and serve it until SIGTERM or SIGINT.

    `build` returns the application, the host and the port. A bad setting ends the process with 2 and one line.
    """
    logging.basicConfig(level=logging.INFO, format=LOG_FORMAT)
    # uvicorn finishes running requests, then raises the signal again for the handler that stood before its own.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    try:
        app, host, port = build(Environment(os.environ if environ is None else environ))
    except SettingError as error:
        sys.stderr.write(f"cannot start: {error}\n")
        raise SystemExit(2) from None
    uvicorn.run(
        app,
        host=host,
        port=port,
        access_log=False,
        log_config=None,
        log_level="warning",
        lifespan="on",
        server_header=False,
        date_header=False,
        timeout_graceful_shutdown=GRACE_S,
        timeout_keep_alive=75,
        backlog=2048,
    )

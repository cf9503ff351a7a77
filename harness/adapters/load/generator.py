"""The generator's process: `python -m harness.adapters.load.generator OPTIONS.json`.

A line "stop" on standard input, SIGTERM or SIGINT drain it; the end of standard input means that nobody is left
to listen, and ends it at once. Standard output carries batches of results for Locust, one JSON list a line, of
[name, response milliseconds, bytes, failure or null].
"""

import asyncio
import gc
import os
import resource
import signal
import sys
from contextlib import suppress
from pathlib import Path

import uvloop

from harness.adapters.load.engine import Engine
from harness.adapters.load.options import LoadOptions, read_options
from harness.adapters.load.workload import load_workload
from harness.model.errors import RollgateError

_PRIORITY = -10  # punctuality costs little: a few milliseconds of processor a second, but at once


def main(arguments: list[str]) -> int:
    """Run the load that the options file describes; return 0, or the error's exit code."""
    try:
        options = read_options(Path(arguments[0]))
        Path(options.evidence).mkdir(parents=True, exist_ok=True)
        _be_punctual()
        return uvloop.run(_run(options))
    except RollgateError as error:
        sys.stderr.write(f"load generator: {error}\n")
        return error.exit_code


async def _run(options: LoadOptions) -> int:
    workload = load_workload(Path(options.workload), dict(options.options), Path(options.root))
    loop = asyncio.get_running_loop()
    transport, _ = await loop.connect_write_pipe(asyncio.BaseProtocol, sys.stdout)
    engine = Engine(options, workload, transport.write)
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, engine.stop)
    listening = asyncio.create_task(_listen(engine))
    gc.freeze()
    try:
        return await engine.run()
    finally:
        listening.cancel()
        transport.close()


async def _listen(engine: Engine) -> None:
    loop, reader = asyncio.get_running_loop(), asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while line := await reader.readline():
        if line.strip() == b"stop":
            engine.stop()
    engine.stop(abandon=True)


def _be_punctual() -> None:
    """Ask for what the machine allows: a higher priority, and as many open files as there may be."""
    with suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, 0, _PRIORITY)
    with suppress(OSError, ValueError):
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 65536) if hard > 0 else 65536, hard))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

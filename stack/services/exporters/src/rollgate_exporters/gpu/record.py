"""Keep what NVML answers on this machine, to be played back where there is no GPU.

`python -m rollgate_exporters.gpu.record FILE`
"""

import json
import sys
from datetime import UTC, datetime
from pathlib import Path

from rollgate_exporters.gpu.library import Driver, Recorder
from rollgate_exporters.gpu.nvml import Gpus

_USAGE = 2
_NO_GPU = 4


def main(arguments: list[str], library: object | None = None) -> int:
    """Write the recording; return the exit code: 4 where there is no GPU to record, and nothing is written."""
    if len(arguments) != 1:
        sys.stderr.write("usage: python -m rollgate_exporters.gpu.record FILE\n")
        return _USAGE
    recorder = Recorder(library or Driver())
    gpus = Gpus(recorder)
    reading = gpus.read()
    gpus.close()
    if not reading.available:
        sys.stderr.write(f"there is no GPU to record: {reading.reason or 'no device answers'}\n")
        return _NO_GPU
    source = f"recorded {datetime.now(UTC):%Y-%m-%d} from {reading.devices[0].name}, driver {reading.driver}"
    text = json.dumps({"source": source, **recorder.document}, indent=1)
    Path(arguments[0]).write_text(text + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))

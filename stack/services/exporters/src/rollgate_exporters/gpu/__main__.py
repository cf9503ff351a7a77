"""Start the GPU exporter: `python -m rollgate_exporters.gpu`."""

from rollgate_exporters.gpu.app import build
from rollgate_serving.server import main

if __name__ == "__main__":
    main(build)

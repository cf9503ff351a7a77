"""Start the Ollama exporter: `python -m rollgate_exporters.ollama`."""

from rollgate_exporters.ollama.app import build
from rollgate_serving.server import main

if __name__ == "__main__":
    main(build)

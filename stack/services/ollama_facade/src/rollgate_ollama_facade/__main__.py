"""Start the facade: `python -m rollgate_ollama_facade`."""

from rollgate_ollama_facade.app import build
from rollgate_serving.server import main

if __name__ == "__main__":
    main(build)

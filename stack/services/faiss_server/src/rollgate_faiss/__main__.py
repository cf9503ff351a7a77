"""Start the FAISS server: `python -m rollgate_faiss`."""

from rollgate_faiss.app import build
from rollgate_serving.server import main

if __name__ == "__main__":
    main(build)

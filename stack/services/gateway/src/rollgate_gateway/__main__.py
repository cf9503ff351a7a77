"""Start the gateway: `python -m rollgate_gateway`."""

from rollgate_gateway.app import build
from rollgate_serving.server import main

if __name__ == "__main__":
    main(build)

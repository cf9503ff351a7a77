"""The minimal system's questions: GET /answer?q=N must answer 2N. The smallest workload there is."""

import json
from collections.abc import Mapping
from pathlib import Path

from harness.adapters.load.workload import Request, Response, Workload

_QUESTIONS = 1000


class Answers:
    """Asks for the double of a number."""

    def request(self, draw: float) -> Request:
        """Ask for the number that `draw` chooses."""
        number = int(draw * _QUESTIONS)
        return Request("GET", f"/answer?q={number}", expect=2 * number)

    def check(self, request: Request, response: Response) -> Mapping[str, bool]:
        """Find an answer wrong that is not the double, or no answer at all."""
        try:
            answer = json.loads(response.body)["answer"]
        except (ValueError, KeyError, TypeError):
            return {"wrong": True}
        return {"wrong": answer != request.expect}


def workload(options: Mapping[str, str], root: Path) -> Workload:
    """Return the workload; it takes no options."""
    _ = options, root
    return Answers()

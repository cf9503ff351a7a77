"""Open-loop load on the minimal system: `locust -f scenarios/answer.py --headless --host http://127.0.0.1:8080`."""

from harness.adapters.load.locust_user import OpenLoopUser


class AnswerUser(OpenLoopUser):
    """Asks the minimal service its questions."""

    workload = "workloads/answer.py"
    prefix = "answer"
    system = "minimal"

"""Open-loop load on researchflow's gateway: `locust -f scenarios/query.py --headless --host http://127.0.0.1:8080`."""

from typing import ClassVar

from harness.adapters.load.locust_user import OpenLoopUser


class QueryUser(OpenLoopUser):
    """Asks research questions and checks the documents that come back."""

    workload = "workloads/query.py"
    prefix = "query"
    system = "researchflow"
    scenario: ClassVar = {"queries": "queries.jsonl", "k": "5"}

"""A live rollout behind the real HAProxy: its share stays when the driver ends, and goes back to it when it dies."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import test_rollout_command as command
from native_runs import need, until
from plain_servers import Plain, plain
from router_conformance import SESSIONS, on_candidate
from router_rigs import HAProxyRig

from harness.adapters.load.split import bucket
from harness.model.evidence import Arm

pytestmark = [pytest.mark.selftest, pytest.mark.timeout(180)]
shop = command.shop


@dataclass
class Behind:
    """A shop behind HAProxy."""

    shop: command.Shop
    rig: HAProxyRig

    def below(self, percent: float) -> set[str]:
        return {session for session in SESSIONS if bucket(session) < percent * 100}

    def stays(self, percent: float) -> bool:
        return until(lambda: on_candidate(self.rig) == self.below(percent), within=10.0)


@pytest.fixture
def behind(shop: command.Shop) -> Iterator[Behind]:
    """The shop's servers as the arms of a HAProxy with the shipped configuration, and a flag that follows."""
    need("haproxy")
    shop.baseline, shop.candidate = Plain(arm="baseline"), Plain(arm="candidate")
    with plain(shop.baseline, shop.candidate):
        folder = shop.folder / "haproxy"
        folder.mkdir()
        rig = HAProxyRig(folder, {Arm.BASELINE: shop.baseline.port, Arm.CANDIDATE: shop.candidate.port}, remote=False)
        try:
            rig.await_start()
            lease = rig._lease  # noqa: SLF001 - the port that the configuration checks
            router = f"admin: {folder}/admin.sock, map_file: {folder}/limits.map, lease: '127.0.0.1:{lease}'"
            command.target(shop, f"{{kind: haproxy, {router}}}", "flags: {file: live.json}\n")
            yield Behind(shop, rig)
        finally:
            rig.close()


@pytest.mark.covers("rf.rollout.behaviour", level="simulated")
def test_the_share_stays_when_the_rollout_has_ended_and_returns_to_it_when_a_driver_dies(behind: Behind) -> None:
    """Up to 25 and the process is gone: the same quarter stays. Kill -9 above it: back to that quarter, by itself."""
    shop = behind.shop
    code, said = shop.run("--target-percentage", "25", "--force")
    assert code == 0, said
    assert until(lambda: not behind.rig.router.read().lease_held)
    state = behind.rig.router.read()
    assert (state.limit, state.settled) == (2500, 2500)
    assert behind.stays(25)
    assert (Path(shop.folder) / "haproxy" / "limits.map").read_text(
        encoding="ascii"
    ) == "candidate 2500\nsettled 2500\n"

    process = shop.start("--target-percentage", "100", "--force")
    assert until(lambda: shop.flags()["search"] >= 50, within=60)
    process.kill()
    process.communicate()
    assert behind.stays(25)
    code, said = shop.run("--target-percentage", "100", "--force")
    assert code == 4, said
    code, said = shop.run("--rollback", "--force")
    assert (code, shop.flags()["search"]) == (0, 25.0), said
    assert behind.stays(25)
    code, said = shop.run("--target-percentage", "0", "--force")
    assert (code, behind.stays(0), behind.rig.router.read().settled) == (0, True, 0), said


def test_router_and_flag_that_disagree_are_not_raised(behind: Behind) -> None:
    """The flag was moved by hand: exit code 4, nothing moved; one move down sets both right."""
    shop = behind.shop
    shop.set_flags(search=25.0)
    code, said = shop.run("--target-percentage", "50", "--force")
    assert (code, "disagree" in said) == (4, True), said
    assert shop.flags()["search"] == 25
    assert shop.run("--target-percentage", "0", "--force")[0] == 0
    assert shop.flags()["search"] == 0


def test_two_features_do_not_share_a_router_of_one_share(behind: Behind) -> None:
    """While one is rolled out the other, unrelated one is refused: the router knows a single share."""
    shop = behind.shop
    process = shop.start("--target-percentage", "100", "--force")
    assert until(lambda: shop.flags()["search"] >= 25, within=60)
    process.kill()
    process.communicate()
    assert until(lambda: not behind.rig.router.read().lease_held)
    code, said = shop.run("--target-percentage", "0", "--force", feature="cache")
    assert (code, "steers the same router" in said) == (4, True), said
    code, said = shop.run("--resume", "--force")
    assert (code, shop.flags()["search"], behind.stays(100)) == (0, 100.0, True), said


def test_a_router_whose_map_knows_nothing_settled_is_refused(behind: Behind) -> None:
    """A configuration of before: no share would outlive the driver, so none is raised."""
    admin = behind.rig.router._admin  # noqa: SLF001 - by the router's own means
    admin.command(f"del map {behind.rig.folder}/limits.map settled")
    code, said = behind.shop.run("--target-percentage", "25", "--force")
    assert (code, "outlive" in said) == (4, True), said
    assert json.loads((behind.shop.folder / "live.json").read_text(encoding="utf-8"))["search"] == 0


def test_load_of_our_own_is_judged_too_and_want_of_proof_ends_at_the_base(behind: Behind) -> None:
    """`--load` through the users' entry: clients' evidence by arm; too little is exit code 3, and nobody is left."""
    shop = behind.shop
    entry = f"entry: 'http://127.0.0.1:{behind.rig._port}'"  # noqa: SLF001 - where users come in
    path = shop.folder / "target.yaml"
    path.write_text(path.read_text(encoding="utf-8").replace(f"entry: '{shop.baseline.url}'", entry), encoding="utf-8")
    plans = shop.folder / "shop" / "rollout.yaml"
    plans.write_text(command.PLAN.replace("max_bake_s: 10", "max_bake_s: 3"), encoding="utf-8")
    code, said = shop.run("--target-percentage", "25", "--force", "--load")
    assert (code, shop.flags()["search"]) == (3, 0.0), said
    assert behind.stays(0)
    evidence = (shop.newest() / "evidence" / "judged.jsonl").read_text(encoding="utf-8")
    assert evidence.count('"client"') > 10

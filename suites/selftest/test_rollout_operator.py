"""`rollgate rollout` and its operator's side: hooks over HTTP, guardrails while it waits, flags above it, secrets."""

import json
from collections.abc import Iterator

import pytest
import test_rollout_command as command
from hook_receiver import SECRET, Receiver, receiving
from native_runs import until
from plain_servers import Plain, plain
from test_rollout_command import Shop

from harness.adapters.clock import SystemClock
from harness.adapters.journal import SqliteJournal
from harness.adapters.rollouts import RolloutFolder
from harness.planning.rollout import Phase

pytestmark = [pytest.mark.selftest, pytest.mark.timeout(120)]
shop = command.shop
TOKEN = "token-of-the-shop-77c1"  # noqa: S105 - of this test alone


@pytest.fixture
def receiver(monkeypatch: pytest.MonkeyPatch) -> Iterator[Receiver]:
    """A receiver whose secret is in the environment."""
    monkeypatch.setenv("HOOK_SECRET", SECRET)
    with receiving(Receiver()) as made:
        yield made


def hooked(
    shop: Shop,
    receiver: Receiver,
    more: str = "",
    *,
    before: str = "timeout_s: 20, attempts: 1",
    router: str = "{kind: flags, file: live.json}",
) -> None:
    """Write a target file with all three hooks."""
    url = receiver.url
    hooks = f"hooks:\n  secret: {{env: HOOK_SECRET}}\n  before: {{url: '{url}/before', {before}}}\n"
    hooks += f"  after: {{url: '{url}/after', timeout_s: 20}}\n"
    hooks += f"  notify: {{url: '{url}/notify', timeout_s: 20, attempts: 1}}\n"
    command.target(shop, router, hooks + more)


def everything(shop: Shop) -> bytes:
    """Return all that the rollouts have left on disk, one after the other."""
    return b"".join(path.read_bytes() for path in sorted(shop.out.rglob("*")) if path.is_file())


def kinds(shop: Shop) -> list[str]:
    """Return the kinds of all entries of the journal."""
    return [entry.kind for entry in RolloutFolder(shop.out, SystemClock()).entries()]


def say(shop: Shop, verb: str) -> None:
    """Say a word to the newest rollout."""
    done = command.CliRunner().invoke(command.app, [verb, str(shop.newest()), "--reason", "by hand"])
    assert done.exit_code == 0, done.output


def pause(shop: Shop) -> None:
    """Pause the newest rollout, whose stages bake for two seconds, and wait until it is."""
    say(shop, "pause")
    folder = RolloutFolder(shop.out, SystemClock())
    assert until(lambda: folder.pasts()[-1].left.state.phase is Phase.PAUSED, within=30)


@pytest.mark.covers("rf.rollout.behaviour", level="simulated")
def test_hooks_hear_of_every_stage_and_of_the_end_and_no_secret_is_on_disk(
    shop: Shop, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """0 to 50 through 25; the shop's own token and the hooks' secret are in no file and in no line."""
    monkeypatch.setenv("SHOP_TOKEN", TOKEN)
    shop.candidate.wants = shop.baseline.wants = {"Authorization": f"Bearer {TOKEN}"}
    (shop.folder / "shop" / "notes.txt").write_text(f"the token is {TOKEN}", encoding="utf-8")
    (shop.folder / "shop" / "hooks.txt").write_text(f"the hooks' secret is {SECRET}", encoding="utf-8")
    hooked(shop, receiver, 'auth: {header: {name: Authorization, prefix: "Bearer ", value: {env: SHOP_TOKEN}}}\n')
    code, said = shop.run("--target-percentage", "50", "--force", "--verbose")
    assert (code, shop.flags()["search"]) == (0, 50.0), said
    told = [(one["path"], one["type"], one.get("stage")) for one in receiver.got]
    wanted = [
        ("/notify", "rollout.began", None),
        ("/before", "stage.before", "25"),
        ("/before", "stage.before", "50"),
        ("/after", "stage.after", "25"),
        ("/after", "stage.after", "50"),
        ("/notify", "rollout.ended", None),
    ]
    assert sorted(map(str, told)) == sorted(map(str, wanted))  # each in a thread of its own
    assert {one["rollout"] for one in receiver.got} == {shop.newest().name}
    assert len({one["id"] for one in receiver.got}) == len(receiver.got) == 6
    assert receiver.forged == 0
    ended = receiver.told("/notify", "rollout.ended")[0]
    assert (ended["decision"], ended["cause"], ended["share"], ended["feature"]) == ("promote", "proof", 50, "search")
    assert (kinds(shop).count("hook"), kinds(shop).count("hooked")) == (6, 6)
    summary = (shop.newest() / "summary.md").read_text(encoding="utf-8")
    assert "# search: 0 to 50 %, promote, cause proof" in summary
    assert "hook before allows it" in summary
    # The flag file is a router that does nothing by itself when its driver dies.
    for page in (said, summary, (shop.out / "rollout.log").read_text(encoding="utf-8")):
        assert "traffic does not go back by itself" in page
    kept = everything(shop) + said.encode() + json.dumps(receiver.got).encode()
    assert (TOKEN.encode() in kept, SECRET.encode() in kept) == (False, False)
    assert not (shop.newest() / "system" / "notes.txt").exists()
    assert (shop.newest() / "system" / "system.yaml").exists()
    code, said = shop.run("--rollback", "--force", target=False)
    assert (code, shop.flags()["search"]) == (0, 0.0), said
    assert receiver.told("/notify")[-1]["decision"] == "rollback"
    assert len(receiver.told("/before")) == 2


@pytest.mark.covers("rf.rollout.behaviour", level="simulated")
def test_a_candidate_that_dies_while_a_hook_hangs_is_taken_back_at_once(shop: Shop, receiver: Receiver) -> None:
    """Planted: the hook before 50 never answers, at 25 % the candidate goes; exit code 1 at 0, and nobody waits."""
    dying = Plain()
    with plain(dying):
        shop.candidate = dying
        receiver.hangs.add("/before#50")
        hooked(shop, receiver, before="timeout_s: 60, attempts: 5")
        process = shop.start("--target-percentage", "100", "--force")
        assert until(lambda: any(one["stage"] == "50" for one in receiver.told("/before")), within=60)
        assert shop.flags()["search"] == 25
    said = process.communicate(timeout=30)[0]
    assert (process.returncode, shop.flags()["search"]) == (1, 0.0), said
    assert receiver.told("/notify")[-1]["cause"] == "release"
    folder = RolloutFolder(shop.out, SystemClock())
    (hanging,) = [e for e in folder.entries() if e.kind == "hooked" and str(e.what["id"]).endswith("/before/50")]
    assert (hanging.what["ok"], hanging.why) == (False, "given up: the rollout is over")


def test_a_hook_that_says_no_holds_until_the_operator_says_otherwise(shop: Shop, receiver: Receiver) -> None:
    """403 before 25: nothing moves, it is told, and `rollgate promote` passes it over; what only tells may fail."""
    receiver.answers = {"/before": 403, "/notify": 500, "/after": 500}
    hooked(shop, receiver)
    process = shop.start("--target-percentage", "25", "--force")
    assert until(lambda: receiver.told("/notify", "rollout.waiting"), within=60)
    assert set(shop.flags().values()) == {0.0}
    code, told = shop.run("--status")
    assert (code, "(waiting); not finished" in told) == (0, True), told
    say(shop, "promote")
    said = process.communicate(timeout=60)[0]
    assert (process.returncode, shop.flags()["search"]) == (0, 25.0), said
    assert "hook before failed" in said
    assert "hook notify failed" in said


def test_a_parent_lowered_while_its_child_is_rolled_out_ends_the_way_up(shop: Shop) -> None:
    """Planted by hand at 25 %: the parent is worth 30 %, so 50 is refused then, by name; exit code 4 at the base."""
    shop.set_flags(search=100)
    path = shop.folder / "shop" / "rollout.yaml"
    path.write_text(command.PLAN.replace("min_bake_s: 0.5", "min_bake_s: 2"), encoding="utf-8")
    process = shop.start("--target-percentage", "100", "--force", feature="rank")
    assert until(lambda: shop.flags()["rank"] == 25, within=60)
    pause(shop)
    shop.set_flags(**{**shop.flags(), "search": 30.0})
    say(shop, "promote")
    said = process.communicate(timeout=60)[0]
    assert (process.returncode, shop.flags()["rank"], shop.flags()["search"]) == (4, 0.0, 30.0), said
    assert "its parent `search` is effective at 30 %" in said


def test_a_torn_flag_file_that_is_put_back_is_told_in_the_lines_and_on_the_page(shop: Shop) -> None:
    """Planted while it is paused: it comes back from its backup, and everybody reads so."""
    path = shop.folder / "shop" / "rollout.yaml"
    path.write_text(command.PLAN.replace("min_bake_s: 0.5", "min_bake_s: 2"), encoding="utf-8")
    process = shop.start("--target-percentage", "100", "--force")
    assert until(lambda: shop.flags()["search"] == 25, within=60)
    pause(shop)
    live = shop.folder / "live.json"
    live.write_text(live.read_text(encoding="utf-8")[:7], encoding="utf-8")
    say(shop, "promote")
    said = process.communicate(timeout=60)[0]
    assert (process.returncode, shop.flags()["search"]) == (4, 0.0), said
    for page in (said, (shop.newest() / "summary.md").read_text(encoding="utf-8")):
        assert "put back the backup" in page, page


def test_a_hooks_secret_that_is_not_there_is_told_before_anything_begins(
    shop: Shop, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exit code 2 with the variable's name, no journal, no call; a way back and a look do not wait for it."""
    hooked(shop, receiver)
    monkeypatch.delenv("HOOK_SECRET")
    for more in (["--force"], ["--dry-run"]):
        code, said = shop.run("--target-percentage", "50", *more)
        assert (code, "HOOK_SECRET is not set" in said) == (2, True), said
    assert shop.run("--status")[0] == 0
    assert not shop.out.exists()
    shop.set_flags(search=40)
    code, said = shop.run("--target-percentage", "0", "--force")
    assert (code, shop.flags()["search"]) == (0, 0.0), said
    assert "hooks are not told of it" in said
    assert receiver.got == []


def test_a_dry_run_says_who_is_asked_and_asks_nobody(shop: Shop, receiver: Receiver) -> None:
    """Each stage's line names its hook; the receiver hears nothing."""
    hooked(shop, receiver)
    code, said = shop.run("--target-percentage", "50", "--dry-run")
    assert code == 0, said
    assert "stage 25: once the hook before it allows it, search to 25 %" in said
    assert receiver.got == []


def test_a_gate_on_a_deployed_stack_has_the_same_hooks(shop: Shop, receiver: Receiver) -> None:
    """One driver: each stage is asked for, and the end is told with the gate's own decision."""
    hooked(shop, receiver, router="{kind: flags, file: live.json, flag: search}")
    plans = command.PLAN.replace("max_bake_s: 10", "max_bake_s: 1").replace("deadline_s: 60", "deadline_s: 20")
    (shop.folder / "shop" / "rollout.yaml").write_text(plans, encoding="utf-8")
    out = shop.folder / "gate"
    arguments = ["gate", str(shop.folder / "shop"), "--provider", "remote", "--out", str(out)]
    done = command.CliRunner().invoke(command.app, [*arguments, "--target", str(shop.folder / "target.yaml")])
    verdict = json.loads((out / "verdict.json").read_text(encoding="utf-8"))
    assert receiver.told("/before")[0]["stage"] == "25", done.output
    ended = receiver.told("/notify", "rollout.ended")
    assert [(one["decision"], one["cause"]) for one in ended] == [(verdict["decision"], verdict["cause"])]
    assert any("traffic does not go back by itself" in claim for claim in verdict["claims"])
    kept = b"".join(path.read_bytes() for path in out.rglob("*") if path.is_file())
    assert SECRET.encode() not in kept


def test_a_gate_that_ends_before_it_reaches_the_router_is_told_too(shop: Shop, receiver: Receiver) -> None:
    """Nobody answers at the baseline's address: exit code 4, and one notification says how it ended."""
    gone = Plain()
    with plain(gone):
        pass
    shop.baseline = gone
    hooked(shop, receiver, router="{kind: flags, file: live.json, flag: search}")
    out = shop.folder / "gate"
    arguments = ["gate", str(shop.folder / "shop"), "--provider", "remote", "--out", str(out)]
    done = command.CliRunner().invoke(command.app, [*arguments, "--target", str(shop.folder / "target.yaml")])
    assert done.exit_code == 4, done.output
    (told,) = receiver.told("/notify")
    assert (told["type"], told["decision"], told["cause"], told["share"]) == (
        "rollout.ended",
        "rollback",
        "environment",
        0.0,
    )
    assert "the baseline is not well" in str(told["reason"])
    journal = SqliteJournal(out / "journal.sqlite", who="t", clock=SystemClock())
    kinds = [entry.kind for entry in journal.entries()]
    journal.close()
    assert [kind for kind in kinds if kind in {"hook", "hooked"}] == ["hook", "hooked"]

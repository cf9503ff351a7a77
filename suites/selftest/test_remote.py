"""The remote provider on plain servers: who they are, what lets one in, what is judged, and that nothing leaks."""

import shutil
import socket
import ssl
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from plain_servers import Plain, plain

from harness import spec
from harness.adapters import remote
from harness.adapters.client_split import ClientSplitRouter
from harness.adapters.clock import SystemClock
from harness.adapters.haproxy import HAProxyRouter
from harness.adapters.probes import Asker, StackProbes
from harness.adapters.prometheus import PrometheusMetrics
from harness.adapters.remote import UNKNOWN, RemoteProvider, RemoteSmoke, address_of, remote_questions
from harness.adapters.remote_access import Access, resolve
from harness.adapters.routers.flag_router import FlagRouter
from harness.adapters.routers.nginx import NginxRouter
from harness.judge.suites import judge_suites
from harness.model.errors import EnvironmentProblem, SpecError
from harness.model.event import Event, Noted
from harness.model.evidence import Arm, Evidence, Source
from harness.model.judgement import Judgement, ServiceKind, overall
from harness.model.objective import Measure
from harness.model.status import Status
from harness.model.system import Release, System
from harness.model.target import (
    Auth,
    BasicAuth,
    DeployedArm,
    DeployedPrometheus,
    DeployedRouter,
    HeaderAuth,
    Secret,
    Target,
    TlsFiles,
)
from harness.paths import share_root
from harness.planning.judgeable import judgeable
from harness.run.gate import case_evidence
from harness.wiring import run_gate
from harness.wiring.gate import keep_spec
from harness.wiring.remote import Deployed, PartJudge, router_of

pytestmark = pytest.mark.selftest

PLANTED = "s3cr3t-0f-the-shop"
MINIMAL = spec.load_system(share_root() / "stack" / "systems" / "minimal")
RESEARCHFLOW = spec.load_system(share_root() / "stack" / "systems" / "researchflow")


def target_of(baseline: Plain, candidate: Plain, **changes: object) -> Target:
    """Return a target of two servers, split by the load."""
    found = Target(
        path=Path("target.yaml"),
        baseline=DeployedArm(url=baseline.url),
        candidate=DeployedArm(url=candidate.url),
        router=DeployedRouter(kind="client"),
    )
    return replace(found, **changes)


def provider(
    target: Target, out: Path, access: Access | None = None
) -> tuple[RemoteProvider, dict[Arm, Release], list[Event]]:
    """Return a provider, the arms that it tells of, and what it says."""
    arms = {arm: Release(name=arm.value, version="") for arm in Arm}
    events: list[Event] = []
    made = RemoteProvider(
        MINIMAL, target, access or Access(), arms, out=out, run_id="run", time_scale=1.0, on_event=events.append
    )
    return made, arms, events


def gone() -> Plain:
    """Return a server at whose address nobody listens."""
    one = Plain()
    with plain(one):
        pass
    return one


def test_a_deployed_stack_is_taken_as_it_is(tmp_path: Path):
    """Real services, versions from the answers, both arms' addresses; `down` leaves the servers answering."""
    baseline, candidate = Plain(version="1.4.2"), Plain(version="1.5.0")
    with plain(baseline, candidate):
        made, arms, events = provider(target_of(baseline, candidate), tmp_path)
        stack = made.up()
        (record,) = stack.records()
        assert (record.name, record.kind, record.version) == ("app", ServiceKind.REAL, "1.4.2, 1.5.0")
        assert {arm: one.version for arm, one in arms.items()} == {Arm.BASELINE: "1.4.2", Arm.CANDIDATE: "1.5.0"}
        assert stack.address("app", "http", Arm.CANDIDATE) == f"127.0.0.1:{candidate.port}"
        assert [(one.name, one.running) for one in stack.instances()] == [
            ("app[baseline]", True),
            ("app[candidate]", True),
        ]
        for unknown in (("app", "http", None), ("redis", "redis", None)):
            with pytest.raises(KeyError):
                stack.address(*unknown)
        with pytest.raises(EnvironmentProblem, match="only measured and steered"):
            stack.kill("app", Arm.CANDIDATE)
        made.down()
        made.down()
        assert all(one.running for one in stack.instances())
    assert [type(event).__name__ for event in events] == ["ServiceStarted", "ServiceStarted"]


def test_a_server_that_tells_no_version_is_of_an_unknown_one(tmp_path: Path):
    """Nothing is made up where the answers say nothing."""
    baseline, candidate = Plain(), Plain()
    with plain(baseline, candidate):
        made, arms, _ = provider(target_of(baseline, candidate), tmp_path)
        assert made.up().records()[0].version == UNKNOWN
    assert {one.version for one in arms.values()} == {UNKNOWN}


def test_a_baseline_that_does_not_serve_is_no_place_to_start_from(tmp_path: Path):
    """It is the environment's fault, and says so before anything is moved."""
    candidate = Plain()
    with plain(candidate):
        made, _, _ = provider(target_of(gone(), candidate), tmp_path)
        with pytest.raises(EnvironmentProblem, match=r"the baseline is not well: .*refused"):
            made.up()


def test_two_arms_that_do_not_answer_are_the_target_files_fault(tmp_path: Path):
    """Both refuse before anything began: no release did that, and the message asks for the addresses."""
    made, _, _ = provider(target_of(gone(), gone()), tmp_path)
    with pytest.raises(EnvironmentProblem, match=r"neither arm is well: .*right addresses in the target file"):
        made.up()


@pytest.mark.parametrize("arm", Arm)
def test_a_name_that_leads_nowhere_is_not_the_releases_fault(arm: Arm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Either arm's: nothing is asked, and the message names the address; lost by the first look it judges nobody."""
    known = socket.getaddrinfo

    def asked(host: str, *rest: object, **more: object) -> object:
        if host == "shop.invalid":
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return known(host, *rest, **more)

    monkeypatch.setattr(socket, "getaddrinfo", asked)
    monkeypatch.setattr(remote, "_BETWEEN_S", 0.0)
    sound = Plain()
    with plain(sound):
        lost = {str(arm): DeployedArm(url="http://shop.invalid:8080")}
        target = replace(target_of(sound, sound), **lost)
        made, _, events = provider(target, tmp_path)
        with pytest.raises(EnvironmentProblem, match=rf"the {arm}'s address http://shop\.invalid:8080: .* not resolve"):
            made.up()
        assert events == []
        assert {one.status for one in smoke(target)} == {Status.ERROR}


def test_a_name_that_is_none_is_no_defect_of_ours(tmp_path: Path):
    """A label longer than any may be: told like a name that leads nowhere."""
    sound = Plain()
    with plain(sound):
        target = replace(target_of(sound, sound), candidate=DeployedArm(url=f"http://{'a' * 64}.invalid:80"))
        made, _, _ = provider(target, tmp_path)
        with pytest.raises(EnvironmentProblem, match="it is no host name"):
            made.up()


def test_swapped_addresses_are_noticed(tmp_path: Path):
    """Servers that say which arm they are must say the right one."""
    baseline, candidate = Plain(arm="candidate"), Plain(arm="baseline")
    with plain(baseline, candidate):
        made, _, _ = provider(target_of(baseline, candidate), tmp_path)
        with pytest.raises(EnvironmentProblem, match="swapped"):
            made.up()


@pytest.mark.parametrize("version, said", [("1.4.9", "says version 1.4.9"), ("", "says no X-Version")])
def test_another_version_than_the_target_file_expects_is_not_judged(tmp_path: Path, version: str, said: str):
    """A gate on the wrong build would vouch for what nobody looked at."""
    baseline, candidate = Plain(version="1.4.2"), Plain(version=version)
    with plain(baseline, candidate):
        expected = DeployedArm(url=candidate.url, version="1.5.0")
        target = replace(target_of(baseline, candidate), candidate=expected)
        made, _, _ = provider(target, tmp_path)
        with pytest.raises(EnvironmentProblem, match=f"{said}, the target file expects 1.5.0"):
            made.up()


def smoke(target: Target, access: Access | None = None) -> tuple[Judgement, ...]:
    """Return what the first look at both arms comes to."""
    cases = RemoteSmoke(remote_questions(MINIMAL, target, access or Access())).run(_NO_STACK, "smoke")
    return judge_suites([record for case in cases for record in case_evidence(case, 1000.0)])


_NO_STACK = None  # the first look asks by the target's addresses alone


def test_two_sound_servers_pass_the_first_look():
    """Health and checks of both arms, a pair of twins each."""
    baseline, candidate = Plain(), Plain()
    with plain(baseline, candidate):
        found = smoke(target_of(baseline, candidate))
    assert {j.id: j.status for j in found} == {
        "remote/health.app": Status.PASS,
        "remote/check.app.answers": Status.PASS,
    }
    assert {j.n for j in found} == {2}


def test_a_dead_candidate_beside_a_sound_baseline_is_the_releases_fault(tmp_path: Path):
    """The provider goes on with a warning, the first look fails it: no traffic is moved to it."""
    baseline, candidate = Plain(), gone()
    with plain(baseline):
        target = target_of(baseline, candidate)
        made, arms, events = provider(target, tmp_path)
        made.up()
        found = smoke(target)
    assert next(event.text for event in events if isinstance(event, Noted)).startswith("the candidate is not well")
    assert arms[Arm.CANDIDATE].version == UNKNOWN
    assert {j.status for j in found} == {Status.FAIL}
    assert all("on the candidate alone" in j.reason for j in found)


def test_a_dead_baseline_is_never_the_releases_fault():
    """Both dead, or the baseline alone: an error, whatever the candidate does."""
    candidate = Plain()
    with plain(candidate):
        assert {j.status for j in smoke(target_of(gone(), candidate))} == {Status.ERROR}
    assert {j.status for j in smoke(target_of(gone(), gone()))} == {Status.ERROR}


def probed(target: Target, access: Access) -> Sequence[Evidence]:
    """Return one round of probes."""
    probes = StackProbes(MINIMAL, _NO_STACK, SystemClock(), asked=remote_questions(MINIMAL, target, access))
    try:
        return probes.collect()
    finally:
        probes.close()


def test_probes_ask_both_arms_and_count_no_exits():
    """Health and checks by arm; of restarts, which nobody sees from outside, nothing is said."""
    baseline, candidate = Plain(), Plain()
    with plain(baseline, candidate):
        found = probed(target_of(baseline, candidate), Access())
    assert {(r.signal, r.arm) for r in found} == {(s, a) for s in ("health.app", "check.app.answers") for a in Arm}
    assert not any(r.bad for r in found)


DOORS: Mapping[str, tuple[Auth, Mapping[str, str]]] = {
    "a header": (
        Auth(header=HeaderAuth(name="X-Api-Key", value=Secret(env="SHOP_KEY"))),
        {"X-Api-Key": PLANTED},
    ),
    "a bearer's token": (
        Auth(header=HeaderAuth(name="Authorization", prefix="Bearer ", value=Secret(file="token"))),
        {"Authorization": f"Bearer {PLANTED}"},
    ),
    "a password": (
        Auth(basic=BasicAuth(user="gate", password=Secret(env="SHOP_KEY"))),
        {"Authorization": "Basic Z2F0ZTpzM2NyM3QtMGYtdGhlLXNob3A="},
    ),
}


@pytest.mark.parametrize("door", DOORS)
def test_whoever_is_let_in_says_who_he_is_and_nobody_repeats_it(
    door: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """By header, bearer or password; without it 401. A server that sends back what it heard puts it in no note."""
    auth, wants = DOORS[door]
    monkeypatch.setenv("SHOP_KEY", PLANTED)
    (tmp_path / "token").write_text(f"{PLANTED}\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    access = resolve(auth, "target.yaml: auth")
    baseline, candidate = Plain(wants=wants), Plain(wants={"X-Other": "key"})
    with plain(baseline, candidate):
        found = probed(target_of(baseline, candidate), access)
    assert not any(r.bad for r in found if r.arm is Arm.BASELINE)
    refused = [r for r in found if r.arm is Arm.CANDIDATE]
    assert all(r.bad and ": 401, expected 200" in r.note and "heard" in r.note for r in refused)
    assert any(PLANTED in heard or "Basic" in heard for heard in candidate.heard), "the server did hear it"
    assert not any(secret in r.note for r in found for secret in access.secrets)


def test_mutual_tls_lets_in_who_shows_a_certificate(tmp_path: Path):
    """The target's own authority is trusted, our certificate is shown; without either the probe says what is wrong."""
    if not (openssl := shutil.which("openssl")):
        pytest.skip("needs the openssl command to make certificates")
    certificates(openssl, tmp_path)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(tmp_path / "ca.pem"))
    context.load_cert_chain(tmp_path / "server.pem", tmp_path / "server.key")
    context.verify_mode = ssl.CERT_REQUIRED
    ours = TlsFiles(ca=str(tmp_path / "ca.pem"), cert=str(tmp_path / "us.pem"), key=str(tmp_path / "us.key"))
    baseline, candidate = Plain(tls=context), Plain(tls=context)
    with plain(baseline, candidate):
        target = target_of(baseline, candidate)
        assert target.baseline.url.startswith("https:")
        assert set(complaints(target, resolve(Auth(tls=ours), "auth"))) == {""}
        assert all(complaints(target, resolve(Auth(tls=replace(ours, cert="", key="")), "auth")))
        assert all("CERTIFICATE_VERIFY_FAILED" in said for said in complaints(target, Access()))
    with pytest.raises(SpecError, match=r"us\.pem"):
        resolve(Auth(tls=replace(ours, key=ours.ca)), "auth")


def complaints(target: Target, access: Access) -> list[str]:
    """Return what is wrong with each answer, asked one by one and with patience; "" for nothing."""
    return [Asker(timeout_s=30).problem(question) for question in remote_questions(MINIMAL, target, access)]


def certificates(openssl: str, folder: Path) -> None:
    """Make an authority, and what it signed for the server (127.0.0.1) and for us."""

    def run(*words: str) -> None:
        subprocess.run([openssl, *words], cwd=folder, check=True, capture_output=True)

    new = ("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "1")
    run(*new, "-keyout", "ca.key", "-out", "ca.pem", "-subj", "/CN=authority")
    for name in ("server", "us"):
        run(
            *new, "-keyout", f"{name}.key", "-out", f"{name}.pem", "-subj", f"/CN={name}",
            "-CA", "ca.pem", "-CAkey", "ca.key", "-addext", "subjectAltName=IP:127.0.0.1",
            "-addext", "basicConstraints=critical,CA:FALSE",
        )  # fmt: skip


NO_SECRET = {
    "a variable that is not set": (Secret(env="SHOP_KEY"), None, "SHOP_KEY is not set"),
    "a file that is away": (Secret(file="token"), None, "cannot be read: no such file"),
    "an empty file": (Secret(file="token"), "\n", "found 0 characters"),
    "a short one": (Secret(file="token"), "abc", "found 3 characters"),
    "two lines": (Secret(file="token"), f"{PLANTED}\nX-Evil: 1", "a line break"),
    "no ASCII": (Secret(file="token"), f"{PLANTED}é", "no header takes"),
}


@pytest.mark.parametrize("case", NO_SECRET)
def test_a_secret_that_is_none_is_told_without_showing_it(case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Each planted fault is a usage error that names the place."""
    secret, text, message = NO_SECRET[case]
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SHOP_KEY", raising=False)
    if text is not None:
        (tmp_path / "token").write_text(text, encoding="utf-8")
    with pytest.raises(SpecError, match=message) as refused:
        resolve(Auth(header=HeaderAuth(name="X-Api-Key", value=secret)), "target.yaml: auth")
    assert str(refused.value).startswith("target.yaml: auth: header.value: ")
    assert PLANTED not in str(refused.value)


def test_without_prometheus_its_objectives_are_not_applicable_and_the_clients_stay():
    """Each lacking source is one judgement with its reason; what has the client's evidence is still judged by it."""
    found = judgeable(RESEARCHFLOW, target_of(Plain(), Plain()))
    absent = {(j.id, j.source): j for j in found.absent}
    assert {j.status for j in found.absent} == {Status.NOT_APPLICABLE}
    kept = {objective.id: objective for objective in found.system.objectives}
    for objective in RESEARCHFLOW.objectives:
        for source in objective.sources:
            here = objective.id in kept and source in kept[objective.id].sources
            assert here != ((objective.id, source.value) in absent), (objective.id, source)
        if Source.CLIENT in objective.sources:
            assert Source.CLIENT in kept[objective.id].sources
    assert not any(Source.PROMETHEUS in objective.sources for objective in kept.values())
    both = [o.id for o in RESEARCHFLOW.objectives if {Source.CLIENT, Source.PROMETHEUS} <= set(o.sources)]
    assert both
    assert all("names no Prometheus" in absent[name, "prometheus"].reason for name in both)
    assert all("not seen from outside" in j.reason for j in found.absent if j.id == "canary.restarts")


def test_with_prometheus_its_objectives_are_judged():
    """Nothing of Prometheus' is left out where the target names one."""
    target = target_of(Plain(), Plain(), prometheus=DeployedPrometheus(url="http://127.0.0.1:9"))
    assert not any(j.source == "prometheus" for j in judgeable(RESEARCHFLOW, target).absent)


def test_what_is_not_applicable_is_named_at_every_look_and_passes_nothing():
    """A judge of parts: the rest is told again and again, and alone it makes no verdict."""

    class Nobody:
        def observe(self, records: Sequence[Evidence]) -> None: ...

        def look(self, **_: object) -> tuple[Judgement, ...]:
            return ()

    absent = judgeable(RESEARCHFLOW, target_of(Plain(), Plain())).absent
    said = PartJudge(Nobody(), absent).look(at=1.0, stage="50", final=False)
    assert {j.id for j in said} == {j.id for j in absent}
    assert {j.stage for j in said} == {"50"}
    assert overall(said) is Status.ERROR


def test_a_target_that_leaves_no_guardrail_is_refused():
    """A system that Prometheus alone could judge is not judged by nothing."""
    only = tuple(o for o in RESEARCHFLOW.objectives if o.measure is Measure.COLLECTED)
    assert only
    assert not judgeable(replace(RESEARCHFLOW, objectives=only), target_of(Plain(), Plain())).decides


@pytest.mark.parametrize(
    "kind, settings, made",
    [
        ("client", (), ClientSplitRouter),
        ("flags", (("file", "flags.json"), ("flag", "fresh")), FlagRouter),
        ("haproxy", (("admin", "127.0.0.1:9999"), ("lease", "0.0.0.0:9998")), HAProxyRouter),
        (
            "nginx",
            (("file", "a.conf"), ("status_url", "http://x"), ("check", ("true",)), ("reload", ("true",))),
            NginxRouter,
        ),
    ],
)
def test_each_kind_of_router_is_made_of_its_settings(tmp_path: Path, kind: str, settings: tuple, made: type):
    """None is asked anything while it is made."""
    target = target_of(Plain(), Plain(), router=DeployedRouter(kind=kind, settings=settings))
    router = router_of(target, MINIMAL, split=tmp_path / "split.json")
    assert isinstance(router, made)
    assert router.returns_alone == (kind in {"client", "haproxy"})


def test_a_flag_that_nobody_names_is_a_usage_error(tmp_path: Path):
    """Neither the target file nor the system says which flag moves the traffic."""
    router = DeployedRouter(kind="flags", settings=(("file", "flags.json"),))
    with pytest.raises(SpecError, match=r"router\.flag: missing"):
        router_of(target_of(Plain(), Plain(), router=router), MINIMAL, split=tmp_path)


def test_a_metrics_server_behind_a_door_hears_the_header_and_no_note_repeats_it(monkeypatch: pytest.MonkeyPatch):
    """Both of the clients that ask Prometheus show it; its complaint comes back without it."""
    monkeypatch.setenv("SHOP_KEY", PLANTED)
    access = resolve(Auth(header=HeaderAuth(name="X-Api-Key", value=Secret(env="SHOP_KEY"))), "auth")
    server = Plain(wants={"X-Other": "key"})
    with plain(server):
        metrics = PrometheusMetrics(server.url, RESEARCHFLOW, SystemClock(), access)
        reports = metrics.collect()
        metrics.close()
    assert {report.signal for report in reports} == {"metrics", "alerts"}
    assert all(report.bad for report in reports)
    assert PLANTED in server.heard
    assert all(PLANTED not in report.note for report in reports)


def written(folder: Path, *, router: str = "{kind: client}", more: str = "") -> Path:
    """Write a target file of addresses that are never asked."""
    path = folder / "target.yaml"
    path.write_text(
        f"schema: 1\nbaseline: {{url: 'http://127.0.0.1:1'}}\ncandidate: {{url: 'http://127.0.0.1:2'}}\n"
        f"router: {router}\n{more}",
        encoding="utf-8",
    )
    return path


WRONG = {
    "no target": ({"provider": "remote"}, "--target FILE"),
    "a target for another provider": ({"provider": "native", "target": ""}, "--provider remote"),
    "a target for whatever is best": ({"provider": "auto", "target": ""}, "--provider remote"),
    "a release": ({"provider": "remote", "target": "", "release": "good"}, "drop --release"),
    "a baseline": ({"provider": "remote", "target": "", "baseline": "good"}, "drop --baseline"),
    "a drill": ({"provider": "remote", "target": "", "drill": "router-misroutes"}, "drop --drill"),
    "a missing file": ({"provider": "remote", "target": "none.yaml"}, "no such file"),
    "a provider that is none": ({"provider": "moon"}, "expected auto, native, docker or remote"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_does_not_fit_is_refused_before_anything_starts(case: str, tmp_path: Path):
    """Exit code 2, nothing asked, no folder made."""
    asked, message = WRONG[case]
    path = written(tmp_path)
    chosen = {
        **asked,
        **({"target": tmp_path / asked["target"] if asked["target"] else path} if "target" in asked else {}),
    }
    with pytest.raises(SpecError, match=message) as refused:
        run_gate(MINIMAL, plan="quick", out=tmp_path / "out", **chosen)
    assert refused.value.exit_code == 2
    assert not (tmp_path / "out").exists()


def test_a_secret_that_is_not_there_is_told_before_anything_starts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The environment lacks the variable: exit code 2, and no run begins."""
    monkeypatch.delenv("SHOP_KEY", raising=False)
    path = written(tmp_path, more="auth: {basic: {user: gate, password: {env: SHOP_KEY}}}\n")
    with pytest.raises(SpecError, match="SHOP_KEY is not set"):
        run_gate(MINIMAL, provider="remote", target=path, plan="quick", out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_port_of_an_address_is_its_schemes_own():
    """Where none is named."""
    assert address_of("https://shop.example") == "shop.example:443"
    assert address_of("http://[::1]") == "[::1]:80"


def test_the_default_plan_of_a_deployed_stack_is_the_full_one(tmp_path: Path):
    """A system that names no default for remote wants `full`: no shorter one takes its place."""
    quick = tuple(plan for plan in MINIMAL.plans if plan.name == "quick")
    system: System = replace(MINIMAL, plans=quick, default_plans=(("native", "quick"),))
    with pytest.raises(SpecError, match="there is no plan 'full'"):
        run_gate(system, provider="remote", target=written(tmp_path), out=tmp_path / "out")


def test_the_runs_copy_of_a_system_leaves_secrets_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A secret's own file, our key, and a file that repeats a secret: none is copied, all else is."""
    monkeypatch.setenv("SHOP_KEY", PLANTED)
    folder, out = tmp_path / "shop", tmp_path / "out"
    shutil.copytree(MINIMAL.root, folder)
    for name, text in (
        (".env", f"SHOP_KEY={PLANTED}"),
        ("token", "another-0ne"),
        ("us.key", "a key"),
        ("note", "fine"),
    ):
        (folder / name).write_text(text, encoding="utf-8")
    auth = Auth(
        header=HeaderAuth(name="X-Api-Key", value=Secret(env="SHOP_KEY")),
        basic=BasicAuth(user="gate", password=Secret(file=str(folder / "token"))),
        tls=TlsFiles(cert="us.pem", key=str(folder / "us.key")),
    )
    found = Deployed(
        system=MINIMAL, target=replace(target_of(Plain(), Plain()), auth=auth),
        access=resolve(replace(auth, tls=TlsFiles()), "auth"), prometheus=Access(),
    )  # fmt: skip
    keep_spec(replace(MINIMAL, root=folder), out, hidden=found.holds_secret)
    left_out = {path.name for path in folder.rglob("*")} - {path.name for path in (out / "system").rglob("*")}
    assert left_out - {"__pycache__"} == {".env", "token", "us.key"}

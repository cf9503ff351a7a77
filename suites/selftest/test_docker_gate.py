"""What a gate adds to the containers: releases, references, files, targets, what may be missing, who is blamed."""

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
import yaml

from harness import spec
from harness.adapters.docker_arguments import Overlay, Placement, arguments
from harness.adapters.docker_asked import listening
from harness.adapters.docker_faults import UnwellError
from harness.adapters.docker_provider import DockerProvider
from harness.adapters.docker_render import Gated
from harness.adapters.docker_session import DockerSession
from harness.adapters.native_state import RunState
from harness.model.composition import Composition, Unit
from harness.model.errors import EnvironmentProblem, SpecError
from harness.model.event import Event, Noted
from harness.model.evidence import Arm
from harness.model.image import ChosenImage
from harness.model.system import Docker, System
from harness.paths import share_root
from harness.planning.composition import chosen
from harness.spec.images import choose_images
from harness.wiring import choose_provider
from harness.wiring.composition import composition_of, shipped

pytestmark = pytest.mark.selftest


@pytest.fixture(scope="module")
def researchflow() -> System:
    """The system that ships."""
    return spec.load_system(spec.find_system("researchflow"))


@pytest.fixture(scope="module")
def composition() -> Composition:
    """The composition that ships."""
    return shipped().composition


@pytest.fixture
def gated(researchflow: System, composition: Composition, tmp_path: Path) -> Iterator[Gated]:
    """A gate of the release that takes longer, time compressed ten times."""
    yield from _gated(researchflow, composition, tmp_path, "p95-slow")


def _gated(system: System, composition: Composition, folder: Path, candidate: str, **more: object) -> Iterator[Gated]:
    state = RunState(folder / "run", run_id="r1", shm_prefixes=[])
    arms = {
        Arm.BASELINE: spec.load_release(spec.find_release(system, "baseline"), system),
        Arm.CANDIDATE: spec.load_release(spec.find_release(system, candidate), system),
    }
    made = Gated(
        system=system,
        composition=composition,
        arms=arms,
        state=state,
        run_id="r1",
        cache=folder / "cache",
        scale=10.0,
        **cast("dict[str, Any]", {"extra_env": {}} | more),
    )
    made.scraped.extend(chosen(composition, gpu=False))
    yield made
    state.remove()


def unit(composition: Composition, alias: str) -> Unit:
    """Return one container, without GPUs."""
    return next(one for one in chosen(composition, gpu=False) if one.alias == alias)


def test_each_arm_has_its_release_and_both_the_live_flags(gated: Gated, composition: Composition):
    """The candidate's fault and version are its own; the flags' folder is mounted, for the file is replaced."""
    baseline, candidate = (gated.overlay(unit(composition, f"gateway-{arm}")) for arm in Arm)
    assert candidate.env["GATEWAY_FAULT_LATENCY_FACTOR"] == "1.7"
    assert "GATEWAY_FAULT_LATENCY_FACTOR" not in baseline.env
    assert (baseline.env["GATEWAY_VERSION"], candidate.env["GATEWAY_VERSION"]) == ("2.0.0", "2.1.2")
    for over in (baseline, candidate):
        assert over.env["GATEWAY_FLAGS_FILE"] == "/rollgate/live/flags.json"
        assert over.binds == {"/rollgate/live": (gated.flags_path.parent, False)}


def test_a_drill_changes_both_arms_over_the_release(researchflow: System, composition: Composition, tmp_path: Path):
    """What a drill sets goes over the release's own word."""
    extra = {"gateway": [("GATEWAY_FAULT_LATENCY_FACTOR", "9")]}
    for gated in _gated(researchflow, composition, tmp_path, "p95-slow", extra_env=extra):
        for arm in Arm:
            assert gated.overlay(unit(composition, f"gateway-{arm}")).env["GATEWAY_FAULT_LATENCY_FACTOR"] == "9"


def test_a_release_may_name_what_lies_in_the_cache(researchflow: System, composition: Composition, tmp_path: Path):
    """The stale index is a path below the cache: mounted where it is named, to be read only."""
    for gated in _gated(researchflow, composition, tmp_path, "stale-index"):
        over = gated.overlay(unit(composition, "faiss-candidate"))
        assert over.env["FAISS_SNAPSHOT"] == "/rollgate/cache/models/faiss/stale.faiss"
        assert over.binds["/rollgate/cache/models"] == (gated.cache / "models", False)


def test_the_router_shares_its_folder_with_the_driver(gated: Gated, composition: Composition):
    """Names in place of addresses, the lease as a socket file, the caller's user, and a folder that both write."""
    over = gated.overlay(unit(composition, "router"))
    folder = gated.folder(unit(composition, "router"))
    text = (folder / "haproxy.cfg").read_text(encoding="utf-8")
    assert "bind 0.0.0.0:8080" in text
    assert "server candidate gateway-candidate:8081" in text
    assert "server lease unix@lease.sock" in text
    assert "str(candidate),map_str_int(/rollgate/dir/limits.map,0),mul(100),div(100)" in text
    assert over.binds == {"/rollgate/dir": (folder, True)}
    assert over.working_dir == "/rollgate/dir"
    assert over.user not in {"", "0", "0:0", "root"}


def test_prometheus_is_told_every_target_by_name(gated: Gated, composition: Composition):
    """Its files can be read by its user, durations are compressed, targets carry arm and version."""
    gated.overlay(unit(composition, "prometheus"))
    folder = gated.folder(unit(composition, "prometheus"))
    targets: list[dict[str, Any]] = json.loads((folder / "targets/gateway.json").read_text(encoding="utf-8"))
    assert targets == [
        {"targets": ["gateway-baseline:8081"], "labels": {"arm": "baseline", "version": "2.0.0"}},
        {"targets": ["gateway-candidate:8081"], "labels": {"arm": "candidate", "version": "2.1.2"}},
    ]
    assert "scrape_interval: 1500ms" in (folder / "prometheus.yml").read_text(encoding="utf-8")
    for path in (folder, *folder.rglob("*")):
        assert path.stat().st_mode & 0o004, f"{path} cannot be read by another user"


def test_a_reference_that_no_container_has_is_named(researchflow: System, composition: Composition, tmp_path: Path):
    """A release that needs rollgate's own folder cannot run in a container, and the error says which reference."""
    for gated in _gated(researchflow, composition, tmp_path, "good"):
        release = replace(gated.arms[Arm.CANDIDATE], env=(("gateway", (("X", "${share}/x"),)),))
        bad = replace(gated, arms={**gated.arms, Arm.CANDIDATE: release})
        with pytest.raises(SpecError, match=r"gateway: .*\$\{share\}"):
            bad.overlay(unit(composition, "gateway-candidate"))


@pytest.mark.parametrize("text", ["${bin.haproxy}", "${share}/x", "${nothing}", "${port.nope}"])
def test_the_files_are_refused_that_ask_for_what_no_container_has(text: str, tmp_path: Path):
    """`validate` finds it, with file, line and key."""
    root = tmp_path / "researchflow"
    shutil.copytree(spec.find_system("researchflow"), root)
    path = root / "system.yaml"
    kept = path.read_text(encoding="utf-8")
    line = '      command: [haproxy, "-db", "-f", "${dir}/haproxy.cfg"]'
    assert line in kept
    path.write_text(kept.replace(line, f'      command: [haproxy, "{text}"]'), encoding="utf-8")
    with pytest.raises(SpecError, match=r"system\.yaml:\d+: services\.router\.docker\.command"):
        spec.load_system(root)


def test_an_overlay_goes_over_the_composition_in_what_the_engine_is_asked(composition: Composition, tmp_path: Path):
    """Command, environment, user, ports and paths; what it does not name stays the composition's."""
    placement = Placement(run="r", owner="o", inside="n", stack=tmp_path, secrets=tmp_path, targets=tmp_path, cpus=2.0)
    plain = arguments(unit(composition, "gateway-candidate"), composition, placement)
    over = Overlay(env={"GATEWAY_VERSION": "9"}, binds={"/there": (tmp_path, False)}, ports={"http": 4321}, user="5:5")
    asked = arguments(unit(composition, "gateway-candidate"), composition, placement, over)
    assert asked["environment"] == plain["environment"] | {"GATEWAY_VERSION": "9"}
    assert asked["command"] == plain["command"]
    assert asked["ports"] == {"8081/tcp": ("127.0.0.1", 4321)}
    assert plain["ports"] == {"8081/tcp": ("127.0.0.1",)}
    assert asked["user"] == "5:5"
    added = [one for one in asked["mounts"] if one not in plain["mounts"]]
    assert [(one["Source"], one["Target"], one["ReadOnly"]) for one in added] == [(str(tmp_path), "/there", True)]


class Engine:
    """An engine that has some images and can pull none."""

    def __init__(self, composition: Composition, lacks: set[str]) -> None:
        self.units = {one.alias: one for one in chosen(composition, gpu=False)}
        self.lacks = lacks

    def at_hand(self, one: Unit) -> str:
        return "" if one.service.name in self.lacks else "here"

    def pull(self, reference: str) -> None:
        raise OSError(f"dial tcp: lookup registry: no such host ({reference})")


def provider(system: System, folder: Path, said: list[Event]) -> DockerProvider:
    """Return a provider that was asked nothing of an engine yet."""
    kept = shipped()
    return DockerProvider(
        system,
        {},
        composition=kept.composition,
        images=choose_images(kept.images, {}),
        stack=share_root() / "stack",
        out=folder,
        state=folder / "r1",
        run_id="r1",
        time_scale=1.0,
        cache=folder,
        settings={},
        gpu=False,
        on_event=said.append,
    )


def wanted(made: DockerProvider, engine: Engine) -> list[str]:
    """Return the aliases of the containers that a gate would start on `engine`."""
    return [one.alias for one in made._wanted(cast("DockerSession", engine))]  # noqa: SLF001


def test_what_draws_alone_may_be_missing_and_says_so(researchflow: System, composition: Composition, tmp_path: Path):
    """Grafana and cAdvisor decide nothing: a machine that cannot have their images does without, with the reason."""
    said: list[Event] = []
    made = provider(researchflow, tmp_path, said)
    found = wanted(made, Engine(composition, {"grafana", "cadvisor"}))
    assert {"gateway-baseline", "gateway-candidate", "prometheus", "router"} <= set(found)
    assert not {"grafana", "cadvisor", "gpu_exporter", "nginx", "mlflow"} & set(found)
    absent = made._absent  # noqa: SLF001
    assert set(absent) == {"grafana", "cadvisor", "gpu_exporter"}
    assert "no such host" in absent["grafana"]
    warned = [event.text for event in said if isinstance(event, Noted) and event.level == "warning"]
    assert any("without grafana" in text for text in warned)


def test_what_decides_must_not_be_missing(researchflow: System, composition: Composition, tmp_path: Path):
    """Without Prometheus' image the gate does not begin, and the error names service, image and mend."""
    made = provider(researchflow, tmp_path, [])
    with pytest.raises(EnvironmentProblem, match=r"prometheus: the image prom/prometheus:.*ROLLGATE_IMAGE_PROMETHEUS"):
        wanted(made, Engine(composition, {"prometheus"}))


def test_a_service_without_a_container_is_named(researchflow: System, composition: Composition, tmp_path: Path):
    """A system with a service that the composition lacks cannot run there, unless it says so itself."""
    extra = replace(researchflow.service("redis"), name="valkey", docker=Docker())
    bigger = replace(researchflow, services=(*researchflow.services, extra))
    with pytest.raises(SpecError, match="no container for valkey"):
        wanted(provider(bigger, tmp_path, []), Engine(composition, set()))
    told = replace(extra, not_on=(("docker", "it has no image"),))
    fine = replace(researchflow, services=(*researchflow.services, told))
    assert "router" in wanted(provider(fine, tmp_path, []), Engine(composition, set()))


@pytest.mark.parametrize(
    "alias, problem, forgiven",
    [
        ("gateway-candidate", UnwellError("gateway-candidate: ended with exit code 1"), True),
        ("faiss-candidate", UnwellError("faiss-candidate: was killed for want of memory"), True),
        ("gateway-candidate", EnvironmentProblem("gateway-candidate: the port is taken"), False),
        ("gateway-baseline", UnwellError("gateway-baseline: ended with exit code 1"), False),
        ("triton", UnwellError("triton: ended with exit code 1"), False),
    ],
)
def test_only_the_candidates_own_failure_is_the_releases(
    alias: str, problem: EnvironmentProblem, *, forgiven: bool, researchflow: System, tmp_path: Path
):
    """The candidate's container that ends is judged; the engine's trouble and anybody else's ends the run."""
    said: list[Event] = []
    made = provider(researchflow, tmp_path, said)
    assert made._forgives(unit(shipped().composition, alias), problem) is forgiven  # noqa: SLF001
    assert bool(said) is forgiven


def test_the_kernels_table_tells_who_listens():
    """Listening sockets of both families are found; one that only talks is none."""
    table = (
        "  sl  local_address rem_address   st tx_queue\n"
        "   0: 00000000:1F90 00000000:0000 0A 00000000:00000000\n"
        "   1: 0100007F:C350 0100007F:1F90 01 00000000:00000000\n"
        "   2: 00000000000000000000000000000000:1F41 00000000000000000000000000000000:0000 0A 00000000:00000000\n"
    )
    assert listening(table) == {8080, 8001}
    assert listening("") == set()


def test_a_system_without_a_composition_is_refused(tmp_path: Path):
    """The smallest system has no containers; one that lies beside its system.yaml is taken."""
    root = tmp_path / "minimal"
    shutil.copytree(spec.find_system("minimal"), root)
    system = spec.load_system(root)
    with pytest.raises(SpecError, match=r"composition\.yaml.*--provider"):
        composition_of(system)
    text = yaml.safe_load((share_root() / "stack/composition.yaml").read_text(encoding="utf-8"))
    for service in text["services"].values():
        service["mounts"] = [one for one in service.get("mounts", []) if one["kind"] != "shipped"]
    (root / "composition.yaml").write_text(yaml.safe_dump(text | {"inventory": "minimal"}), encoding="utf-8")
    found = composition_of(system)
    assert (found.composition.inventory, found.stack) == ("minimal", root)


def test_auto_is_native_where_no_engine_answers(monkeypatch: pytest.MonkeyPatch, researchflow: System, tmp_path: Path):
    """Docker is chosen by itself only where it can serve; what is asked for by name is taken at its word."""
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/no.sock")
    assert choose_provider("auto", system=researchflow) == "native"
    assert choose_provider("docker", system=researchflow) == "docker"
    with pytest.raises(SpecError, match="expected auto, native, docker or remote"):
        choose_provider("podman")


def test_auto_needs_every_pinned_image(monkeypatch: pytest.MonkeyPatch, researchflow: System):
    """An engine that lacks one pinned image, and cannot pull it, is not chosen; what is optional is not asked for."""
    asked: list[str] = []

    def every(images: list[ChosenImage]) -> bool:
        asked.extend(one.image.key for one in images)
        return Answers.all

    class Answers:
        all = False

    monkeypatch.setenv("DOCKER_HOST", "unix:///nowhere.sock")
    monkeypatch.setattr("harness.adapters.docker_images.every_image", every)
    assert choose_provider("auto", system=researchflow) == "native"
    assert {"ollama", "triton", "prometheus", "gateway"} <= set(asked)
    assert not {"grafana", "cadvisor"} & set(asked)
    Answers.all = True
    assert choose_provider("auto", system=researchflow) == "docker"

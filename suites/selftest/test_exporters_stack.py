"""The exporters in the stack: who starts them, what Prometheus is told of them, and that they end with it."""

import dataclasses
import json
import os
import sys
from pathlib import Path

import httpx
import pytest
from exporter_upstreams import GPU_RECORDING, series, value
from native_runs import minimal, run_of

from harness import spec
from harness.adapters import native_instance
from harness.adapters.native import NativeProvider
from harness.adapters.native_instance import native_services
from harness.adapters.prometheus_targets import check_targets
from harness.model.system import Native, Service, System
from harness.planning.outline import outline
from harness.pytest_plugin.selection import absence
from harness.spec.monitoring import find_monitoring, load_monitoring

pytestmark = pytest.mark.selftest

# What `ollama` on PATH does for the stack, and nothing of what it is: three questions and the commands of system.yaml.
OLLAMA = """
import http.server, json, os, sys
if sys.argv[1] != "serve":
    sys.exit(print("ollama version is 9.9.9"))
BODIES = {
    "/api/ps": {"models": [{"name": "m:latest", "size": 10, "size_vram": 10, "digest": "d"}]},
    "/api/tags": {"models": [{"name": "rollgate-tiny:latest", "size": 10}]},
    "/api/version": {"version": "9.9.9"},
}
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        known = self.path in BODIES
        self.send_response(200 if known else 404)
        self.end_headers()
        self.wfile.write(json.dumps(BODIES.get(self.path)).encode())
    def log_message(self, *args):
        pass
host, _, port = os.environ["OLLAMA_HOST"].rpartition(":")
http.server.ThreadingHTTPServer((host, int(port)), Handler).serve_forever()
"""


@pytest.fixture
def researchflow() -> System:
    """The system as it ships."""
    return spec.load_system(spec.find_system("researchflow"))


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that shows a GPU."""
    monkeypatch.setattr(native_instance, "visible_gpus", lambda: ("a GPU",))


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that shows none."""
    monkeypatch.setattr(native_instance, "visible_gpus", tuple)


def _reader_of_targets() -> Service:
    """Return what is given Prometheus' files: the shipped configuration and its targets."""
    native = Native(
        command=("${python}", str(minimal().root / "app.py")),
        env=(("PORT", "${port.http}"),),
        files=(("prometheus/prometheus.yml", "prometheus.yml"),),
    )
    health = dataclasses.replace(minimal().service("app").health, port="http")
    return Service(name="router", ports=(("http", 9090),), health=health, native=native)


@pytest.mark.usefixtures("gpu")
def test_a_real_ollama_is_scraped_through_its_exporter_and_all_ends_with_the_stack(
    researchflow: System, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With an `ollama` on PATH the exporter is job ollama's only target; both exporters listen on the loopback."""
    tools = tmp_path / "tools"
    tools.mkdir()
    (tools / "ollama").write_text(f"#!{sys.executable}\n{OLLAMA}", encoding="utf-8")
    (tools / "ollama").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tools}:{os.environ['PATH']}")
    ollama, *exporters = (researchflow.service(name) for name in ("ollama", "ollama_exporter", "gpu_exporter"))
    assert ollama.native
    ollama = dataclasses.replace(ollama, native=dataclasses.replace(ollama.native, programs=()))  # of the stand-in
    services = (ollama, *exporters, _reader_of_targets())
    traffic = dataclasses.replace(researchflow.traffic, metrics_service="router.http")
    system = dataclasses.replace(researchflow, services=services, traffic=traffic, secrets=())
    env = {"gpu_exporter": [("GPU_EXPORTER_RECORDING", str(GPU_RECORDING))]}
    provider: NativeProvider = run_of(system, tmp_path, extra_env=env)
    try:
        stack = provider.up()
        assert {r.name: str(r.kind) for r in stack.records()}["ollama"] == "real"
        targets = tmp_path / "run" / "r1" / "i" / "router" / "targets"
        addresses: dict[str, str] = {}
        for job in ("ollama", "gpu"):
            (group,) = json.loads((targets / f"{job}.json").read_text())
            (addresses[job],) = group["targets"]
            assert addresses[job].startswith("127.0.0.1:")
        found = {job: series(httpx.get(f"http://{at}/metrics").text) for job, at in addresses.items()}
    finally:
        provider.down()
    assert value(found["ollama"], "ollama_up") == 1
    assert value(found["ollama"], "ollama_model_vram_bytes", model="m:latest") == 10
    assert value(found["ollama"], "ollama_model_loads_total", model="rollgate-tiny:latest") == 0
    assert value(found["ollama"], "ollama_memory_limit_bytes") == 24 * 2**30
    assert value(found["gpu"], "gpu_available") == 1
    for address in addresses.values():
        with pytest.raises(httpx.ConnectError):
            httpx.get(f"http://{address}/metrics")


@pytest.mark.usefixtures("no_gpu")
def test_without_a_gpu_its_exporter_is_left_out(researchflow: System) -> None:
    """No process, no target, so no alert on a GPU that nobody declared; the plan says when it would run."""
    names = [service.name for service in native_services(researchflow)]
    assert "gpu_exporter" not in names
    assert {"ollama_exporter", "ollama", "triton"} <= set(names)  # what can do without a GPU stays
    (gpu_alone,) = (s for s in researchflow.services if s.name == "gpu_exporter")
    assert check_targets(dataclasses.replace(researchflow, services=(gpu_alone,)), ()).faults == ()
    assert absence(gpu_alone, "native") == "this machine shows no GPU"
    assert absence(gpu_alone, "remote") == absence(researchflow.service("triton"), "native") == ""
    plan = researchflow.plans[0]
    assert any("gpu_exporter (where there is a GPU)" in line for line in outline(researchflow, plan, "native"))
    assert not any("where there is a GPU" in line for line in outline(researchflow, plan, "docker"))


@pytest.mark.usefixtures("gpu")
def test_with_a_gpu_its_exporter_runs(researchflow: System) -> None:
    """And when its target is down, that is a fault of ours."""
    (mine,) = (s for s in native_services(researchflow) if s.name == "gpu_exporter")
    assert absence(mine, "native") == ""
    down = {"labels": {"job": "gpu", "instance": "x:1"}, "health": "down", "lastError": "refused"}
    system = dataclasses.replace(researchflow, services=(mine,))
    assert check_targets(system, (down,)).faults == ("scrape target down: job gpu, instance x:1: refused",)


def test_what_the_exporters_serve_is_what_is_kept_for_the_rules() -> None:
    """The names of GPUs in the recorded scrapes are those that the exporter serves now, and only those."""
    from rollgate_exporters.gpu.library import Recording  # noqa: PLC0415 - a server, for this case alone
    from rollgate_exporters.gpu.nvml import Gpus  # noqa: PLC0415
    from rollgate_exporters.gpu.series import GpuCollector  # noqa: PLC0415

    collector = GpuCollector(simulated=True)
    collector.reading = Gpus(Recording(GPU_RECORDING)).read()
    served = {sample.name for family in collector.collect() for sample in family.samples}
    for name in ("researchflow", "pipeline"):
        (kept,) = (s for s in load_monitoring(find_monitoring(name)).scrapes if s.job == "gpu")
        assert "written by hand" in kept.declared
        names = {dict(item.labels)["__name__"] for item in kept.series}
        assert {one for one in names if one.startswith("gpu_")} == served

"""Reading a system's folder: every mistake is one line with file, line, key and mend, never a traceback."""

import re
import shutil
from pathlib import Path

import pytest

from harness import spec
from harness.model.errors import SpecError
from harness.model.evidence import Source
from harness.paths import share_root
from harness.spec.document import read_document
from harness.spec.published import publish

pytestmark = pytest.mark.selftest

MINIMAL = share_root() / "stack" / "systems" / "minimal"
REQUIREMENTS = """\
schema: 1
services:
  app: {covers: [aa.svc.app], inventory: {ports: [8000], health: GET /health, start_period_s: 10}, facts: {parallel: 4}}
plans:
  quick: {percent: [10, 50, 100]}
"""
FLAGS = '{"schema": 1, "flags": {"a": {"rollout": 0}, "b": {"rollout": 0, "depends": ["a"]}}}'


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the smallest system, with requirements, to be broken."""
    copy = Path(shutil.copytree(MINIMAL, tmp_path / "minimal"))
    (copy / "conformance.yaml").write_text(REQUIREMENTS)
    return copy


def edit(path: Path, old: str, new: str) -> None:
    """Replace the first `old` in a file, which must be there."""
    text = path.read_text()
    assert old in text, f"{path.name} has no {old!r}: mend this test"
    path.write_text(text.replace(old, new, 1))


def line_of(path: Path, text: str) -> int:
    """Return the line (from 1) of the first that holds `text`."""
    return next(number for number, line in enumerate(path.read_text().splitlines(), 1) if text in line)


# file, what stands there, what is put in its place, the key named, found and expected, the mend
MISTAKES = {
    "an unknown key suggests the nearest": (
        "system.yaml",
        "per_arm: true",
        "per_arms: true",
        "services.app.per_arms",
        "unknown key",
        "`per_arm`",
    ),
    "an unknown key at the top": (
        "system.yaml",
        "default_plans:",
        "defaults_plan:",
        "defaults_plan",
        "unknown key",
        "`default_plans`",
    ),
    "a wrong type": (
        "system.yaml",
        "under_release: true",
        "under_release: 7",
        "services.app.under_release",
        "found 7",
        "correct",
    ),
    "a number where text belongs": (
        "releases/errors.yaml",
        'ERROR_RATE: "0.08"',
        "ERROR_RATE: 0.08",
        "env.app.ERROR_RATE",
        "found 0.08",
        "quotes",
    ),
    "text where a number belongs": (
        "rollout.yaml",
        "warmup_s: 3",
        'warmup_s: "3 s"',
        "plans.quick.warmup_s",
        "'3 s'",
        "without quotes or unit",
    ),
    "a value out of range": (
        "system.yaml",
        "{http: 8000}",
        "{http: 80000}",
        "services.app.ports.http",
        "less than or equal to 65535",
        "",
    ),
    "a number that is none": (
        "rollout.yaml",
        "alpha: 0.01",
        "alpha: .nan",
        "plans.quick.alpha",
        "found nan",
        "correct",
    ),
    "a word that is none of the words": (
        "rollout.yaml",
        "proof: last",
        "proof: lust",
        "plans.quick.proof",
        "'each' or 'last'",
        "correct",
    ),
    "a key without a value": (
        "system.yaml",
        "title: One HTTP service behind a router",
        "title:",
        "title",
        "found nothing",
        "give it a value",
    ),
    "a newer format": ("rollout.yaml", "schema: 1", "schema: 2", "schema", "expected 1", "correct"),
    "a key twice": (
        "objectives.yaml",
        "    measure: ratio ",
        "    signal: x\n    measure: ratio ",
        'objectives."minimal.error_rate".signal',
        "twice, first on line",
        "keep one",
    ),
    "an id twice": (
        "objectives.yaml",
        "  minimal.health:",
        "  minimal.latency_p95:",
        "minimal.latency_p95",
        "twice",
        "keep one",
    ),
    "a threshold between bucket bounds": (
        "objectives.yaml",
        "threshold: 200\n",
        "threshold: 210\n",
        'objectives."minimal.latency_p95".threshold',
        "found 210 ms, expected one of traffic.latency_bounds_ms",
        "add 210",
    ),
    "a threshold with no bound above it": (
        "objectives.yaml",
        "threshold: 200\n",
        "threshold: 2000\n",
        'objectives."minimal.latency_p95".threshold',
        "the last of traffic.latency_bounds_ms",
        "add a bound above 2000",
    ),
    "a margin between bucket bounds": (
        "rollout.yaml",
        "margins: {} ",
        "margins: {minimal.latency_p95: 210} ",
        'plans.quick.margins."minimal.latency_p95"',
        "found 210 ms",
        "add 210",
    ),
    "a margin of no objective": (
        "rollout.yaml",
        "margins: {} ",
        "margins: {minimal.latency_p59: 200} ",
        "margins",
        "found `minimal.latency_p59`",
        "`minimal.latency_p95`",
    ),
    "a measured objective without threshold": (
        "objectives.yaml",
        "    threshold: 5\n",
        "",
        'objectives."minimal.error_rate".threshold',
        "missing",
        "add `thr",
    ),
    "a threshold in another unit": (
        "objectives.yaml",
        "    unit: ms",
        "    unit: s",
        'objectives."minimal.latency_p95".unit',
        "expected `ms`",
        "ms",
    ),
    "a quantile measure without its quantile": (
        "objectives.yaml",
        "    quantile: 0.95\n    threshold: 200",
        "    threshold: 200",
        'objectives."minimal.latency_p95".quantile',
        "missing",
        "add `quantile",
    ),
    "a signal that nothing declares": (
        "objectives.yaml",
        "signal: answer.latency",
        "signal: anser.latency",
        'objectives."minimal.latency_p95".signal',
        "found `anser.latency`",
        "`answer.latency`",
    ),
    "a source that the signal does not have": (
        "objectives.yaml",
        "sources: [client] ",
        "sources: [prometheus] ",
        'objectives."minimal.error_rate".sources[0]',
        "lacks `bad` and `total`",
        "add `bad` and `total`",
    ),
    "stages that do not rise": (
        "rollout.yaml",
        "{share: 50,",
        "{share: 10,",
        "plans.quick.stages[1].share",
        "found 10 after 10",
        "order",
    ),
    "stages that the holdout makes equal": (
        "rollout.yaml",
        "{share: 50,",
        "{share: 97,",
        "plans.quick.stages[2].share",
        "with a holdout of 5",
        "order",
    ),
    "a bake that ends before it may": (
        "rollout.yaml",
        "max_bake_s: 20,",
        "max_bake_s: 2,",
        "plans.quick.stages[1].max_bake_s",
        "min_bake_s = 5",
        "",
    ),
    "a deadline that no run can meet": (
        "rollout.yaml",
        "deadline_s: 120",
        "deadline_s: 9",
        "plans.quick.deadline_s",
        "at least warm-up",
        "raise",
    ),
    "a default plan that is not there": (
        "system.yaml",
        "docker: quick",
        "docker: quack",
        "default_plans.docker",
        "found `quack`",
        "`quick`",
    ),
    "a default plan of no provider": (
        "system.yaml",
        "docker: quick",
        "dokcer: quick",
        "default_plans.dokcer",
        "found 'dokcer'",
        "correct",
    ),
    "an entry at no service": (
        "system.yaml",
        "entry: router.http",
        "entry: roter.http",
        "traffic.entry",
        "found `roter`",
        "`router`",
    ),
    "an entry at no port": (
        "system.yaml",
        "entry: router.http",
        "entry: router.https",
        "traffic.entry",
        "found `https`",
        "`http`",
    ),
    "a gateway that runs once": (
        "system.yaml",
        "gateway: app ",
        "gateway: router ",
        "traffic.gateway",
        "runs once",
        "per_arm: true",
    ),
    "a probe of no port": (
        "system.yaml",
        "{kind: http, port: stats,",
        "{kind: http, port: status,",
        "services.router.health.port",
        "found `status`",
        "`stats`",
    ),
    "a dependency on nothing": (
        "system.yaml",
        "depends: [app]",
        "depends: [apps]",
        "services.router.depends[0]",
        "found `apps`",
        "`app`",
    ),
    "a dependency cycle": (
        "system.yaml",
        "    per_arm: true",
        "    depends: [router]\n    per_arm: true",
        "services.router.depends",
        "router -> app -> router",
        "drop one",
    ),
    "bounds that do not rise": (
        "system.yaml",
        "[1, 2, 3, 5,",
        "[1, 3, 2, 5,",
        "traffic.latency_bounds_ms[2]",
        "found 2 after 3",
        "sort",
    ),
    "a reference to no port": (
        "system.yaml",
        'PORT: "${port.http}"',
        'PORT: "${port.htp}"',
        "services.app.native.env.PORT",
        "no port of this service called `htp`",
        "`http`",
    ),
    "a reference to no service": (
        "system.yaml",
        'PORT: "${port.http}"',
        'PORT: "${roter.http}"',
        "services.app.native.env.PORT",
        "no service called `roter`",
        "`router`",
    ),
    "a reference to nothing known": (
        "system.yaml",
        '"${python}"',
        '"${pyton}"',
        "services.app.native.command[0]",
        "${pyton}",
        "`python`",
    ),
    "a program that the service does not name": (
        "system.yaml",
        "programs: [haproxy]",
        "programs: [nginx]",
        "services.router.native.command[0]",
        "called `haproxy`",
        "known programs: nginx",
    ),
    "a secret that is not declared": (
        "system.yaml",
        'PORT: "${port.http}"',
        'PORT: "${secret.key}"',
        "services.app.native.env.PORT",
        "no secret called `key`",
        "no secrets here",
    ),
    "a template that is not there": (
        "system.yaml",
        "files: {router.cfg: ",
        "files: {route.cfg: ",
        'services.router.native.files."route.cfg"'[:32],
        "no such file",
        "create it",
    ),
    "a suite that is not there": (
        "system.yaml",
        "suites: [",
        "suites: [nowhere, ",
        "suites[0]",
        "found `nowhere`",
        "suites",
    ),
    "a Locust file that is not there": (
        "scenarios.yaml",
        "scenarios/answer.py",
        "scenarios/anser.py",
        "scenario.locustfile",
        "found `scenarios/anser.py`",
        "scenarios/answer.py",
    ),
    "a signal without numbers": (
        "system.yaml",
        "answer.wrong: {client: true} ",
        "answer.wrong: {scale: 1} ",
        'signals."answer.wrong"'[:7],
        "no source of numbers",
        "client: true",
    ),
    "a release that changes what is not under release": (
        "releases/errors.yaml",
        "app: {",
        "router: {",
        "env.router",
        "not under release",
        "may change: app",
    ),
    "a release for no service": ("releases/errors.yaml", "app: {", "ap: {", "env.ap", "found `ap`", "`app`"),
    "a drill without its service": (
        "drills/router-misroutes.yaml",
        "action: misroute ",
        "action: kill_service ",
        "service",
        "missing",
        "add `serv",
    ),
    "a drill in no stage": (
        "drills/router-misroutes.yaml",
        'stage: "10"',
        'stage: "11"',
        "stage",
        "found `11`",
        "10, 100, 50",
    ),
    "a requirement for no service": (
        "conformance.yaml",
        "  app:",
        "  ap:",
        "services.ap",
        "found `ap`",
        "`app`",
    ),
    "ports that are not the required ones": (
        "conformance.yaml",
        "ports: [8000]",
        "ports: [8001]",
        "services.app.inventory.ports",
        "found 8000 in system.yaml, expected 8001",
        "correct",
    ),
    "a start period that is not the required one": (
        "conformance.yaml",
        "start_period_s: 10",
        "start_period_s: 9.5",
        "services.app.inventory.start_period_s",
        "found 10 in system.yaml, expected 9.5",
        "correct",
    ),
    "a limit that is none": (
        "system.yaml",
        "memory_gb: 0.5",
        "memory_gb: 0",
        "services.app.resources.memory_gb",
        "found 0",
        "correct",
    ),
    "an image without a version": (
        "system.yaml",
        "resources: {memory_gb: 0.5}",
        "image: app:latest",
        "services.app.image",
        "found 'app:latest'",
        "correct",
    ),
    "a requirement for no plan": (
        "conformance.yaml",
        "quick:",
        "quack:",
        "plans.quack",
        "found `quack`",
        "`quick`",
    ),
    "a plan that lacks a required stage": (
        "conformance.yaml",
        "[10, 50, 100]",
        "[10, 25, 50, 100]",
        "plans.quick",
        "found 10, 50, 100 in rollout.yaml, expected 10, 25, 50, 100",
        "correct the stages",
    ),
    "a merge key": ("rollout.yaml", "  quick:", "  <<: {}\n  quick:", "plans", "merge key", "write the keys out"),
    "a tag": ("rollout.yaml", "alpha: 0.01", "alpha: !!python/name:os.system 1", "plans.quick", "tag", "drop the tag"),
    "two documents": ("rollout.yaml", "plans:", "---\nplans:", "", "second document", "one document"),
    "bad indent": ("rollout.yaml", "    load_rate: 60 ", "   load_rate: 60 ", "", "no YAML", "mend the syntax"),
}


@pytest.mark.parametrize("mistake", MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_one_line_with_file_line_key_and_mend(mistake: tuple[str, ...], folder: Path):
    """Each planted mistake yields an error that names its file, a line there, the key, what was found, and the mend."""
    name, old, new, key, found, mend = mistake
    edit(folder / name, old, new)
    errors = spec.validate(folder)
    assert errors, "the mistake was not seen"
    hits = [e for e in errors if key in e.key and found in e.message and mend in e.mend]
    assert hits, [str(error) for error in errors]
    assert re.fullmatch(rf".*{re.escape(name.rpartition('/')[2])}:[1-9]\d*", hits[0].where), hits[0].where
    assert "\n" not in str(hits[0])
    assert hits[0].exit_code == 2
    assert hits[0].mend


def test_the_named_line_is_the_mistakes_own(folder: Path):
    """The line of an unknown key, of a list item and of a missing key's parent are found in the file itself."""
    rollout = folder / "rollout.yaml"
    edit(rollout, "{share: 50, min_bake_s: 5, ", "{share: 50, ")
    edit(rollout, "alpha: 0.01", "alfa: 0.01")
    errors = {error.key: error for error in spec.validate(folder)}
    assert errors["plans.quick.alfa"].where.endswith(f":{line_of(rollout, 'alfa')}")
    missing = errors["plans.quick.stages[1].min_bake_s"]
    assert missing.where.endswith(f":{line_of(rollout, 'share: 50')}")


def test_all_mistakes_are_told_at_once(folder: Path):
    """`validate` lists every mistake; `load_system` raises the first and says how many more there are."""
    edit(folder / "system.yaml", "entry: router.http", "entry: roter.http")
    edit(folder / "objectives.yaml", "threshold: 200\n", "threshold: 210\n")
    edit(folder / "releases" / "errors.yaml", "app: {", "ap: {")
    assert len(spec.validate(folder)) == 3
    with pytest.raises(SpecError, match=r"roter.* and 1 more"):
        spec.load_system(folder)


@pytest.mark.parametrize(
    "flags, key, found",
    [
        (FLAGS.replace('{"rollout": 0}', '{"rollout": 0, "depends": ["b"]}', 1), "flags.a.depends", "a -> b -> a"),
        (FLAGS.replace('["a"]', '["c"]'), "flags.b.depends[0]", "found `c`"),
        (FLAGS.replace('"rollout": 0}', '"rollout": 101}', 1), "flags.a.rollout", "less than or equal to 100"),
        (FLAGS.replace('"b"', '"a"'), "flags.a", "twice"),
        (FLAGS.replace("}}}", "}}"), "", "no JSON"),
        (FLAGS.replace('"rollout": 0}', '"rollout": NaN}', 1), "", "finite"),
        ("[]", "", "found a list"),
        ("", "", "no JSON"),
    ],
    ids=["cycle", "unknown parent", "range", "twice", "torn", "NaN", "list", "empty"],
)
def test_flags_are_checked_like_the_rest(flags: str, key: str, found: str, folder: Path):
    """A cycle, an unknown parent, a share above 100 % and broken JSON are refused by line."""
    (folder / "flags.json").write_text(flags)
    errors = spec.validate(folder)
    assert any(error.key == key and found in error.message for error in errors), [str(error) for error in errors]
    assert all(re.search(r"flags\.json:\d+$", error.where) for error in errors)


def test_flags_that_the_traffic_names_must_exist(folder: Path):
    """The feature of the rollout and the deployed state name flags of flags.json."""
    (folder / "flags.json").write_text(FLAGS)
    edit(folder / "system.yaml", "  unit: session", "  feature: c\n  flags: {aa: 100}\n  unit: session")
    assert {error.key for error in spec.validate(folder)} == {"traffic.feature", "traffic.flags.aa"}


@pytest.mark.parametrize(
    "content, found",
    [
        (b"schema: 1\nplans: \xff\xfe\n", "no UTF-8"),
        (b"\x00\x01\x02", "no YAML"),
        (b"", "found nothing"),
        (b"- 1\n- 2\n", "found a list"),
        (b"[" * 200_000, "nested deeper"),
        (b"a: " * 300_000, "expected at most"),
        (b"a: &a [" + b"1," * 900 + b"]\n" + b"".join(b"b%d: *a\n" % i for i in range(100)), "aliases expanded"),
        (b"a: &a [*a]\n", "no complete anchor"),
        (b"? [1, 2]\n: 3\n", "as a key"),
        (b"schema: " + b"1" * 5000, "cannot be read"),
        (b"schema: 1\nplans: {quick: }}\n", "no YAML"),
    ],
    ids=["latin", "binary", "empty", "list", "deep", "huge", "bomb", "recursive", "key", "digits", "braces"],
)
def test_a_hostile_file_is_an_error_not_a_crash(content: bytes, found: str, folder: Path):
    """What is no UTF-8, no mapping, too deep, too big or an alias bomb ends in one short line."""
    (folder / "rollout.yaml").write_bytes(content)
    errors = [error for error in spec.validate(folder) if "rollout.yaml" in error.where]
    assert len(errors) == 1
    assert found in str(errors[0])
    assert len(str(errors[0])) < 400


def test_an_alias_bomb_of_many_levels_is_cut_short(folder: Path):
    """Ten levels of ten aliases would be ten thousand million values: refused in an instant."""
    levels = ["l0: &l0 [x, x, x, x, x, x, x, x, x, x]"]
    levels += [f"l{i}: &l{i} [{', '.join([f'*l{i - 1}'] * 10)}]" for i in range(1, 11)]
    (folder / "rollout.yaml").write_text("\n".join(levels))
    assert any("aliases expanded" in error.message for error in spec.validate(folder))


@pytest.mark.parametrize("name", ["system.yaml", "objectives.yaml", "rollout.yaml", "scenarios.yaml"])
def test_a_missing_file_is_named(name: str, folder: Path):
    """Without one of its four files a system is refused, and the line says which."""
    (folder / name).unlink()
    errors = spec.validate(folder)
    assert any(error.where.endswith(f"/{name}") and "no such file" in error.message for error in errors)
    with pytest.raises(SpecError):
        spec.load_system(folder)


@pytest.mark.parametrize("what", ["target", "policy"])
def test_a_file_that_is_not_there_has_no_line(what: str, tmp_path: Path, folder: Path):
    """Named as it was asked for; there is no line to look at."""
    system = spec.load_system(folder)
    read = spec.load_target if what == "target" else lambda path: spec.apply_policy(path, system, system.plans[0])
    with pytest.raises(SpecError, match="no such file") as caught:
        read(tmp_path / "nothing.yaml")
    assert str(caught.value).startswith(f"{tmp_path / 'nothing.yaml'}: no such file")


def test_a_folder_where_a_file_belongs_is_named(folder: Path):
    """A folder called rollout.yaml cannot be read, and is said so."""
    (folder / "rollout.yaml").unlink()
    (folder / "rollout.yaml").mkdir()
    assert any("cannot be read" in error.message for error in spec.validate(folder))


def test_a_sound_system_becomes_the_engines_nouns(folder: Path):
    """What the files say stands in the model: bounds in seconds, bakes as given, stages by their share."""
    system = spec.load_system(folder)
    assert system.traffic.bounds_s[-1] == pytest.approx(2.0)
    plan = system.plans[0]
    assert [(stage.id, stage.share) for stage in plan.stages] == [("10", 10), ("50", 50), ("100", 100)]
    assert (plan.stages[0].min_bake_s, plan.stages[0].max_bake_s) == (3, 6)
    objectives = {objective.id: objective for objective in system.objectives}
    assert objectives["minimal.health"].sources == (Source.PROBE,)
    assert objectives["minimal.latency_p95"].threshold == 200
    release = spec.load_release(spec.find_release(system, "errors"), system)
    assert dict(dict(release.env)["app"]) == {"ERROR_RATE": "0.08"}
    drill = spec.load_drill(spec.find_drill(system, "router-misroutes"), system)
    assert (drill.action, drill.stage) == ("misroute", "10")


def test_a_preferred_native_block_is_read_and_checked_too(folder: Path):
    """`prefer` is a native block of its own, and its references are checked by its own key."""
    block = '      prefer: {programs: [ap], command: ["${bin.ap}", "${bin.pa}"], shm: ["x_${run_id}_"]}\n'
    edit(folder / "system.yaml", '      env: {PORT: "${port.http}"', block + '      env: {PORT: "${port.http}"')
    (error,) = spec.validate(folder)
    assert error.key == "services.app.native.prefer.command[1]"
    edit(folder / "system.yaml", ', "${bin.pa}"', "")
    native = spec.load_system(folder).service("app").native
    assert native is not None
    assert native.prefer is not None
    assert native.prefer.shm == ("x_${run_id}_",)


def test_a_template_is_checked_at_its_own_line(folder: Path):
    """A reference in a rendered template that names nothing is an error in the template's file."""
    edit(folder / "router.cfg", "${port.stats}", "${port.stat}")
    (error,) = spec.validate(folder)
    assert error.where.endswith(f"router.cfg:{line_of(folder / 'router.cfg', '${port.stat}')}")


def test_systems_and_releases_are_found_by_name_or_path(folder: Path):
    """A shipped name, a folder and a release's file all lead somewhere; a wrong name suggests the nearest."""
    assert spec.find_system("minimal") == MINIMAL.resolve()
    assert spec.find_system(str(folder)) == folder.resolve()
    with pytest.raises(SpecError, match="did you mean `minimal`"):
        spec.find_system("minimla")
    with pytest.raises(SpecError, match="no system ``"):
        spec.find_system("")
    system = spec.load_system(folder)
    assert spec.find_release(system, str(folder / "releases" / "good.yaml")).name == "good.yaml"
    with pytest.raises(SpecError, match="did you mean `errors`"):
        spec.find_release(system, "error")


@pytest.mark.parametrize("name", [path.parent.name for path in (MINIMAL.parent).glob("*/system.yaml")])
def test_every_shipped_system_is_sound(name: str):
    """Each system that rollgate ships passes its own validation, releases and drills included."""
    assert [str(error) for error in spec.validate(spec.find_system(name))] == []


def test_the_published_schemas_accept_what_ships_and_refuse_an_unknown_key():
    """Editors see the same format: the JSON Schemas accept the minimal system's files and no unknown key."""
    from jsonschema import Draft202012Validator, ValidationError  # noqa: PLC0415 - this case alone

    schemas = spec.json_schemas()
    kinds = {"system", "objectives", "rollout", "scenarios", "flags", "release", "drill", "conformance"}
    assert set(schemas) == kinds | {"policy", "calibration", "target"}
    for kind in ("system", "objectives", "rollout", "scenarios"):
        data = read_document(MINIMAL / f"{kind}.yaml").data
        assert isinstance(data, dict)
        Draft202012Validator(schemas[kind]).validate(data)
        with pytest.raises(ValidationError):
            Draft202012Validator(schemas[kind]).validate(data | {"unknown": 1})


def test_the_schemas_for_editors_are_the_ones_in_force(tmp_path: Path):
    """reports/schemas/ holds what the reader checks by, byte for byte; a key added to a kind of file is added there."""
    shipped = Path(__file__).resolve().parents[2] / "reports" / "schemas"
    if not shipped.is_dir():
        pytest.skip("needs the checkout, not the wheel")
    publish(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {f"{kind}.schema.json" for kind in spec.json_schemas()}
    renew = "from pathlib import Path; from harness.spec.published import publish; publish(Path('reports/schemas'))"
    for path in tmp_path.iterdir():
        there = shipped / path.name
        same = there.is_file() and there.read_bytes() == path.read_bytes()
        assert same, f'{path.name} is out of date; renew all with: .venv/bin/python -c "{renew}"'

"""Every scenario of the bench, as data: what is simulated, what is asked, the bar."""

from dataclasses import replace

from harness.bench.cells import Bar, Cell, Kind, Router, Standing, Statistic
from harness.bench.oracle import NOISY_SPRT, SPRT
from harness.bench.streams import Effect, Latency, Layout, Noise, World

NO_CALIBRATION = Layout(calibration=0)
EVEN = Layout(shares=(0.5,))
FINE = Layout(shares=(0.5,), interval_s=5.0, intervals=720, calibration=2880)  # one hour, a look every 5 s
_ERRORS_ONLY = Layout(shares=(0.5,), views=1, latencies=False)
_CALM, _WILD = Noise(errors=0.2, latency=0.1, memory=0.8), Noise(errors=0.5, latency=0.2, memory=0.8)
_COMMON = Noise(errors=0.2, latency=0.2, memory=0.9)


def _own(errors: float, latency: float, memory: float) -> World:
    return World(own=Noise(errors=errors, latency=latency, memory=memory))


GOOD_WORLDS: dict[str, tuple[str, World]] = {
    "iid": ("independent requests", World()),
    "ar5": ("arm noise .2/.1, phi .5", _own(0.2, 0.1, 0.5)),
    "ar8": ("arm noise .2/.1, phi .8", _own(0.2, 0.1, 0.8)),
    "ar5-wild": ("arm noise .5/.2, phi .5", _own(0.5, 0.2, 0.5)),
    "ar8-wild": ("arm noise .5/.2, phi .8", _own(0.5, 0.2, 0.8)),
    "drift": ("errors drift 1 % to 3 %", World(drift_to=0.03)),
    "drift-ar8": ("drift and arm noise .2/.1, phi .8", World(drift_to=0.03, own=_CALM)),
    "clumped": ("overdispersed errors", World(overdispersion=0.01, own=Noise(latency=0.1))),
    "common": ("noise common to both arms .5/.2", World(common=Noise(errors=0.5, latency=0.2, memory=0.9))),
    "lognormal": ("latency log sd 1, arm noise .2/.1", World(log_sd=1.0, own=_CALM)),
    "bimodal": ("bimodal latency, arm noise .2/.1", World(latency=Latency.BIMODAL, own=_CALM)),
    "pareto": ("Pareto latency, arm noise .2/.1", World(latency=Latency.PARETO, own=_CALM)),
    "5-a-minute": ("5 requests a minute, arm noise .2/.1", World(requests_min=5, own=_CALM)),
    "50-a-minute": ("50 requests a minute, arm noise .2/.1", World(requests_min=50, own=_CALM)),
    "5000-a-minute": ("5000 requests a minute, arm noise .2/.1", World(requests_min=5000, own=_CALM)),
    "gaps": ("intervals without traffic, arm noise .2/.1", World(gaps=(0.3, 0.1), own=_CALM)),
}
LIMIT_WORLDS: dict[str, tuple[str, World]] = {
    "ar95": ("arm noise .2/.1, phi .95", _own(0.2, 0.1, 0.95)),
    "ar95-wild": ("arm noise .5/.2, phi .95", _own(0.5, 0.2, 0.95)),
    "restless": ("candidate's noise 1.5 x .2/.1, phi .8", World(own=_CALM, restless=1.5)),
    "restless-wild": ("candidate's noise 1.5 x .5/.2, phi .8", World(own=_WILD, restless=1.5)),
    "instance": ("an instance that differs for good, sd .2/.1", World(instance=(0.2, 0.1))),
}
_FALSE_ROLLBACK = Bar(wanted=0.01, upper=0.012)
_SAFETY_RUNS, _GOAL_RUNS, _LIMIT_RUNS = (20_000, 1_000, 250), (2_000, 250, 0), (2_000, 0, 0)


def false_rollbacks() -> list[Cell]:
    """Return the cells of a good candidate rolled back, with calibration and by blocks."""
    cells: list[Cell] = []
    for kind, prefix, layout in (
        (Kind.CALIBRATED, "good", Layout()),
        (Kind.BLOCKS, "blocks", NO_CALIBRATION),
        (Kind.BLOCKS, "blocks-even", replace(NO_CALIBRATION, shares=(0.5,))),
    ):
        how = {"good": "after 4 h of A/A", "blocks": "by blocks, ramp", "blocks-even": "by blocks, half the traffic"}
        for standing, worlds in ((Standing.SAFETY, GOOD_WORLDS), (Standing.LIMIT, LIMIT_WORLDS)):
            for name, (title, world) in worlds.items():
                safety = standing is Standing.SAFETY
                cells.append(
                    Cell(
                        name=f"{prefix}.{name}",
                        title=title,
                        question=f"a good candidate is rolled back ({how[prefix]})",
                        kind=kind,
                        standing=standing,
                        runs=_SAFETY_RUNS if safety else _LIMIT_RUNS,
                        wanted=False,
                        bars=(_FALSE_ROLLBACK,),
                        world=world,
                        layout=layout,
                        opponents=prefix == "good",
                    )
                )
    return cells


def detections() -> list[Cell]:
    """Return the cells of a bad candidate: how long until it is rolled back."""
    cells: list[Cell] = []
    fast = {2: 17.0, 3: 6.0, 5: 2.25}
    arms = World(requests_min=400)
    ratio = Bar(wanted=1.4, statistic=Statistic.RATIO, against=SPRT, unit="x")
    for percent, minutes in fast.items():
        effect = Effect(errors=float(percent))
        cells.append(
            _found(
                f"errors-{percent}.iid",
                f"errors 1 % to {percent} %, 200 requests a minute and arm, independent",
                arms,
                effect,
                (Bar(wanted=minutes, statistic=Statistic.MEDIAN, unit="min"), ratio),
                layout=FINE,
                oracle=True,
                runs=(2_000, 250, 250 if percent > 2 else 0),  # noqa: PLR2004 - the slowest one is left to longer tiers
            )
        )
        noise_ratio = replace(ratio, against=NOISY_SPRT)
        for name, noise in (("ar8", _CALM), ("ar8-wild", _WILD)):
            cells.append(
                _found(
                    f"errors-{percent}.{name}",
                    f"errors 1 % to {percent} %, {GOOD_WORLDS[name][0]}",
                    replace(arms, own=noise),
                    effect,
                    (noise_ratio,),
                    layout=EVEN,
                    oracle=True,
                )
            )
    cells.append(
        _found(
            "latency-5.common",
            "latency +5 %, common noise, 300 requests a minute and arm",
            World(requests_min=600, common=_COMMON),
            Effect(latency=1.05),
            (Bar(wanted=0.98, at_least=True),),
            layout=EVEN,
        )
    )
    return cells + _shown_detections(arms)


def _shown_detections(arms: World) -> list[Cell]:
    effects = {
        "latency-20": ("latency +20 %", Effect(latency=1.2)),
        "latency-50": ("latency +50 %", Effect(latency=1.5)),
        "tail": ("p99 x 3, the rest as before", Effect(stuck=0.01)),
        "variance": ("latency's spread x 1.25, median as before", Effect(spread=1.25)),
    }
    cells = [
        _found(f"{name}.ar8", f"{title}, arm noise .2/.1, phi .8", replace(arms, own=_CALM), effect, (), layout=EVEN)
        for name, (title, effect) in effects.items()
    ]
    for percent in (2, 3, 5):
        cell = _found(
            f"errors-{percent}.blocks",
            f"errors 1 % to {percent} %, no calibration, arm noise .2/.1, phi .8",
            replace(arms, own=_CALM),
            Effect(errors=float(percent)),
            (),
            layout=replace(EVEN, calibration=0),
            runs=_LIMIT_RUNS,
        )
        cells.append(replace(cell, kind=Kind.BLOCKS))
    return [replace(cell, standing=Standing.LIMIT) for cell in cells]


def _found(
    name: str,
    title: str,
    world: World,
    effect: Effect,
    bars: tuple[Bar, ...],
    *,
    layout: Layout,
    oracle: bool = False,
    runs: tuple[int, int, int] = _GOAL_RUNS,
) -> Cell:
    return Cell(
        name=name,
        title=title,
        question="a bad candidate is rolled back",
        kind=Kind.CALIBRATED,
        standing=Standing.GOAL,
        runs=runs,
        bars=bars,
        world=world,
        effect=effect,
        layout=layout,
        opponents=True,
        oracle=oracle,
    )


def promotions() -> list[Cell]:
    """Return the cells of promotion: a candidate exactly at the margin, and how long a good one bakes."""
    cells: list[Cell] = []
    at_margin = replace(_ERRORS_ONLY, intervals=480)
    for name, own, standing in (
        ("iid", Noise(), Standing.SAFETY),
        ("ar5", Noise(errors=0.2, memory=0.5), Standing.SAFETY),
        ("ar8", _CALM, Standing.SAFETY),
        ("ar8-wild", _WILD, Standing.LIMIT),
    ):
        cells.append(
            Cell(
                name=f"margin.{name}",
                title=f"errors at the margin of +0.5 points, {GOOD_WORLDS[name][0]}",
                question="a bad candidate is promoted",
                kind=Kind.PROMOTION,
                standing=standing,
                runs=_SAFETY_RUNS if standing is Standing.SAFETY else _LIMIT_RUNS,
                wanted=False,
                bars=(Bar(wanted=0.05, upper=0.054),),
                world=World(requests_min=400, own=own),
                effect=Effect(errors=1.5),
                layout=at_margin,
            )
        )
    for rate, minutes, interval_s, hours in ((50, 70.0, 15.0, 5), (200, 18.0, 5.0, 2), (1000, 4.0, 5.0, 1)):
        steps = int(3600 / interval_s)
        layout = replace(_ERRORS_ONLY, interval_s=interval_s, intervals=steps * hours, calibration=4 * steps)
        for name, own in (("iid", Noise()), ("ar8", _CALM)):
            cells.append(
                Cell(
                    name=f"bake-{rate}.{name}",
                    title=f"{rate} requests a minute and arm, {GOOD_WORLDS[name][0]}",
                    question="a good candidate is promoted",
                    kind=Kind.PROMOTION,
                    standing=Standing.GOAL if name == "iid" else Standing.LIMIT,
                    runs=_GOAL_RUNS if name == "iid" else _LIMIT_RUNS,
                    bars=(Bar(wanted=minutes, statistic=Statistic.MEDIAN, unit="min"),) if name == "iid" else (),
                    world=World(requests_min=2.0 * rate, own=own),
                    layout=layout,
                )
            )
    return cells


def routers() -> list[Cell]:
    """Return the cells of the sample-ratio test."""

    def cell(name: str, title: str, standing: Standing, bars: tuple[Bar, ...], router: Router) -> Cell:
        return Cell(
            name=f"router.{name}",
            title=title,
            question="the router is found at fault",
            kind=Kind.ROUTER,
            standing=standing,
            runs={Standing.GOAL: (20_000, 4_000, 1_000), Standing.LIMIT: (2_000, 0, 0)}[standing],
            wanted=router.sent != router.share,
            bars=bars,
            router=router,
            chunk=1_000,
        )

    false_alarm = (Bar(wanted=0.001, upper=0.0015),)
    return [
        cell("right", "10 % asked, 10 % sent, sessions counted", Standing.GOAL, false_alarm, Router()),
        cell(
            "wrong",
            "10 % asked, 12 % sent, sessions counted",
            Standing.GOAL,
            (Bar(wanted=4_000, statistic=Statistic.MEDIAN, unit="units"),),
            Router(sent=0.12),
        ),
        cell("requests", "10 % asked, 10 % sent, requests counted", Standing.LIMIT, (), Router(by_request=True)),
    ]


def machines() -> list[Cell]:
    """Return the cells that put the live judge to the test: corrupt telemetry, speed."""
    return [
        Cell(
            name="telemetry",
            title="fuzzed record streams through the live judge",
            question="corrupt telemetry is promoted",
            kind=Kind.TELEMETRY,
            standing=Standing.SAFETY,
            runs=(10_000, 300, 50),
            wanted=False,
            bars=(Bar(wanted=0.0),),
            chunk=50,
        ),
        Cell(
            name="speed",
            title="observations judged a second and core, memory",
            question="the judge keeps up",
            kind=Kind.SPEED,
            standing=Standing.GOAL,
            runs=(1, 1, 1),
            bars=(
                Bar(wanted=1e6, statistic=Statistic.VALUE, rule="live observations/s", at_least=True, unit="/s"),
                Bar(wanted=1e6, statistic=Statistic.VALUE, rule="kernel observations/s", at_least=True, unit="/s"),
                Bar(wanted=1.1, statistic=Statistic.VALUE, rule="memory after 4 x the records", unit="x"),
            ),
            chunk=1,
        ),
    ]


def all_cells() -> list[Cell]:
    """Return every cell of the bench; names are unique."""
    return [*machines(), *false_rollbacks(), *promotions(), *detections(), *routers()]

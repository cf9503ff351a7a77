"""Cross-checks of scores: where each comes from, and that an objective on one says what is good."""

from collections.abc import Iterator, Sequence

from harness.model.errors import SpecError
from harness.spec.document import Document, Key
from harness.spec.problems import unknown
from harness.spec.schema import ObjectivesFile, ObjectiveSpec, ScenariosFile, SystemFile

_OWN = ("error", "latency", "latency.fine", "service")  # what the load writes of every scenario
_COLLECTORS = ("client", "prometheus")
_ALL = 100.0  # percent
_PARTS = {"ratio": "all units", "score": "the scale"}


def check_scores(
    document: Document, scenarios: ScenariosFile, system: SystemFile, objectives: ObjectivesFile | None
) -> Iterator[SpecError]:
    """Each score of scenarios.yaml is a signal of the client's, on a scale that rises, and read by an objective."""
    scenario = scenarios.scenario
    read = {objective.signal for objective in objectives.objectives.values()} if objectives else set(scenario.scores)
    for name, score in scenario.scores.items():
        at: Key = ("scenario", "scores", name)
        low, high = score.scale
        if low >= high:
            yield document.problem(
                (*at, "scale"),
                f"found {low:g} to {high:g}, expected the lower end first and the higher one after it",
                mend="write [0, 1], or the ends of your scale; which of them is good says the objective's comparator",
            )
        if name.removeprefix(f"{scenario.name}.") in _OWN:
            yield document.problem(at, f"found `{name}`, which the load writes itself", mend="give it another name")
        elif name not in system.signals:
            yield unknown(document, at, name, system.signals, "signals of system.yaml")
        elif not system.signals[name].client:
            yield document.problem(
                at,
                f"found `{name}`, a signal of the client's that system.yaml does not call one",
                mend="add `client: true` to that signal",
            )
        elif name not in read:
            yield document.problem(
                at, f"found `{name}`, which no objective reads", mend="add one with `measure: score`, or drop this one"
            )


def check_comparator(document: Document, at: Key, objective: ObjectiveSpec) -> Iterator[SpecError]:
    """A score says which end is good; of everything else less is better."""
    key = (*at, "comparator")
    if objective.measure == "score" and objective.comparator is None:
        yield document.problem(
            key,
            "missing, expected `>=` where high scores are good, or `<=` where low ones are",
            mend='add `comparator: ">="`',
        )
    elif objective.measure != "score" and objective.comparator in (">=", ">"):
        yield document.problem(
            key,
            f"found `{objective.comparator}`, expected `<=` or `<` for measure `{objective.measure}`",
            mend="count what must not happen, or set `measure: score`",
        )


def check_part(document: Document, key: Key, objective: ObjectiveSpec, threshold: float) -> Iterator[SpecError]:
    """A share or a mean that no number can miss, or none can reach, holds nothing; so does a margin of all there is."""
    if objective.measure not in _PARTS or threshold < 0:
        return
    if objective.against == "number" and objective.unit == "%" and not 0 < threshold / _ALL < 1:
        expected = f"more than 0 and less than 100: percent of {_PARTS[objective.measure]}"
    elif objective.against == "baseline" and objective.unit == "points" and threshold >= _ALL:
        expected = f"less than 100: points of {_PARTS[objective.measure]}"
    else:
        return
    yield document.problem(key, f"found {threshold:g}, expected {expected}", mend="correct the value")


def check_source(
    document: Document,
    at: Key,
    objective: ObjectiveSpec,
    sources: Sequence[str],
    *,
    system: SystemFile,
    scenarios: ScenariosFile | None,
) -> Iterator[SpecError]:
    """A score is collected by the load or by Prometheus, and nothing else is read from what the load collects."""
    scores = scenarios.scenario.scores if scenarios else {}
    from_answers = "client" in sources and objective.signal in scores
    if objective.measure != "score":
        if from_answers and objective.measure in ("ratio", "quantile"):
            yield document.problem(
                (*at, "measure"),
                f"found `{objective.measure}`, but `{objective.signal}` is a score of scenarios.yaml",
                mend="write `measure: score`",
            )
        return
    signal = system.signals.get(objective.signal)
    if signal is None:
        yield unknown(document, (*at, "signal"), objective.signal, system.signals, "signals of system.yaml")
        return
    for index, source in enumerate(sources):
        if source not in _COLLECTORS:
            yield document.problem(
                (*at, "sources", index), f"found {source}, expected client or prometheus for a score", mend="drop it"
            )
    if "prometheus" in sources and signal.histogram and signal.gauge:
        yield document.problem(
            (*at, "signal"),
            f"found `{objective.signal}`, which has a histogram and a gauge: a score reads one of them",
            mend="give each a signal of its own in system.yaml",
        )
    if "client" in sources and signal.client and scenarios and not from_answers:
        yield document.problem(
            (*at, "signal"),
            f"found `{objective.signal}`, which no answer to the load carries",
            mend=f"add `scores: {{{objective.signal}: {{path: /..., scale: [0, 1]}}}}` to scenarios.yaml",
        )

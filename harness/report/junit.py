"""junit.xml: one test case a judgement, and the suites' own cases, each with the catalog ids that it proves."""

import re
from collections.abc import Sequence
from xml.etree import ElementTree as ET

from harness.model.evidence import Source
from harness.model.judgement import Judgement, Verdict
from harness.model.status import Status
from harness.ports import Case
from harness.report import words
from harness.report.coverage import LEVELS

_NO_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def junit(verdict: Verdict, cases: Sequence[Case]) -> str:
    """Return the text of junit.xml.

    A failing judgement is a `failure`, one without proof a `failure` of type `inconclusive` (it must not
    look like a pass to a CI that knows two colours), a harness's own trouble an `error`, what does not
    apply here `skipped` with the reason.
    """
    root = ET.Element("testsuites", name="rollgate")
    suite = _suite(root, f"rollgate.{verdict.system}", verdict, len(verdict.judgements), words.took(verdict))
    for name, value in _run_properties(verdict):
        ET.SubElement(_properties(suite), "property", name=name, value=_clean(value))
    for judgement in verdict.judgements:
        _judged(suite, verdict, judgement, _level(judgement, cases))
    _count(suite)
    if cases:
        suite = _suite(root, f"suites.{verdict.system}", verdict, len(cases), sum(case.seconds for case in cases))
        for case in cases:
            _case(suite, case)
        _count(suite)
    ET.indent(root)
    return '<?xml version="1.0" encoding="utf-8"?>\n' + ET.tostring(root, encoding="unicode") + "\n"


def _run_properties(verdict: Verdict) -> list[tuple[str, str]]:
    return [
        ("run_id", verdict.run_id),
        ("candidate", verdict.candidate),
        ("baseline", verdict.baseline),
        ("decision", verdict.decision),
        ("cause", verdict.cause),
        ("plan", verdict.plan),
        ("provider", verdict.provider),
        ("rehearsal", str(verdict.rehearsal).lower()),
    ]


def _suite(root: ET.Element, name: str, verdict: Verdict, tests: int, seconds: float) -> ET.Element:
    return ET.SubElement(
        root, "testsuite", name=name, tests=str(tests), time=f"{seconds:.3f}", timestamp=verdict.started_at
    )


def _properties(parent: ET.Element) -> ET.Element:
    found = parent.find("properties")
    return ET.SubElement(parent, "properties") if found is None else found


def _level(judgement: Judgement, cases: Sequence[Case]) -> str:
    """Return what a judgement proves: of a suite no more than its weakest case, which may have met a stand-in."""
    ids = set(words.catalog_ids(judgement.id))
    levels = (
        {case.level for case in cases if ids & set(case.covers)} if judgement.source == Source.SUITE else set[str]()
    )
    return next((level for level in LEVELS if level in levels), "live")


def _covers(element: ET.Element, ids: Sequence[str], level: str) -> None:
    for catalog_id in ids:
        ET.SubElement(_properties(element), "property", name="covers", value=catalog_id)
        ET.SubElement(_properties(element), "property", name="covers_level", value=level)


def _judged(suite: ET.Element, verdict: Verdict, judgement: Judgement, level: str) -> None:
    name = f"{judgement.id} [{judgement.source}]" if judgement.source else judgement.id
    if judgement.stage:
        name += f" stage {judgement.stage}"
    case = ET.SubElement(suite, "testcase", classname=f"rollgate.{verdict.system}", name=_clean(name), time="0")
    _covers(case, words.catalog_ids(judgement.id), level)
    message = _clean(f"{judgement.requirement}: {judgement.reason}" if judgement.reason else judgement.requirement)
    match judgement.status:
        case Status.FAIL:
            ET.SubElement(case, "failure", type="fail", message=message).text = _clean(_detail(judgement))
        case Status.INCONCLUSIVE:
            ET.SubElement(case, "failure", type="inconclusive", message=message).text = _clean(_detail(judgement))
        case Status.ERROR:
            ET.SubElement(case, "error", type="error", message=message).text = _clean(_detail(judgement))
        case Status.NOT_APPLICABLE:
            ET.SubElement(case, "skipped", message=_clean(judgement.reason or "not applicable here"))
        case Status.PASS:
            ET.SubElement(case, "system-out").text = _clean(_detail(judgement))


def _detail(judgement: Judgement) -> str:
    lines = [
        f"requirement: {judgement.requirement}",
        f"threshold: {words.measured(judgement.threshold, judgement.unit)}",
        f"estimate: {words.measured(judgement.estimate, judgement.unit)}",
        f"interval: {words.interval(judgement) or '—'}",
        f"n: {judgement.n:,}",
    ]
    lines += [f"reason: {judgement.reason}"] if judgement.reason else []
    lines += [f"remedy: {judgement.remedy}"] if judgement.remedy else []
    return "\n".join(lines)


def _case(suite: ET.Element, case: Case) -> None:
    path, _, name = case.name.rpartition("::")
    module = path.removesuffix(".py").replace("/", ".").replace("::", ".") or "suites"
    element = ET.SubElement(
        suite, "testcase", classname=_clean(module), name=_clean(name), time=f"{max(0.0, case.seconds):.3f}"
    )
    _covers(element, words.catalog_ids(*case.covers), case.level)
    if case.arm:
        ET.SubElement(_properties(element), "property", name="arm", value=case.arm)
    message = _clean(case.message)
    tag = {"passed": "", "failed": "failure", "skipped": "skipped"}.get(case.outcome, "error")
    if tag:
        found = ET.SubElement(element, tag, message=message.splitlines()[0] if message else case.outcome)
        found.text = message


def _count(suite: ET.Element) -> None:
    for attribute, tag in (("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
        suite.set(attribute, str(sum(case.find(tag) is not None for case in suite.iter("testcase"))))


def _clean(text: str) -> str:
    """Drop what XML 1.0 cannot hold (a log's colour codes, NUL)."""
    return _NO_XML.sub("", text)

"""Write ResearchFlow's corpus and its labelled queries, seeded: `python corpus.py --out stack/systems/researchflow`.

Each topic of topics.txt gives five documents, one for each aspect, and each document two paraphrased queries. The
last fifth of the topics is generation 2: documents that an index made before them does not hold.
"""

import argparse
import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

SEED = 20250
FRESH_SHARE = 0.2
TOPICS = Path(__file__).with_name("topics.txt")


@dataclass(frozen=True, slots=True)
class Topic:
    """A topic: its two names, and a clause for each aspect."""

    name: str
    alias: str
    clauses: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Aspect:
    """One view of a topic: how documents state it and how users ask about it."""

    name: str
    statements: tuple[str, ...]
    questions: tuple[str, ...]


ASPECTS = (
    Aspect(
        "purpose",
        (
            "What {name} is for: it {clause}.",
            "Purpose of {name}. In short, it {clause}.",
            "An introduction to {name}: it {clause}.",
        ),
        ("what is {alias} good for?", "explain the idea behind {alias}", "why do people use {alias}?"),
    ),
    Aspect(
        "failure",
        (
            "How {name} fails: in the worst case it {clause}.",
            "A known failure of {name}: it {clause}.",
            "Incident notes on {name}. The trouble is that it {clause}.",
        ),
        ("what can go wrong with {alias}?", "typical breakdown of {alias}", "which problem does {alias} run into?"),
    ),
    Aspect(
        "measure",
        (
            "How {name} is measured: watch {clause}.",
            "Monitoring of {name} begins with {clause}.",
            "For {name} the telling figures are {clause}.",
        ),
        ("which numbers should I monitor for {alias}?", "metrics that describe {alias}", "how do I observe {alias}?"),
    ),
    Aspect(
        "tuning",
        (
            "How {name} is tuned: try {clause}.",
            "Tuning advice for {name}: {clause}.",
            "To improve {name}, practitioners reach for {clause}.",
        ),
        ("how can I make {alias} work better?", "settings to improve {alias}", "advice on optimising {alias}"),
    ),
    Aspect(
        "cost",
        (
            "What {name} costs: {clause}.",
            "The price of {name} is {clause}.",
            "Budget for {name}: expect {clause}.",
        ),
        ("what do I pay for {alias}?", "expense and overhead of {alias}", "what resources does {alias} consume?"),
    ),
)


def topics() -> list[Topic]:
    """Read topics.txt; raises ValueError for a malformed line."""
    found: list[Topic] = []
    for number, line in enumerate(TOPICS.read_text(encoding="utf-8").splitlines(), 1):
        if not line or line.startswith("#"):
            continue
        name, alias, *clauses = (part.strip() for part in line.split("|"))
        if len(clauses) != len(ASPECTS):
            raise ValueError(
                f"{TOPICS.name}:{number}: expected {len(ASPECTS)} clauses after the two names, found {len(clauses)}"
            )
        found.append(Topic(name, alias, tuple(clauses)))
    return found


def generate(seed: int = SEED) -> tuple[list[dict[str, object]], list[dict[str, object]]]:
    """Return the documents ({"id", "text", "generation"}) and the queries ({"query", "expect", "generation"})."""
    draws, listed = random.Random(seed), topics()
    fresh = set(draws.sample(range(len(listed)), round(len(listed) * FRESH_SHARE)))
    documents: list[dict[str, object]] = []
    queries: list[dict[str, object]] = []
    for number, topic in enumerate(listed):
        generation = 2 if number in fresh else 1
        for place, aspect in enumerate(ASPECTS):
            name = f"{topic.name.replace(' ', '-')}-{aspect.name}"
            text = _statement(draws, topic, aspect, topic.clauses[place])
            documents.append({"id": name, "text": text, "generation": generation})
            queries.extend(
                {"query": query, "expect": name, "generation": generation} for query in _questions(draws, topic, aspect)
            )
    return documents, queries


def _statement(draws: random.Random, topic: Topic, aspect: Aspect, clause: str) -> str:
    text = draws.choice(aspect.statements).format(name=topic.name, clause=clause)
    return f"{text} ({topic.name[0].upper()}{topic.name[1:]}, also called {topic.alias}.)"


def _questions(draws: random.Random, topic: Topic, aspect: Aspect) -> Iterator[str]:
    first, second = draws.sample(aspect.questions, 2)
    yield first.format(alias=topic.alias)
    yield second.format(alias=f"{topic.name}" if draws.random() < 0.5 else f"{topic.alias} in practice")  # noqa: PLR2004


def _write(path: Path, rows: Sequence[dict[str, object]]) -> None:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")


def main() -> None:
    """Write corpus.jsonl and queries.jsonl."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="the system's folder")
    parser.add_argument("--seed", type=int, default=SEED)
    asked = parser.parse_args()
    documents, queries = generate(asked.seed)
    _write(asked.out / "corpus.jsonl", documents)
    _write(asked.out / "queries.jsonl", queries)
    print(f"{len(documents)} documents, {len(queries)} queries")  # noqa: T201 (a script)


if __name__ == "__main__":
    main()

"""Where a feature's rollouts stand: by the journal, and by what is really there."""

from collections.abc import Iterator
from pathlib import Path

from harness.adapters.rollouts import RolloutFolder
from harness.planning.rollout import Phase
from harness.planning.rollouts import Past
from harness.wiring.rollout_checks import refuse_broken
from harness.wiring.rollout_target import Place, look

_SHOWN = 3


def journal_lines(folder: RolloutFolder, feature: str) -> Iterator[str]:
    """Yield where the feature's newest rollouts stand, and who drives one."""
    mine = [one for one in folder.pasts() if one.feature == feature]
    if not mine:
        yield f"{feature}: no rollout yet"
    for one in mine[-_SHOWN:]:
        yield _line(one)
        yield from (f"  not known to have heard: {untold.id}" for untold in one.left.untold)
    if driver := folder.driven(feature):
        yield f"driven by {driver}"


def _line(one: Past) -> str:
    state = one.left.state
    ended = f"{state.decision}, cause {state.cause}: {state.reason}" if one.left.finished else "not finished"
    if state.phase is Phase.WAITING and not one.left.finished:
        ended = f"{ended}: {state.reason or 'a hook is asked'}"
    return f"{one.id} {one.way} {one.base:g} to {one.goal:g} %, at {one.left.share:g} % ({state.phase}); {ended}"


def really_there(place: Place) -> str:
    """Return what router and flag say now. Raises EnvironmentProblem where one does not answer."""
    now = look(place)
    flag = "" if now.flag is None else f", the flag says {now.flag:g} %"
    held = ", a driver holds its lease" if now.held else ""
    return f"really there: the router's limit is {now.limit:g} %, {now.share:g} % needs no driver{held}{flag}"


def target_of(folder: RolloutFolder, feature: str, name: str) -> Path | None:
    """Return the target file that the feature's newest rollout kept; None where there was no rollout."""
    mine = [one for one in folder.pasts() if one.feature == feature]
    return folder.root / mine[-1].id / name if mine else None


def chain(folder: RolloutFolder) -> str:
    """Hold the journal to its chain; EnvironmentProblem with the entry's number where it is broken."""
    refuse_broken(folder)
    return f"{folder.journal_file}: {len(folder.entries())} entries, the chain is whole"

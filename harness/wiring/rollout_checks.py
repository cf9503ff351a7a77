"""What keeps a live rollout from beginning: a changed journal, other rollouts, traffic that somebody else moves."""

from harness.adapters.rollouts import RolloutFolder
from harness.model.errors import EnvironmentProblem, SpecError
from harness.planning.rollouts import Past, excluded_by, newest_up
from harness.wiring.rollout_target import Now, Place, look


def refuse_broken(folder: RolloutFolder) -> None:
    """Raise EnvironmentProblem with the entry's number where the journal's chain is broken."""
    if (number := folder.broken_link()) is not None:
        msg = f"the journal {folder.journal_file} was changed: entry {number} does not fit the one before it"
        raise EnvironmentProblem(msg, mend="find out by whom; --rollback still works")


def refuse_others(folder: RolloutFolder, place: Place, *, but_own: bool = False) -> None:
    """Raise EnvironmentProblem where an open rollout excludes one here; `but_own` leaves out the feature's own."""
    feature = place.flag.name
    known = [one for one in folder.pasts() if not (but_own and one.feature == feature)]
    found = excluded_by(known, place.system.flags, feature, place.steers)
    if found is not None:
        one, why = found
        mend = f"--feature {one.feature} with --resume or --rollback ends it"
        if driver := folder.driven(one.feature):
            why, mend = f"{why} ({driver})", f"wait for it, or `rollgate abort {folder.root / one.id}`"
        raise EnvironmentProblem(why, mend=mend)


def refuse_moved(place: Place, before: Now) -> None:
    """Raise EnvironmentProblem where router or flag are not as they were `before`."""
    if look(place) != before:
        raise EnvironmentProblem("somebody else moved traffic just now: nothing was begun", mend="try again")


def newest(folder: RolloutFolder, feature: str) -> Past:
    """Return the feature's newest rollout that went up. Raises SpecError where there was none."""
    found = newest_up(folder.pasts(), feature)
    if found is None:
        msg = f"there was no rollout of `{feature}` to take back"
        raise SpecError(msg, where=str(folder.root), key="--rollback", mend="use --target-percentage")
    return found


def unfinished(folder: RolloutFolder, feature: str) -> Past:
    """Return the feature's newest rollout, which its process did not finish. Raises SpecError for any other."""
    mine = [one for one in folder.pasts() if one.feature == feature]
    if not mine or mine[-1].left.finished:
        said = f"rollout {mine[-1].id} is finished" if mine else "there was none"
        raise SpecError(f"nothing to resume: {said}", key="--resume", mend="begin one by --target-percentage")
    return mine[-1]

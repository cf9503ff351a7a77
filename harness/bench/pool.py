"""A bench's work on several processes; an interrupt ends them all."""

import multiprocessing
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


def side_by_side(work: Sequence[T], run: Callable[[T], R], jobs: int) -> Iterator[tuple[T, R]]:
    """Yield each piece with what `run` made of it, as they are done; in this process where `jobs` is 1."""
    if jobs <= 1:
        yield from ((piece, run(piece)) for piece in work)
        return
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(jobs, mp_context=context, initializer=_leave_interrupts_to_the_parent)
    try:
        futures: dict[Future[R], T] = {pool.submit(run, piece): piece for piece in work}
        for future in as_completed(futures):
            yield futures[future], future.result()
    except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)
        for child in multiprocessing.active_children():
            child.terminate()
        raise
    pool.shutdown()


def _leave_interrupts_to_the_parent() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)

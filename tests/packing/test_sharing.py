"""Jobs shared with threads: all are done, in time order begun, and nobody waits for a thread that waits for him."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator

import pytest

from assay.packing.sharing import MOST_THREADS, Job, share


def test_every_job_is_done_once_and_several_at_a_time() -> None:
    done: list[int] = []
    together = threading.Barrier(3)

    def job(number: int) -> Job:
        def work() -> None:
            if number < 3:
                together.wait(30)  # only passes when three threads are at it
            done.append(number)

        return work

    share((job(number) for number in range(50)), threads=3)
    assert sorted(done) == list(range(50))


def test_one_thread_is_the_callers() -> None:
    threads = set()
    share((lambda: threads.add(threading.get_ident()) for _ in range(5)), threads=1)
    assert threads == {threading.get_ident()}


def test_the_first_error_ends_it_and_what_was_begun_is_waited_for() -> None:
    begun, ended = [], []

    def work() -> None:
        begun.append(1)
        if len(begun) == 3:
            raise OSError("no")
        time.sleep(0.05)
        ended.append(1)

    with pytest.raises(OSError, match="no"):
        share((work for _ in range(1000)), threads=4)
    assert len(begun) < 20
    assert len(ended) == len(begun) - 1


def test_jobs_that_cannot_be_made_are_an_error() -> None:
    def jobs() -> Iterator[Job]:
        yield lambda: None
        raise OSError("no more")

    with pytest.raises(OSError, match="no more"):
        share(jobs())


def test_jobs_may_share_jobs_of_their_own_however_busy_the_threads_are() -> None:
    done = []

    def deeper(depth: int) -> None:
        if depth:
            share(((lambda: deeper(depth - 1)) for _ in range(4)), threads=MOST_THREADS)
        else:
            done.append(1)

    def outside() -> None:
        deeper(4)

    threads = [threading.Thread(target=outside, daemon=True) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    assert len(done) == 3 * 4**4


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_has_threads_of_its_own() -> None:
    share([lambda: None] * 20)
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            together = threading.Barrier(2)
            share([lambda: together.wait(20) and None for _ in range(2)], threads=2)
            os.write(writer, b"y")
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as said:
        assert said.read() == b"y"
    os.waitpid(child, 0)

import threading
import time

import pytest

from conformask.background import BYTES, DEPTH, THREADS, prefetch


def test_results_come_in_order_whoever_is_done_first() -> None:
    def slow(number: int) -> int:
        time.sleep(0.002 * (number % 3))
        return number * number

    assert list(prefetch(slow, range(50))) == [number * number for number in range(50)]
    assert list(prefetch(slow, [])) == []


def test_threads_work_while_the_caller_does() -> None:
    begun = []
    results = prefetch(lambda number: begun.append(number) or number, range(100), lambda _: 1)
    next(results), next(results)
    time.sleep(0.1)
    assert len(begun) == DEPTH + 1, "the caller holds one, the others wait"
    results.close()


def test_no_more_is_kept_than_the_memory_allows() -> None:
    begun = []
    results = prefetch(lambda number: begun.append(number), range(100), lambda _: BYTES // 3)
    for taken in range(1, 20):
        next(results)
        time.sleep(0.005)
        assert len(begun) <= taken + 3
    results.close()


def test_one_thread_is_one_thread() -> None:
    here = threading.get_ident()
    threads = set(prefetch(lambda _: threading.get_ident(), range(30), threads=1))
    assert len(threads) == 1
    assert here not in threads
    assert 1 < len(set(prefetch(lambda _: time.sleep(0.01) or threading.get_ident(), range(30)))) <= THREADS


def test_an_error_comes_in_its_place_and_ends_the_work() -> None:
    begun, before = [], set(threading.enumerate())

    def work(number: int) -> int:
        begun.append(number)
        if number == 5:
            raise ValueError("number 5")
        return number

    results = prefetch(work, range(1000))
    assert [next(results) for _ in range(5)] == [0, 1, 2, 3, 4]
    with pytest.raises(ValueError, match="number 5"):
        next(results)
    assert len(begun) < 20
    assert set(threading.enumerate()) <= before, "its threads are gone"

"""One bad load ends no run; where no node can load, the run ends."""

from pipeline.attempts.loads import PATIENT_TRIES, TRIES, AfterLoad, Loads

AGAIN, ELSEWHERE, STOP = AfterLoad.AGAIN, AfterLoad.ELSEWHERE, AfterLoad.STOP


def fail(loads: Loads, node: str, others: str = "", times: int = 1) -> list[AfterLoad]:
    verdicts = []
    for _ in range(times):
        loads.begins(f"actor on {node}", node, list(others))
        verdicts.append(loads.failed(f"actor on {node}", "sees no GPU", list(others)))
    return verdicts


def load(loads: Loads, node: str) -> None:
    loads.begins(f"actor on {node}", node, ())
    loads.loaded(f"actor on {node}")


def test_a_load_is_tried_again_and_the_only_node_stops_the_run_in_the_end() -> None:
    assert fail(Loads(), "a", times=TRIES) == [AGAIN] * (TRIES - 1) + [STOP]


def test_a_load_that_works_forgives_those_that_did_not() -> None:
    loads = Loads()
    for _ in range(5):
        assert fail(loads, "a", times=TRIES - 1) == [AGAIN] * (TRIES - 1)
        load(loads, "a")


def test_a_node_is_left_out_where_another_can_load() -> None:
    loads = Loads()
    load(loads, "b")
    assert fail(loads, "a", "b", TRIES) == [AGAIN] * (TRIES - 1) + [ELSEWHERE]
    assert loads.left_out() == {"a": "sees no GPU"}


def test_a_node_waits_for_others_that_still_load_before_it_is_left_out() -> None:
    loads = Loads()
    assert fail(loads, "a", "bc", PATIENT_TRIES) == [AGAIN] * (PATIENT_TRIES - 1) + [ELSEWHERE]


def test_a_fault_of_every_node_takes_none_of_them_out_of_service() -> None:
    loads, seen = Loads(), []
    for _ in range(TRIES):
        for node in "abc":
            seen += fail(loads, node, "abc".replace(node, ""))
    assert seen == [AGAIN] * (len(seen) - 1) + [STOP]
    assert loads.left_out() == {}


def test_a_node_that_was_able_gets_more_tries_than_one_that_was_not() -> None:
    loads = Loads()
    load(loads, "a")
    load(loads, "b")
    assert fail(loads, "a", "b", PATIENT_TRIES)[TRIES:] == [AGAIN] * (PATIENT_TRIES - TRIES - 1) + [
        ELSEWHERE
    ]
    load(loads, "c")
    assert fail(loads, "b", "a", PATIENT_TRIES)[-1] is STOP  # a is left out already


def test_pauses_grow_to_half_a_minute() -> None:
    loads = Loads()
    pauses = []
    for _ in range(10):
        fail(loads, "a", "b")
        pauses.append(loads.pause_s())
    assert pauses == [0.5, 1, 2, 4, 8, 16, 30, 30, 30, 30]


def test_a_process_that_dies_while_it_loads_counts_as_one_that_cannot() -> None:
    loads = Loads()
    begun = [loads.begins("actor", "a", ()) for _ in range(TRIES + 1)]
    assert begun == [AGAIN] * TRIES + [STOP]
    other = Loads()
    for node in "abababab":  # one node after the other was lost
        assert other.begins("actor", node, ()) is AGAIN

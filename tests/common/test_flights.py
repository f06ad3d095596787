from ams_common.budget import LOST_S
from ams_common.clock import ManualClock
from ams_common.flights import MOST_FLIGHTS, PROMPT_S, Flight, Flights


def test_an_answer_tells_how_long_the_message_took() -> None:
    clock = ManualClock()
    flights = Flights(clock)
    flights.depart(7, 1000)
    clock.sleep(2.5)
    flights.depart(8, 10)
    assert flights.arrive(7) == Flight(wire_bytes=1000, duration_s=2.5)
    assert flights.arrive(7) is None, "an answer that comes twice"
    assert flights.arrive(3) is None, "an answer to nothing"
    assert flights.arrive(8) == Flight(wire_bytes=10, duration_s=0.0)


def test_what_the_other_side_took_is_no_part_of_the_flight() -> None:
    flight = Flight(wire_bytes=1000, duration_s=2.5, waited_s=1.0)
    assert flight.less(0.5) == Flight(wire_bytes=1000, duration_s=2.0, waited_s=1.0)
    assert flight.less(3.0).duration_s == 0.0


def test_a_message_behind_another_has_the_link_only_after_it() -> None:
    clock = ManualClock()
    flights = Flights(clock)
    assert flights.waiting is None
    flights.depart(1, 1000)
    flights.depart(2, 500)
    clock.sleep(4.0)
    assert flights.waiting == Flight(wire_bytes=1000, duration_s=4.0)
    flights.arrive(1)
    clock.sleep(2.0)
    assert flights.waiting == flights.arrive(2) == Flight(wire_bytes=500, duration_s=2.0, waited_s=4.0)


def test_answers_that_never_come_are_forgotten() -> None:
    flights = Flights(ManualClock())
    for key in range(MOST_FLIGHTS + 1):
        flights.depart(key, 1)
    assert flights.arrive(0) is None
    assert flights.arrive(1) is not None


def test_an_answer_to_a_later_message_ends_the_wait_for_earlier_ones() -> None:
    flights = Flights(ManualClock())
    for key in (3, 4, 6):
        flights.depart(key, key)
    assert flights.arrive(5) is None, "a snapshot takes the place of versions 3 to 5"
    assert flights.arrive(4) is None
    assert flights.arrive(6) is not None


def test_messages_are_late_from_when_the_first_is_until_it_counts_as_lost() -> None:
    clock = ManualClock()
    flights = Flights(clock)
    assert flights.late == 0
    flights.depart(1, 10)
    clock.sleep(PROMPT_S)
    flights.depart(2, 10)
    assert flights.late == 0
    clock.sleep(0.1)
    assert flights.late == flights.count == 2
    flights.arrive(1)
    assert flights.count == 1
    assert flights.late == 0
    clock.sleep(PROMPT_S)
    assert flights.late == 1
    clock.sleep(LOST_S)
    assert flights.late == 0

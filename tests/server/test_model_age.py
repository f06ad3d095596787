from ams_common.clock import ManualClock
from ams_server.model_age import ModelAge


def test_the_age_grows_between_batches_and_falls_with_an_update() -> None:
    clock = ManualClock()
    age = ModelAge(clock)
    age.batch_came(5_000_000)
    assert age.age_s is None
    age.applied(5_000_000)
    clock.sleep(1.5)
    assert age.age_s == 1.5
    age.batch_came(7_000_000)
    assert age.age_s == 2.0
    age.applied(7_000_000)
    assert age.age_s == 0.0


def test_it_goes_on_over_connections_of_a_run_and_begins_anew_with_another() -> None:
    clock = ManualClock()
    age = ModelAge(clock)
    age.connected(b"first run")
    age.batch_came(5_000_000)
    age.applied(5_000_000)
    clock.sleep(3.0)
    age.connected(b"first run")
    assert age.age_s == 3.0
    age.connected(b"second run")
    assert age.age_s is None
    age.batch_came(1_000_000)
    age.applied(5_000_000)
    assert age.age_s is None, "of the first run"
    age.applied(1_000_000)
    assert age.age_s == 0.0


def test_an_update_of_before_the_run_says_nothing() -> None:
    age = ModelAge(ManualClock())
    age.applied(3_000_000)
    age.batch_came(5_000_000)
    age.applied(3_000_000)
    age.applied(900_000_000)
    assert age.age_s is None


def test_an_update_may_have_learnt_from_any_frame_of_the_run_and_not_the_newest() -> None:
    clock = ManualClock(100.0)
    age = ModelAge(clock)
    for capture_us in (5_000_000, 7_000_000, 9_000_000):
        age.batch_came(capture_us)
    age.applied(5_000_000)
    clock.sleep(0.5)
    assert age.age_s == 4.5
    age.applied(7_000_000)
    assert age.age_s == 2.5

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


def test_an_update_of_before_the_connection_says_nothing() -> None:
    age = ModelAge(ManualClock())
    age.applied(3_000_000)
    age.batch_came(5_000_000)
    age.applied(3_000_000)
    age.applied(900_000_000)
    assert age.age_s is None

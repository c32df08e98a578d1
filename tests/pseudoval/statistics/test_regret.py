import math

from pseudoval.statistics.regret import random_regret, regret

NAN = math.nan


def test_regret_and_random_regret() -> None:
    values = [0.5, 1.0, 0.75, NAN]
    assert regret(values, 1) == 0.0
    assert regret(values, 0) == 0.5
    assert math.isnan(regret(values, 3))
    assert random_regret(values) == 0.25
    assert random_regret([0.1] * 7) == 0.0
    assert math.isnan(random_regret([NAN]))
    assert math.isnan(regret([NAN], 0))

"""Settings under which Spark buys twice."""

from typing import Any

import pytest

from pipeline.errors import ConfigError
from pipeline.guard import guard


class Session:
    """A session that knows these settings."""

    def __init__(self, **settings: str) -> None:
        self.conf = self
        self._settings = {name.replace("__", "."): value for name, value in settings.items()}

    def get(self, name: str, default: str) -> str:
        return self._settings.get(name, default)


def session(**settings: str) -> Any:
    return Session(**settings)


SQL = "spark__sql__execution__pyspark__udf__"


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"spark__speculation": "true"}, "spark.speculation"),
        ({f"{SQL}killOnIdleTimeout": "true", f"{SQL}idleTimeoutSeconds": "60"}, "killOnIdleTimeout"),
        ({f"{SQL}killOnIdleTimeout": "true", "spark__python__worker__idleTimeoutSeconds": "60"}, "killOnIdleTimeout"),
        (
            {"spark__python__worker__killOnIdleTimeout": "True", "spark__python__worker__idleTimeoutSeconds": "60"},
            "spark.python.worker.killOnIdleTimeout",
        ),
        ({f"{SQL}tracebackWithLocals__enabled": "true"}, "tracebackWithLocals"),
    ],
)
def test_what_certainly_buys_twice_or_tells_secrets_is_refused(settings: dict[str, str], named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        guard(session(**settings))


def test_idle_workers_that_nobody_kills_are_fine() -> None:
    assert guard(session()) == []
    assert guard(session(spark__python__worker__idleTimeoutSeconds="60", spark__speculation="false")) == []
    assert guard(session(spark__python__worker__killOnIdleTimeout="true")) == []


def test_many_attempts_of_a_stage_are_a_warning() -> None:
    (warning,) = guard(session(spark__stage__maxConsecutiveAttempts="100"))
    assert "spark.stage.maxConsecutiveAttempts = 100" in warning

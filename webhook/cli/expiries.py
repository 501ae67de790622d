"""When what the policies of a cluster rest on ends, for the metrics: read whenever they are, because an end tells nobody.

Imported when `operate` runs: it needs the extra `operator`.
"""

import datetime as dt
import functools
import math

from webhook.cli import hosting
from webhook.formats.endings import ENDING_KINDS
from webhook.observe.metrics import Metrics
from webhook.operator.exceptions import Exceptions
from webhook.operator.exceptionstatus import state_of
from webhook.operator.policies import Policies
from webhook.operator.radar import first_ends, is_over


def gauge_expiries(metrics: Metrics, policies: Policies, exceptions: Exceptions) -> None:
    """Tells whenever the metrics are read when the first of each kind ends, and what has ended already."""

    def first(kind: str) -> dt.datetime | None:
        if kind == "exception":
            now = hosting.now()
            in_force = [one.exception for one in exceptions.known.values() if state_of(one, now) == "in_force"]
            return min((one.expires_at for one in in_force if one is not None), default=None)
        if kind == "signature":
            return metrics.running.first_end
        if kind == "crl":
            return metrics.lists.first()
        ends = (one for known in policies.in_force.values() for one in known.ends)
        return first_ends(ends, hosting.now()).get(kind)

    def over() -> int:
        now = hosting.now()
        return sum(is_over(one.policy.require, one.ends, now) for one in policies.standing().values() if one.ends)

    def ended(kind: str) -> int:
        now = hosting.now()
        ends = (one.ending for known in policies.in_force.values() for one in known.ends)
        return sum(one.kind == kind and one.at <= now for one in ends)

    def seconds(kind: str) -> float:
        at = first(kind)
        return math.inf if at is None else at.timestamp()

    for kind in (*ENDING_KINDS, "exception", "signature", "crl"):
        metrics.expiry.labels(kind).set_function(functools.partial(seconds, kind))
    for kind in ENDING_KINDS:
        metrics.ended.labels(kind).set_function(functools.partial(ended, kind))
    metrics.policies_over.set_function(over)

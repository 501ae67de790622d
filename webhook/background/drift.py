"""Whether what runs is what was verified. Pure; time is an argument.

Nobody writes down at admission what was verified: it would have to be shared between replicas before the Pod starts, and the Pod is not
ours to write to. What is known instead: a Pod that is younger than its policy, in its present form, was admitted by it. If the first thing
that it runs is denied, then it is not what was verified. The same holds for a container that ran something allowed and now runs
something else that is denied. What was in order when it started, and is denied since (a key was withdrawn, a signature grew old), has not
drifted: it is reported as denied, and never evicted for it.
"""

from dataclasses import dataclass

from webhook import limits
from webhook.image import Digest
from webhook.policy.afterwards import OnDrift
from webhook.verdict import PolicyKey


@dataclass(frozen=True, slots=True)
class Drift:
    """A container that runs something else than what was verified. `where` names its image in the Pod."""

    uid: str
    namespace: str
    name: str
    where: str
    image: str
    running: Digest
    policy: PolicyKey
    follows: OnDrift
    text: str
    owner: str
    """Of the Pod; see `Pod.owner`."""


def has_drifted(running: Digest, good: Digest | None, *, created: float, seen: float, since: float) -> bool:
    """Whether an image that the policy denies now is another than the one it admitted.

    `good`: what ran in its place and was in order, if anything. `created`: the Pod; `seen`: since when it was seen to run this; `since`: since
    when nothing but the policy, as it is, lets anything in. All in seconds since the epoch.
    """
    if good == running:
        return False
    began = created if good is None else seen
    return began > since + limits.DRIFT_MARGIN

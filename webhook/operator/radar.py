"""What policies rest on and will end: found when a policy is built, told before it happens. Pure.

Certificates, GPG keys, trust roots, a signer's own validity, evidence of hardware. An end is told with the policy and its images, because
those are what nobody can start afterwards.
"""

import datetime as dt
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

import msgspec

from webhook import limits
from webhook.formats.endings import Ending, endings_of
from webhook.moment import rfc3339
from webhook.parsing import quote
from webhook.policy.parse import key_references
from webhook.policy.policy import Policy
from webhook.policy.require import Expr, Name
from webhook.policy.statusspec import EndingStatus
from webhook.policy.window import Windowed
from webhook.trust import Format, Materials

SOON: Final = dt.timedelta(days=30)
"""From when on before its end something is told to be expiring: a month is what renewing a root takes in a large company."""
ALERTED: Final = dt.timedelta(days=14)
"""From when on before the end of what runs it is counted for the alert."""
_SHOWN: Final = 5


@dataclass(frozen=True, slots=True)
class SignerEnding:
    """What of a signer ends. `signer` is its name in the policy."""

    signer: str
    ending: Ending

    def phase(self, now: dt.datetime) -> str:
        """Whether it is over, soon will be, or is of no concern yet."""
        if self.ending.at <= now:
            return "ended"
        return "soon" if self.ending.at - now < SOON else "later"

    def sentence(self, now: dt.datetime) -> str:
        """For people."""
        word = "ended" if self.ending.at <= now else "ends"
        return f'signer "{self.signer}": {self.ending.what} {word} at {rfc3339(self.ending.at)}'


def endings(
    spec: object, policy: Policy, materials: Materials, formats: Mapping[str, Format[Any]]
) -> tuple[SignerEnding, ...]:
    """What a policy rests on and ends, the first first. What signers of other policies rest on is told there."""
    found = {*_of_materials(spec, materials, formats), *_of_signers(policy)}
    return tuple(sorted(found, key=lambda one: (one.ending.at, one.signer, one.ending.what)))


def _of_materials(spec: object, materials: Materials, formats: Mapping[str, Format[Any]]) -> Iterator[SignerEnding]:
    signers = spec.get("signers") if isinstance(spec, dict) else None
    for signer in signers or ():
        for name in formats.keys() & signer.keys():
            for reference in key_references({"signers": [{name: signer[name]}]}, formats):
                material = materials.get(reference)
                if isinstance(material, bytes):
                    for ending in endings_of(name, material):
                        yield SignerEnding(signer["name"], ending)


def _of_signers(policy: Policy) -> Iterator[SignerEnding]:
    for named in policy.signers:
        if isinstance(named.signer, Windowed) and named.signer.not_after is not None:
            yield SignerEnding(named.name, Ending("validity", "its validity", named.signer.not_after))
        for device in named.devices:
            about = f"the evidence about {quote(device.about, 80)}"
            yield SignerEnding(named.name, Ending("hardware", about, device.valid_until))


def is_over(require: Expr | None, ends: Iterable[SignerEnding], now: dt.datetime) -> bool:
    """Whether what a policy demands cannot be satisfied by anything new, because of what has ended.

    A signer is over when its validity is, or when everything of it that ends has: beside an old root there may be its successor.
    """
    ended, running, invalid = set[str](), set[str](), set[str]()
    for one in ends:
        is_ended = one.phase(now) == "ended"
        (ended if is_ended else running).add(one.signer)
        if is_ended and one.ending.kind == "validity":
            invalid.add(one.signer)
    return require is not None and not _can_be_satisfied(require, (ended - running) | invalid)


def _can_be_satisfied(demand: Expr, over: Collection[str]) -> bool:
    if isinstance(demand, Name):
        return demand.name not in over
    return sum(_can_be_satisfied(one, over) for one in demand.operands) >= demand.n


def condition(
    ends: Sequence[SignerEnding],
    images: object,
    now: dt.datetime,
    require: Expr | None,
    status: Mapping[str, Any] = MappingProxyType({}),
) -> tuple[str, str, str]:
    """Status, reason and message of the condition `Expiring`. `images`: the globs of the policy, as they were written.

    `Expired` says that nobody can start something new under it; where other signers remain, that is `PartlyExpired`. `status`: of the policy,
    where it stands what of all that runs ends soon, and whether anything does run.
    """
    told = [one for one in ends if one.phase(now) != "later"]
    running = _running(status)
    if not told and running:
        return "True", "RunningEndsSoon", running
    if not told:
        first = f"the first end: {ends[0].sentence(now)}" if ends else "nothing that it rests on has an end"
        return "False", "NothingEndsSoon", first
    if is_over(require, ends, now):
        reason = "Expired"
    else:
        reason = "EndsSoon" if running or any(one.phase(now) == "soon" for one in told) else "PartlyExpired"
    text = "; ".join(one.sentence(now) for one in told[:_SHOWN])
    more = f"; and {len(told) - _SHOWN} more" if len(told) > _SHOWN else ""
    globs = [quote(glob, limits.MAX_GLOB) for glob in images] if isinstance(images, list) else []
    concerned = ", ".join(globs[:_SHOWN]) + (", …" if len(globs) > _SHOWN else "")
    what_runs = running or (_NOTHING_RUNNING_ENDS if _allowed(status) else "")
    return "True", reason, f"{text}{more}. Concerned: {concerned}" + (f". {what_runs}" if what_runs else "")


_NOTHING_RUNNING_ENDS: Final = "Of what runs nothing is known to end with it: what was signed at a trusted time stays"


def _running(status: Mapping[str, Any]) -> str:
    """What of all that runs could not be started again; empty, where that is nothing, or is not known."""
    try:
        ending = msgspec.convert(status.get("ending"), EndingStatus | None)
    except msgspec.ValidationError:
        # Whoever may write a status may write anything there.
        return ""
    if ending is None:
        return ""
    shown = "; ".join(ending.examples)
    more = "; …" if ending.images > len(ending.examples) else ""
    return f"{ending.images} images of running containers could not be started again from {rfc3339(ending.first)} on: {shown}{more}"


def _allowed(status: Mapping[str, Any]) -> bool:
    """Whether anything runs that satisfies the policy."""
    verdicts = status.get("verdicts")
    return isinstance(verdicts, dict) and bool(verdicts.get("allowed"))


def first_ends(ends: Iterable[SignerEnding], now: dt.datetime) -> dict[str, dt.datetime]:
    """When the first of each kind ends, of those that have not: one that is left in a policy after its end hides no other."""
    found: dict[str, dt.datetime] = {}
    for one in ends:
        kind, at = one.ending.kind, one.ending.at
        if at > now:
            found[kind] = min(found.get(kind, at), at)
    return found

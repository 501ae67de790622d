"""What `kubectl trust status` says of policies and exceptions: what is in force, what waits, and what they say of what runs."""

import datetime as dt
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import TYPE_CHECKING, Final

from webhook.cli.statuslines import Line, State, bounded, conditions, guarded, shown, text_of, title
from webhook.policy.document import API_VERSION
from webhook.policy.schema import EXCEPTIONS, RESOURCES

if TYPE_CHECKING:
    from webhook.kube.client import Document, Kube
    from webhook.operator.installation import Installation

_MOST: Final = 3
"""Policies that are named for what they deny of what runs."""
_EXAMPLE: Final = 160
_ENDINGS: Final = {"allowed": "allowed", "denied": "denied", "undecided": "could not be verified", "excused": "excused"}


async def policies(kube: "Kube", _installation: "Installation", _now: dt.datetime) -> AsyncIterator[Line]:
    """All that policies say of themselves, of API servers, and of what runs."""
    found = [
        one for resource in RESOURCES for one in (await kube.list_all(f"/apis/{API_VERSION}/{resource.plural}"))[0]
    ]
    if not found:
        yield Line("policies", State.note, "there are none: every image is admitted, with a warning")
        return
    modes = [_mode(one) for one in found]
    counts = ", ".join(f"{modes.count(mode)} {mode}" for mode in ("enforce", "warn", "audit") if mode in modes)
    yield Line("policies", State.ok, f"{len(found)}: {counts}")
    for line in bounded("policies", found, _about_policy):
        yield line
    held, waiting = bounded("keys", found, _about_keys), bounded("rollouts", found, _about_rollout)
    on_duty, running = guarded("on duty", _on_duty(found)), guarded("running", _running(found))
    for line in (*held, *on_duty, *waiting, *running):
        yield line


def _mode(policy: "Document") -> str:
    """What holds now; what is written, while the leader has not said that."""
    status, spec = policy.get("status") or {}, policy.get("spec") or {}
    return str(status.get("effectiveMode") or spec.get("mode") or "enforce")


def _about_policy(policy: "Document") -> Line | None:
    about, said = f"policy {title(policy)}", conditions(policy)
    ready, expiring = said.get("Ready"), said.get("Expiring", {})
    if ready is None:
        return Line("policies", State.unknown, f"{about}: nothing has been said about it yet")
    if ready.get("status") != "True":
        return Line("policies", State.wrong, f"{about} is not in force as written: {text_of(ready)}")
    if expiring.get("status") == "True":
        state = State.wrong if expiring.get("reason") == "Expired" else State.note
        return Line("policies", state, f"{about}: {text_of(expiring)}")
    return None


def _about_keys(policy: "Document") -> Line | None:
    """Keys that count as they were read last, because nobody can be asked; what has no key at all is no policy in force."""
    resolved = conditions(policy).get("SignersResolved", {})
    if resolved.get("reason") != "KeysHeld":
        return None
    return Line("keys", State.note, f"policy {title(policy)}: {text_of(resolved)}")


def _on_duty(found: "Sequence[Document]") -> Iterator[Line]:
    """What the leader says of the webhook configurations where it is not well: beside our own look, why that is not put back."""
    said = [one for policy in found if (one := conditions(policy).get("OnDuty"))]
    # All say the same; where one has not been written yet, the last word counts.
    last = max(said, key=lambda one: str(one.get("lastTransitionTime")), default={})
    if last.get("status") in {"False", "Unknown"}:
        yield Line("on duty", State.wrong if last["status"] == "False" else State.unknown, text_of(last))


def _about_rollout(policy: "Document") -> Line | None:
    effective = conditions(policy).get("Effective", {})
    if effective.get("status") != "False":
        return None
    return Line("rollouts", State.note, f"policy {title(policy)} waits: {text_of(effective)}")


def _running(found: "Sequence[Document]") -> Iterator[Line]:
    """What policies say of what runs: of an image that several speak about, each."""
    counts = {title(one): verdicts for one in found if (verdicts := (one.get("status") or {}).get("verdicts"))}
    if not counts:
        yield Line("running", State.note, "what runs has not been judged yet: a leader needs some minutes for that")
        return
    total = Counter[str]()
    for verdicts in counts.values():
        total.update({name: verdicts.get(name) or 0 for name in _ENDINGS})
    words = [f"{total[name]} {word}" for name, word in _ENDINGS.items() if total[name] or name == "allowed"]
    bad = total["denied"] or total["undecided"]
    yield Line("running", State.note if bad else State.ok, f"images, as each policy says: {', '.join(words)}")
    denying = sorted((one for one in found if _denied(one)), key=_denied, reverse=True)
    for one in denying[:_MOST]:
        yield Line(
            "running", State.note, f"policy {title(one)} ({_mode(one)}) denies {_denied(one)} of them{_example(one)}"
        )
    if more := denying[_MOST:]:
        yield Line("running", State.note, f"and {len(more)} policies more")


def _denied(policy: "Document") -> int:
    return int(((policy.get("status") or {}).get("verdicts") or {}).get("denied") or 0)


def _example(policy: "Document") -> str:
    examples = ((policy.get("status") or {}).get("verdicts") or {}).get("examples") or ()
    return f": {shown(examples[0], _EXAMPLE)}" if examples else ""


async def exceptions(kube: "Kube", _installation: "Installation", _now: dt.datetime) -> AsyncIterator[Line]:
    """How many there are, and those in force by name."""
    found, _ = await kube.list_all(f"/apis/{API_VERSION}/{EXCEPTIONS.plural}")
    states = [str(conditions(one).get("Active", {}).get("reason", "Unknown")) for one in found]
    counts = ", ".join(f"{states.count(state)} {state}" for state in sorted(set(states)))
    yield Line("exceptions", State.ok, f"{len(found)}{f': {counts}' if found else ''}")
    for line in bounded("exceptions", found, _about_exception):
        yield line


def _about_exception(exception: "Document") -> Line | None:
    active = conditions(exception).get("Active", {})
    if active.get("reason") == "Invalid":
        return Line("exceptions", State.wrong, f"exception {title(exception)}: {text_of(active)}")
    if active.get("status") != "True":
        return None
    uses = (exception.get("status") or {}).get("uses", 0)
    return Line(
        "exceptions", State.note, f"exception {title(exception)} is in force, used {uses} times: {text_of(active)}"
    )

"""What `kubectl trust status` says of the webhook configurations: whether API servers ask this installation, and believe nobody else."""

import base64
import binascii
import datetime as dt
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from cryptography import x509

from webhook.cli.statuslines import Line, State, not_understood, shown
from webhook.kube import KubeError
from webhook.parsing import Invalid

if TYPE_CHECKING:
    from webhook.kube.client import Document, Kube
    from webhook.operator.installation import Installation

SOON: Final = dt.timedelta(days=7)
"""Before their end certificates and authorities have long been replaced: what ends so soon is replaced by nobody."""


@dataclass(frozen=True, slots=True)
class _Asked:
    """What the installation has beside its configurations. `wanted`: by path, what is to be in place.

    `unkept`: why nobody puts back what is not, `seen`: or why that is not known. `data`: the Secret's; None: `unread` says why it is not known.
    """

    installation: "Installation"
    wanted: "Mapping[str, Document]"
    unkept: str
    seen: bool
    data: Mapping[str, bytes] | None
    unread: str


async def configurations(kube: "Kube", installation: "Installation", now: dt.datetime) -> AsyncIterator[Line]:
    """Both, by the installation's name: what says how they should be may itself be wrong, while they are in place."""
    from webhook.observe.metrics import CONFIGURATIONS
    from webhook.operator.wanted import paths_of

    asked = await _asked(kube, installation)
    for kind, path in paths_of(installation).items():
        about = CONFIGURATIONS[kind]
        try:
            found = await kube.get(path)
        except KubeError as e:
            if e.status in {0, 401}:
                raise
            yield Line(about, State.unknown, str(e))
            continue
        try:
            yield _about(about, path, found, asked, now)
        except Exception as e:  # noqa: BLE001 - what is wrong with one must not hide the other
            yield not_understood(about, e)


async def _asked(kube: "Kube", installation: "Installation") -> _Asked:
    from webhook.operator.wanted import configurations_in

    where, wanted, unkept, seen = f"ConfigMap {installation.namespace}/{installation.configuration}", {}, "", True
    try:
        wanted = dict(configurations_in(await kube.get(installation.configuration_path), installation))
        unkept = f"{where} is missing"
    except Invalid as e:
        unkept = f"{where} is wrong: {shown(e)}"
    except KubeError as e:
        if e.status in {0, 401}:
            raise
        unkept, seen = f"how it should be is not known: {e}", False
    secret = f"Secret {installation.namespace}/{installation.secret}"
    try:
        found = await kube.get(installation.secret_path)
        data = None if found is None else _decoded(found)
        return _Asked(installation, wanted, unkept, seen, data, f"{secret} is missing")
    except KubeError as e:
        if e.status in {0, 401}:
            raise
        return _Asked(installation, wanted, unkept, seen, None, str(e))


def _about(about: str, path: str, found: "Document | None", asked: _Asked, now: dt.datetime) -> Line:
    """What is to be said about one configuration, the worst of it."""
    from webhook.operator.duty import fault_of

    name, written = asked.installation.service, asked.wanted.get(path)
    fault = None if written is None else fault_of(found, written)
    if fault is not None:
        return Line(about, State.wrong, f"{name} is not as it was installed: {fault}")
    if found is None:
        return Line(
            about, State.wrong, f"{name} is missing{', and nobody makes it' if asked.seen else ''}: {asked.unkept}"
        )
    webhooks: Sequence[Document] = found.get("webhooks") or ()
    if not webhooks:
        return Line(about, State.wrong, f"{name} holds no webhook: API servers ask nobody")
    named = written is not None and all("caBundle" in one["clientConfig"] for one in written["webhooks"])
    for webhook in webhooks:
        if (trouble := _trouble(webhook, asked, now, named=named)) is not None:
            return Line(about, State.wrong, f"webhook {shown(webhook.get('name'))}: {trouble}")
    until = min(_last_end(_bundle_of(one)) for one in webhooks)
    ignoring = [shown(one.get("name")) for one in webhooks if one.get("failurePolicy") == "Ignore"]
    fails = f"without an answer everything is admitted: {', '.join(ignoring)}" if ignoring else "fails closed"
    ends = f"its authority until {until:%Y-%m-%d}"
    if written is None:
        state, kept = (State.wrong, "but nobody keeps it") if asked.seen else (State.unknown, "as far as can be told")
        return Line(about, state, f"in place, {kept}: {asked.unkept}; {fails}, {ends}")
    if until - now <= SOON:
        return Line(about, State.wrong, f"in place, but {ends} only: API servers reach nobody from then on")
    if asked.data is None and not named:
        return Line(
            about,
            State.unknown,
            f"in place, {fails}, {ends}; whether that is the replicas' is not known: {asked.unread}",
        )
    return Line(about, State.note if ignoring else State.ok, f"in place, {fails}, {ends}")


def _trouble(webhook: "Document", asked: _Asked, now: dt.datetime, *, named: bool) -> str | None:
    """Why API servers reach nobody by it, or somebody else. `named`: its authorities are written down by whoever installed it."""
    service = webhook["clientConfig"].get("service") or {}
    if (service.get("namespace"), service.get("name")) != (asked.installation.namespace, asked.installation.service):
        return "it leads to something else than this installation"
    try:
        published = x509.load_pem_x509_certificates(_bundle_of(webhook))
        alive = [one for one in published if one.not_valid_after_utc > now]
    except ValueError:
        alive = []
    if not alive:
        return "its authorities have ended or cannot be read: API servers reach nobody"
    if asked.data is None or named:
        return None
    secret = f"Secret {asked.installation.namespace}/{asked.installation.secret}"
    try:
        ours = _authorities(asked.data, _bundle_of(webhook), now)
    except (KeyError, ValueError):
        return f"{secret} has no ca.crt to compare its authorities with"
    if foreign := [one for one in alive if one not in ours]:
        names = ", ".join(shown(one.subject.rfc4514_string(), 80) for one in foreign)
        return f"it believes authorities that are not those of {secret}: {names}"
    if not set(ours) <= set(alive):
        return f"it lacks authorities of {secret}: API servers may reach nobody"
    return None


def _authorities(data: Mapping[str, bytes], published: bytes, now: dt.datetime) -> list[x509.Certificate]:
    """Those that the leader would publish. Raises KeyError or ValueError."""
    from webhook.operator.certificates import bundle

    # Without the authority's key the Secret is somebody else's to fill, and nothing is published beside it.
    pem = bundle(data, published, now) if "ca.key" in data else data["ca.crt"]
    return x509.load_pem_x509_certificates(pem)


def _bundle_of(webhook: "Document") -> bytes:
    """The authorities of a webhook; nothing, if they cannot be read."""
    try:
        return base64.b64decode(str(webhook["clientConfig"].get("caBundle") or ""))
    except binascii.Error:
        return b""


def _last_end(pem: bytes) -> dt.datetime:
    """When the last of these authorities ends."""
    return max(one.not_valid_after_utc for one in x509.load_pem_x509_certificates(pem))


def _decoded(secret: "Document") -> dict[str, bytes]:
    """What a Secret holds, as far as it can be read."""
    found = dict[str, bytes]()
    for name, text in (secret.get("data") or {}).items():
        try:
            found[name] = base64.b64decode(str(text))
        except binascii.Error:
            continue
    return found


async def certificate(kube: "Kube", installation: "Installation", now: dt.datetime) -> AsyncIterator[Line]:
    """The one that replicas serve."""
    found = await kube.get(installation.secret_path)
    if found is None:
        yield Line("certificate", State.wrong, f"there is no Secret {installation.namespace}/{installation.secret}")
        return
    # Its private key comes along, and is looked at by nobody.
    try:
        chain = x509.load_pem_x509_certificates(_decoded(found).get("tls.crt", b""))
        ends = min(one.not_valid_after_utc for one in chain)
    except ValueError:
        yield Line("certificate", State.wrong, f"Secret {installation.namespace}/{installation.secret} holds none")
    else:
        yield Line("certificate", State.ok if ends - now > SOON else State.wrong, f"until {ends:%Y-%m-%d %H:%M} UTC")

"""Challenges, and whom a credential may be shown to.

The rules are pure functions and our own: general clients send a login to whatever token service a registry names, and have
leaked it so again and again (attack S-01). Source: distribution, "Token Authentication Specification"; RFC 9110, section 11.
"""

import base64
import ipaddress
import re
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import yarl

from webhook.image import DOCKER_HUB, normalise_host
from webhook.parsing import Invalid, quote
from webhook.registry.settings import HostSettings, RegistrySettings
from webhook.trust import Credential, Unavailable

_SCHEME: Final = re.compile(r"(?:^|,)\s*(?P<scheme>Bearer|Basic)(?:\s+|$)", re.IGNORECASE | re.ASCII)
_MAX_CHALLENGE: Final = 4096

# Registries whose token service is known to live elsewhere; of others the operator says so (`realms` in registries.yaml).
_KNOWN_REALMS: Final = {
    DOCKER_HUB: frozenset({"auth.docker.io"}),
    "registry.gitlab.com": frozenset({"gitlab.com"}),
    "registry.redhat.io": frozenset({"sso.redhat.com"}),
    "docker.elastic.co": frozenset({"docker-auth.elastic.co"}),
}


class LoginRefused(Unavailable):
    """A token service does not accept this login; the next one may do."""


@dataclass(frozen=True, slots=True)
class Challenge:
    """How a registry wants to be asked. `realm` is the token service's address; none for Basic."""

    realm: yarl.URL | None = None
    service: str = ""


def parse_challenge(headers: list[str], registry: str) -> Challenge:
    """The challenge in the `WWW-Authenticate` fields of a 401; Bearer is preferred.

    Raises `Unavailable` if there is none that can be answered: the registry, not the image, is at fault.
    """
    basic = False
    for header in headers:
        for scheme, parameters in _challenges(header[:_MAX_CHALLENGE]):
            if scheme == "basic":
                basic = True
            elif "realm" in parameters:
                try:
                    realm = yarl.URL(parameters["realm"])
                except ValueError as e:
                    raise Unavailable(f"{registry}: names a token service that is no URL") from e
                return Challenge(realm, parameters.get("service", ""))
    if basic:
        return Challenge()
    raise Unavailable(f"{registry}: wants a login in no way that is known here")


def _challenges(header: str) -> Iterator[tuple[str, dict[str, str]]]:
    found = list(_SCHEME.finditer(header))
    for match, following in zip(found, [*found, None][1:], strict=True):
        text = header[match.end() : following.start() if following else len(header)]
        items = [item for item in urllib.request.parse_http_list(text) if "=" in item]
        yield match["scheme"].lower(), urllib.request.parse_keqv_list(items)


def token_url(challenge: Challenge, scope: str, settings: RegistrySettings, registry: HostSettings) -> yarl.URL:
    """Where to ask for a token, if that place may be asked at all.

    Raises `Unavailable`. Refused are other schemes than https (http only where the operator allows it for that very host),
    user information, fragments, line breaks, and internal addresses that are not the registry's own host (attack S-01).
    """
    realm = challenge.realm
    if realm is None:
        raise Unavailable(f"{registry.host}: names no token service")
    host = realm_host(realm)
    if host is None or realm.user is not None or realm.password is not None or realm.fragment:
        raise Unavailable(f"{registry.host}: names a token service that is refused: {quote(realm.human_repr(), 120)}")
    if any(c in challenge.service + scope + str(realm) for c in "\r\n\0"):
        raise Unavailable(f"{registry.host}: names a token service with a line break")
    asked = settings.of(host)
    if realm.scheme != "https" and not (realm.scheme == "http" and asked.plain_http):
        raise Unavailable(f"{registry.host}: names a token service without TLS, {quote(host, 120)}, which is refused")
    if host != registry.host and not asked.configured and _is_internal(realm.host or ""):
        raise Unavailable(f"{registry.host}: names a token service on an internal address, {quote(host, 120)}")
    query = {"scope": scope} if not challenge.service else {"service": challenge.service, "scope": scope}
    return realm.update_query(query)


def realm_host(realm: yarl.URL) -> str | None:
    """The host of a token service in its one spelling, with its port if that is not the default one."""
    if realm.host is None or realm.scheme not in {"http", "https"}:
        return None
    default = 443 if realm.scheme == "https" else 80
    name = f"[{realm.host}]" if ":" in realm.host else realm.host
    try:
        return normalise_host(name if realm.port == default else f"{name}:{realm.port}")
    except Invalid:
        return None


def _is_internal(host: str) -> bool:
    try:
        return not ipaddress.ip_address(host).is_global
    except ValueError:
        return False


def may_see(realm: yarl.URL, registry: HostSettings) -> bool:
    """Whether a login for `registry` may be shown to the token service `realm`: its own host, or one that is allow-listed."""
    host = realm_host(realm)
    return host == registry.host or host in registry.realms or host in _KNOWN_REALMS.get(registry.host, frozenset())


def basic(credential: Credential) -> str:
    """The Authorization header of a login. Source: RFC 7617."""
    text = f"{credential.username}:{credential.password}"
    return f"Basic {base64.b64encode(text.encode()).decode()}"

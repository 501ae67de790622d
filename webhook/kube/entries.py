"""Secrets and ConfigMaps as Kubernetes writes them → their entries as bytes."""

import base64
import binascii
from collections.abc import Mapping

from msgspec import Struct

from webhook.parsing import Invalid, quote
from webhook.policy.keyref import ObjectKind


class Entries(Struct, rename="camel"):
    """The fields of a Secret or ConfigMap that hold something."""

    data: dict[str, str] | None = None
    binary_data: dict[str, str] | None = None
    string_data: dict[str, str] | None = None

    def decoded(self, kind: ObjectKind) -> Mapping[str, bytes]:
        """Every entry. Raises `Invalid`, which repeats no value: values are secrets."""
        text = {name: value.encode() for name, value in (self.string_data or {}).items()}
        plain = {name: value.encode() for name, value in (self.data or {}).items()} if kind == "ConfigMap" else {}
        encoded = self.binary_data if kind == "ConfigMap" else self.data
        return {**{name: _decoded(name, value) for name, value in (encoded or {}).items()}, **plain, **text}


def _decoded(name: str, value: str) -> bytes:
    try:
        return base64.b64decode("".join(value.split()), validate=True)
    except binascii.Error as e:
        raise Invalid(f"data.{quote(name, 80)}: not base64") from e

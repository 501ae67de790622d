"""SoftHSM2, a real PKCS#11 token in files: keys are made in it, and sign in it.

Not a fake of ours, but the module that everybody tests with; where it is not installed, tests that need it say so and are skipped.
"""

import hashlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pkcs11
import pytest
from asn1crypto.core import PrintableString
from pkcs11 import Attribute, KeyType, Mechanism, ObjectClass
from pkcs11.util.ec import encode_ecdsa_signature, encode_named_curve_parameters
from pkcs11.util.x509 import decode_x509_certificate

from webhook.formats._keys import PublicKey

_FOLDERS: Final = ("/usr/lib/softhsm", "/usr/lib/x86_64-linux-gnu/softhsm", "/usr/lib/aarch64-linux-gnu/softhsm", "/usr/lib64/softhsm", "/usr/local/lib/softhsm")  # fmt: skip
MODULE: Final = next((path for folder in _FOLDERS if (path := Path(folder, "libsofthsm2.so")).is_file()), None)
PIN: Final = "1234"
needed: Final = pytest.mark.skipif(
    MODULE is None or shutil.which("softhsm2-util") is None,
    reason="NO SOFTHSM2: keys on PKCS#11 tokens are not tested (apt install softhsm2)",
)


class SoftHSM:
    """Tokens below one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.tokens = folder / "tokens"
        self.tokens.mkdir(parents=True)
        (folder / "softhsm2.conf").write_text(f"directories.tokendir = {self.tokens}\nlog.level = ERROR\n")

    @property
    def environment(self) -> dict[str, str]:
        """What tells the module where its tokens are."""
        return {"SOFTHSM2_CONF": str(self.folder / "softhsm2.conf")}

    def make_token(self, label: str) -> None:
        """An empty token."""
        words = ["softhsm2-util", "--init-token", "--free", "--label", label, "--pin", PIN, "--so-pin", "12345678"]
        subprocess.run(words, check=True, capture_output=True, env={**os.environ, **self.environment})  # noqa: S603 - its own tool

    @contextmanager
    def session(self, label: str) -> Iterator[Any]:
        """A session that may write, logged in."""
        library = pkcs11.lib(str(MODULE))
        # It reads its configuration when it is initialised, and may have been for another test.
        library.reinitialize()
        with library.get_token(token_label=label).open(rw=True, user_pin=PIN) as session:
            yield session

    def make_key(self, token: str, kind: str, label: str, id_: bytes = b"\x01") -> None:
        """A key pair: a named curve, `ed25519`, or `rsa:BITS`."""
        with self.session(token) as session:
            if kind.startswith("rsa:"):
                bits = int(kind.removeprefix("rsa:"))
                session.generate_keypair(KeyType.RSA, bits, store=True, label=label, id=id_)
                return
            edwards = kind == "ed25519"
            encoded = PrintableString("edwards25519").dump() if edwards else encode_named_curve_parameters(kind)
            parameters = session.create_domain_parameters(
                KeyType.EC_EDWARDS if edwards else KeyType.EC, {Attribute.EC_PARAMS: encoded}, local=True
            )
            mechanism = Mechanism.EC_EDWARDS_KEY_PAIR_GEN if edwards else Mechanism.EC_KEY_PAIR_GEN
            parameters.generate_keypair(mechanism=mechanism, store=True, label=label, id=id_)

    def put_certificate(self, token: str, der: bytes, label: str, id_: bytes = b"\x01") -> None:
        """Stores a certificate beside the keys."""
        attributes = {Attribute.TOKEN: True, Attribute.LABEL: label, Attribute.ID: id_}
        with self.session(token) as session:
            session.create_object({**decode_x509_certificate(der), **attributes})

    def put_secret(self, token: str, label: str) -> None:
        """Stores what is no key pair."""
        with self.session(token) as session:
            session.generate_key(KeyType.AES, 256, store=True, label=label)

    def remove(self, token: str, kind: ObjectClass, label: str) -> None:
        """Deletes objects."""
        with self.session(token) as session:
            for found in list(session.get_objects({Attribute.CLASS: kind, Attribute.LABEL: label})):
                found.destroy()

    def hide(self, token: str, label: str) -> None:
        """Makes a public key visible to those who are logged in only."""
        with self.session(token) as session:
            found = session.get_key(ObjectClass.PUBLIC_KEY, label=label)
            found.copy({Attribute.PRIVATE: True})
            found.destroy()

    def sign(self, token: str, label: str, message: bytes) -> bytes:
        """A signature that the token makes, in the form in which it is published."""
        with self.session(token) as session:
            private = session.get_key(ObjectClass.PRIVATE_KEY, label=label)
            if private.key_type is KeyType.EC:
                # As most tokens, it signs digests.
                raw = private.sign(hashlib.sha256(message).digest(), mechanism=Mechanism.ECDSA)
                return encode_ecdsa_signature(raw)
            mechanism = Mechanism.SHA256_RSA_PKCS if private.key_type is KeyType.RSA else Mechanism.EDDSA
            return bytes(private.sign(message, mechanism=mechanism))

    def signer(self, token: str, label: str, public: PublicKey) -> "TokenSigner":
        """Somebody who signs with a key of this token."""
        return TokenSigner(self, token, label, public.hint)

    def unplug(self) -> None:
        """Takes all tokens away."""
        self.tokens.rename(self.folder / "unplugged")
        self.tokens.mkdir()

    def plug_in(self) -> None:
        """Brings them back."""
        self.tokens.rmdir()
        (self.folder / "unplugged").rename(self.tokens)


@dataclass(frozen=True)
class TokenSigner:
    """Implements `signing.Signs`."""

    hsm: SoftHSM
    token: str
    label: str
    hint: str

    def sign(self, message: bytes) -> bytes:
        """A signature by the token."""
        return self.hsm.sign(self.token, self.label, message)

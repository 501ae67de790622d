"""Cosign: signatures and bundles in every layout that it writes, by key, by certificate and keyless.

Which of them an image carries is found out, never configured, and they are judged one by one: a broken one hides no good one. `spec` is
what policies write and `build` reads it; `collect` finds evidence, `published` brings it into one form, `signer` judges it.
"""

from typing import Final

from webhook.formats.cosign.build import build, examine, hold, key_references
from webhook.formats.cosign.spec import CosignSpec
from webhook.trust import Format

FORMAT: Final = Format(
    "cosign",
    "Signatures by cosign 2 and 3, whichever layout they have: by key, keyless, or with a certificate of one's own.",
    CosignSpec,
    keys=key_references,
    build=build,
    examine=examine,
    hold=hold,
    attests=True,
)

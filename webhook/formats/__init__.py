"""The table of signature formats: one file and one row each.

An explicit row and no discovery: the type checker proves that a module fits, and a stray file registers nothing.
"""

from collections.abc import Mapping
from typing import Any, Final

from webhook.formats import cosign, dct, gpg, static
from webhook.trust import Format

FORMATS: Final[Mapping[str, Format[Any]]] = {
    row.name: row for row in (cosign.FORMAT, dct.FORMAT, gpg.FORMAT, static.FORMAT)
}

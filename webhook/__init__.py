"""Trusted Images: the decision whether a container image may run here.

One package answers that question from who signed the image, under `TrustPolicy` and `ClusterTrustPolicy` resources, and
gives the same answer at admission and on the command line, because both ask the same judge (`webhook.judge`). What comes
from outside is untrusted until a check has made a proof of it; what cannot be proven does not run.

The floors of the house and what may import what: docs/architecture.md, held by `make check`.
"""

__version__ = "0.1.0"

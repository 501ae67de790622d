"""Every bound on what comes from outside, with its unit and where the number comes from.

They stand in one module so that a reader can see at a glance how much anybody can make us read, hold or wait for. At N it
works, at N+1 it does not. Bytes are counted on the stream, never taken from a declared size, and counted before parsing.
"""

from datetime import timedelta
from typing import Final

KIB: Final = 1024
MIB: Final = 1024 * KIB

# ── admission ────────────────────────────────────────────────────────────────────────────────────────────────────────
MAX_REVIEW: Final = 7 * MIB
"""Bytes of an AdmissionReview: an UPDATE carries two objects; controller-runtime accepts as much."""
MAX_IMAGES: Final = 1_000
"""Images named by one review; equal ones count each time."""
MAX_JUDGED_PER_NAMESPACE: Final = 32
"""Distinct images, asked about from one namespace, whose evidence is being fetched: a tenant's slow registry is its own affair."""
MAX_BEHIND: Final = 64
MAX_BEHIND_PER_NAMESPACE: Final = 16
"""Images whose evidence is read to its end behind an answer that could not wait for it, in all and for one namespace."""
MAX_JUDGED_AT_ONCE: Final = 16
"""Distinct images of one review that are judged concurrently."""
DENIAL_GRACE_SECONDS: Final = 0.5
"""Seconds for which a denial waits for what is being read already, so that it can name all who are missing."""
MAX_FOUND_AT_ONCE: Final = 64
"""Signers, times images of platforms, whose evidence for one image is being fetched: every signer of two policies at their limit."""
MAX_WAITING_REVIEWS: Final = 500
"""Reviews under way in one replica; the next one is told at once that it could not be verified."""
DEFAULT_TIMEOUT: Final = 10.0
"""Seconds the API server waits when it does not say (`?timeout=`): the Kubernetes default."""
MAX_TIMEOUT: Final = 30.0
"""Seconds; Kubernetes allows no longer webhook timeout."""
ANSWER_MARGIN: Final = 1.0
"""Seconds before the API server's deadline at which we answer, so that people read our reason and not its own."""
MAX_HEADER_FIELD: Final = 8 * KIB
"""Bytes of one header field, in requests and in registries' answers: aiohttp's default."""
MAX_REQUEST_SECONDS: Final = 10.0
"""Seconds for a complete request to arrive."""
SHUTDOWN_GRACE: Final = 30.0
"""Seconds for reviews under way to end after SIGTERM: no less than the longest webhook timeout."""
MAX_WARNING: Final = 256
"""Characters of one admission warning: longer ones are cut by the API server."""
MAX_WARNINGS: Final = 16
"""Warnings in one answer: about 4 KiB, past which the API server drops them all."""
MAX_QUOTE: Final = 256
"""Characters of outside text (names, reasons) that a message repeats, after escaping."""
MAX_DENIAL_NAME: Final = 300
"""Characters of a refused object's kind and name in an Event, which has 1,024 for all."""
MAX_DENIAL_LINES: Final = 20
"""Images that one denial names; the rest are counted."""

# ── references ───────────────────────────────────────────────────────────────────────────────────────────────────────
MAX_NAME: Final = 255
"""Characters of registry and path together: distribution's reference grammar."""
MAX_TAG: Final = 128
"""Characters: the same grammar."""
MAX_REFERENCE: Final = MAX_NAME + 1 + MAX_TAG + 1 + len("sha256:") + 64
"""Characters of a reference with tag and digest."""

# ── registry ─────────────────────────────────────────────────────────────────────────────────────────────────────────
MAX_MANIFEST: Final = 4 * MIB
"""Bytes of a manifest or index: what containers/image and notation accept."""
MAX_SIGNATURE_MANIFEST: Final = 1 * MIB
"""Bytes of a manifest of signatures: a hundred of them with certificates and log entries."""
MAX_BLOB: Final = 10_000_000
"""Bytes of a bundle, attestation or signature blob: what Kyverno accepts."""
MAX_PAYLOAD: Final = 4 * MIB
"""Bytes of a simple-signing payload: what containers/image accepts."""
MAX_EVIDENCE: Final = 32 * MIB
"""Bytes of evidence read for one image and signer in one place: a tag, a list of referrers, a store."""
MAX_LAYERS: Final = 100
"""Layers of a signature manifest."""
MAX_CHILDREN: Final = 64
"""Children of an image index that we look at."""
MAX_REFERRERS: Final = 100
"""Referrers considered of one list, the API's or that of the fallback tag: as notation does."""
MAX_REFERRER_PAGES: Final = 10
"""Pages of a referrers list."""
MAX_REFERRER_PAGE: Final = 1 * MIB
"""Bytes of one page of referrers, and of a fallback index."""
MAX_SIGNATURES: Final = 100
"""Signatures judged for one image and signer from one place: cosign and notation stop there too."""
MAX_TOKEN: Final = 1 * MIB
"""Bytes of a token endpoint's answer."""
MAX_ERROR_BODY: Final = 16 * KIB
"""Bytes read of an answer that is an error."""
MAX_REDIRECTS: Final = 5
"""Redirects followed for one request; never from https to http."""
CONNECT_SECONDS: Final = 2.0
"""Seconds to connect to a registry, name resolution and TLS included."""
REQUEST_SECONDS: Final = 5.0
"""Seconds for one request to a registry, body included."""
FLIGHT_SECONDS: Final = 30.0
"""Seconds that work may go on behind an answer, so that the controller's retry finds it done."""
MAX_RETRIES: Final = 2
"""Repetitions of a request after 429, 5xx or a broken connection."""
MAX_BACK_OFF: Final = 60.0
"""Seconds a registry can make us leave it alone (`Retry-After`)."""
MAX_FETCHES_PER_REGISTRY: Final = 100
"""Connections to one registry."""
MAX_WAITING_PER_REGISTRY: Final = 250
"""Requests under way or waiting for one registry: a quarter of all, so that one that stalls leaves room for the others."""
MAX_READING: Final = 32 * MIB
"""Bytes of answers that are being read at one time in one replica, counted as they come."""
MAX_READING_PER_REGISTRY: Final = 12 * MIB
"""The same of one registry: more than its largest answer."""
MAX_FETCHES: Final = 1_000
"""Requests under way or waiting in one replica; the next one fails at once."""

# ── Docker Content Trust ─────────────────────────────────────────────────────────────────────────────────────────────
MAX_TUF_ROOT: Final = 512_000
"""Bytes of root metadata: python-tuf, as the next four."""
MAX_TUF_TIMESTAMP: Final = 16 * KIB
"""Bytes of timestamp metadata."""
MAX_TUF_SNAPSHOT: Final = 2_000_000
"""Bytes of snapshot metadata."""
MAX_TUF_TARGETS: Final = 5_000_000
"""Bytes of targets metadata, of a delegation's too."""
MAX_ROOT_ROTATIONS: Final = 256
"""Versions of the root that are gone back to find one that a policy's key has signed."""
MAX_TUF_DELEGATIONS: Final = 32
"""Delegations in one targets metadata, and in one policy: python-tuf looks into as many."""
MAX_TUF_VALUES: Final = 200_000
"""Values of targets metadata, four to a tag: as many as its bytes can hold. Its hash has been compared before it is parsed."""
MAX_URL: Final = 512
"""Characters of a server's address in a policy."""

# ── parsing ──────────────────────────────────────────────────────────────────────────────────────────────────────────
MAX_JSON_DEPTH: Final = 64
"""Nested arrays and objects."""
MAX_JSON_ITEMS: Final = 20_000
"""Values of a JSON document, counted by its commas and brackets: an image of 127 layers has 1,000, parsing this many takes 10 ms."""
MAX_STATEMENT_ITEMS: Final = 200_000
"""The same of a statement whose signature was verified: a list of 10,000 packages with their files. Parsing it takes 0.2 s."""
MAX_COMPLAINTS: Final = 50
"""Faults of one document that are told; the others show when these are mended."""
MAX_DIGITS: Final = 20
"""Digits of a JSON integer: every 64-bit number fits."""
MAX_SUBJECTS: Final = 1_000
"""Subjects of an in-toto statement."""
MAX_YAML: Final = 1 * MIB
"""Bytes of a policy or registries file."""
MAX_REQUIRE: Final = 4 * KIB
"""Characters of a `require` expression."""
MAX_REQUIRE_DEPTH: Final = 16
"""Nested parentheses of a `require` expression."""

# ── conditions (`where`) ─────────────────────────────────────────────────────────────────────────────────────────────
MAX_WHERE: Final = 4 * KIB
"""Characters of a condition."""
MAX_WHERE_NESTING: Final = 32
"""Nested parentheses, arguments and choices of a condition: what other implementations of the language take."""
MAX_WHERE_DEPTH: Final = 100
"""Operations of a condition that stand in one another: the interpreter's own stack holds ten times as many."""
WHERE_UNITS: Final = 1_000_000
"""What one evaluation of a condition may cost, in units of about a microsecond: a look at every part of the largest statement.
Counted, not timed, so that the same condition on the same statement ends alike on every machine."""
WHERE_CHARACTERS: Final = 4_096
"""Characters that one unit compares or searches."""
WHERE_COPIED: Final = 16
"""Characters that one unit joins: a bound on memory more than on time."""
WHERE_PATTERN: Final = 50
"""Units for a regular expression, whatever it is matched with."""
WHERE_MATCHED: Final = 100
"""Characters, times instructions of a regular expression, that one unit matches."""
WHERE_PATTERN_BYTES: Final = 64 * KIB
"""Bytes of a compiled regular expression."""

# ── policies ─────────────────────────────────────────────────────────────────────────────────────────────────────────
MAX_GLOBS: Final = 256
"""Entries of `images`, of `exclude` and of every other list of globs in one policy."""
MAX_GLOB: Final = 512
"""Characters of one glob."""
MAX_DELEGATIONS: Final = 32
"""Entries of `delegate` in one policy."""
MAX_SIGNERS: Final = 32
"""Signers of one policy, and as many attestations."""
MAX_PREDICATE_TYPE: Final = 512
"""Characters of a predicate type."""
MAX_KEYS: Final = 32
"""Keys of one signer."""
MAX_REFERENCES: Final = 8
"""Policies that a signer's reference may lead through, one referring to the next."""
MAX_DENIED: Final = 1_000
"""Entries of each deny list of one policy."""
MAX_SERIAL: Final = 64
"""Characters of a certificate's serial number in hex, colons among them: 20 bytes at most (RFC 5280)."""
MAX_AGE_HOURS: Final = 87_600
"""Hours of the longest age that a policy may name: ten years."""
MAX_TEXT: Final = 1 * KIB
"""Characters of `message` and `reason`."""
MAX_EXCUSED: Final = 64
"""Entries of `policies`, and of `images`, in one exception: what needs more is a policy."""
MAX_USER_NAME: Final = 512
"""Characters of a user name: a service account's has 339 at most, identity providers write addresses."""
MAX_USES: Final = 1_000_000
"""Pods that one exception lets in, where it bounds them."""

# ── certificates, keys, time ─────────────────────────────────────────────────────────────────────────────────────────
MAX_LOG_ENTRIES: Final = 32
"""Transparency log entries in one bundle: sigstore-go."""
MAX_TIMESTAMPS: Final = 32
"""RFC 3161 timestamps in one bundle: sigstore-go."""
MAX_CERTIFICATE: Final = 64 * KIB
"""Bytes of one certificate in DER: the largest in use have a few thousand."""
MAX_CERTIFICATES: Final = 100
"""Certificates that one key string of a policy may hold."""
MAX_INTERMEDIATES: Final = 10
"""Intermediate certificates that come with one signature: as Kyverno does (CVE-2026-32280)."""
MAX_HARDWARE_CERTIFICATES: Final = 40
"""Certificates of one signer's hardware evidence: ten keys, each with its device's certificate and two above it."""
MAX_DEVICE_CHAIN: Final = 5
"""Certificates below a root, that of the device's key among them: YubiKeys since firmware 5.7 have four."""
MAX_ISSUER_CHECKS: Final = 80
"""Signatures of certificates checked for one signer's hardware evidence: twice as many as it may hold certificates."""
MAX_TIMESTAMP: Final = 64 * KIB
"""Bytes of one RFC 3161 timestamp: those in use have a few thousand, with their certificates."""
MAX_CHAIN: Final = MAX_INTERMEDIATES + 2
"""Certificates in the chain of one Notary Project signature: the leaf, what lies between, the root."""
MAX_TRUST_STORES: Final = 16
"""Trust stores of one notation signer."""
MAX_IDENTITIES: Final = 64
"""Trusted identities of one notation signer."""
MAX_DISTINGUISHED_NAME: Final = 1 * KIB
"""Characters of a distinguished name in a policy, and of one that a message or an identity shows."""
MAX_CBOR_DEPTH: Final = 8
"""Nested items of a COSE envelope: four are in use, and an attribute may hold some of its own."""
MAX_CBOR_ITEMS: Final = 1_000
"""Items of a COSE envelope: about thirty are in use."""
MAX_REVOCATION_URLS: Final = 4
"""OCSP responders, and distribution points of revocation lists, of one certificate: one or two are in use."""
MAX_REVOCATION_REQUESTS: Final = 16
"""Requests about revocation for one image and signer."""
REVOCATION_SECONDS: Final = 2.0
"""Seconds that one such request may take: what notation waits for a responder."""
MAX_REVOCATION_LIST: Final = 10 * MIB
"""Bytes of one revocation list, or of its changes: the largest of public authorities have that much."""
MAX_OCSP: Final = 64 * KIB
"""Bytes of one OCSP answer: a few thousand with the responder's certificate."""
MAX_INCLUSION_HASHES: Final = 64
"""Hashes of an inclusion proof: sizes of trees have 64 bits."""
MAX_CHECKPOINT: Final = 64 * KIB
"""Characters of a log's checkpoint: those in use have a few hundred, and a hundred for each witness."""
MAX_ROOT_ENTRIES: Final = 32
"""Certificate authorities, logs and timestamp authorities of one trust root, of each kind."""
MAX_PATTERN: Final = 1 * KIB
"""Characters of a regular expression in a policy."""
MAX_PATTERN_MEMORY: Final = 1 * MIB
"""Bytes that one regular expression may take while it is matched: RE2 stays linear in time within any such bound."""
MAX_IDENTITY: Final = 8 * KIB
"""Characters of an identity in a certificate, which regular expressions are held against."""
MAX_TUF_FILE: Final = 5_000_000
"""Bytes of one file of a TUF repository; python-tuf bounds each kind of them more closely."""
MIN_RSA_BITS: Final = 2_048
MAX_RSA_BITS: Final = 8_192
"""Bits of an RSA modulus: larger ones cost CPU that anybody could make us spend."""
MIN_RSA_EXPONENT: Final = 65_537
MAX_RSA_EXPONENT: Final = 2**31 - 1
MAX_KEY_TEXT: Final = 16 * KIB
"""Characters of a key string in a policy: a PEM with its comments, or a reference."""
MAX_KEY_MATERIAL: Final = 1 * MIB
"""Bytes of key material: the size of a Kubernetes Secret."""

# ── keys outside the cluster ─────────────────────────────────────────────────────────────────────────────────────────
FIRST_KEYS_SECONDS: Final = 12.0
"""Seconds that a start waits for keys outside the cluster: one look at a token that hangs, and a little more."""
MIN_KEY_PAUSE: Final = 1.0
MAX_KEY_PAUSE: Final = 60.0
"""Seconds until a key that could not be read is asked for again; doubled each time."""
TOKEN_SECONDS: Final = 30.0
"""Seconds until a token is read again: how long a key that was replaced there counts on."""
TOKEN_READ_SECONDS: Final = 10.0
"""Seconds for one look at a token, the start of its process included; network HSMs take a second or two."""
MAX_TOKEN_ANSWER: Final = 256 * KIB
"""Bytes that a look at a token may give, in hex: sixteen certificates of the usual size."""
MAX_PIN: Final = 256
"""Bytes of a PIN: the longest that PKCS #11 modules are known to take."""
MAX_KEPT: Final = timedelta(hours=720)
"""How long after it was last read a key counts, while its source cannot be asked: as long as what was verified may let anything in."""
MIN_KEPT_PAUSE: Final = timedelta(minutes=10)
MAX_KEPT_PAUSE: Final = timedelta(days=1)
"""Until a replica writes a token's key again that others changed back twice, because the token says something else to them; doubled each time."""
MAX_KEPT_KEYS: Final = 512 * KIB
"""Bytes of the kept keys, packed: half of what a Secret may hold, a few thousand keys."""
MAX_KEPT_PLAIN: Final = 4 * MIB
"""The same, unpacked."""

# ── OpenPGP ──────────────────────────────────────────────────────────────────────────────────────────────────────────
MAX_OPENPGP: Final = 4 * MIB
"""Bytes of a signed message, as it comes and unpacked: what containers/image accepts."""
MAX_MESSAGE_PACKETS: Final = 16
"""Packets of a signed message, which needs three; more are read only to say what is wrong."""
MAX_KEYRING_PACKETS: Final = 4_000
"""Packets of a keyring: a mebibyte of the signatures by which people vouch for one another."""
MAX_SELF_SIGNATURES: Final = 256
"""Signatures by the keys of a keyring about themselves that are verified: some tenths of a second of the slowest."""
MAX_SIGNATURE_LIST: Final = 4 * MIB
"""Bytes of the list in which a registry with the signature extension keeps an image's signatures."""
MAX_CLOCK_SKEW: Final = 300.0
"""Seconds by which the clock of whoever signs or attests, or says what was revoked, may be ahead of ours."""

# ── memory ───────────────────────────────────────────────────────────────────────────────────────────────────────────
TAG_SECONDS: Final = 10.0
"""Seconds that tag → digest and lists of signatures are kept."""
MIN_DENIAL_SECONDS: Final = 5.0
MAX_DENIAL_SECONDS: Final = 30.0
"""Seconds that "judged, and no" is kept, drawn anew each time so that not everything expires at once."""
PROOF_SECONDS: Final = 3600.0
"""Seconds that a proof resting on a bare key is kept. Correctness does not need it (a changed key is another signer); it
bounds how long a deleted signature is remembered."""
LIST_SECONDS: Final = 2 * PROOF_SECONDS
"""Seconds for which a revocation list is told of after it was last relied on: what still is proven by it is proven anew before. By the leader for as long
as it takes until all that runs is judged again, and this."""
MAX_LISTS: Final = 1_000
"""Revocation lists that are told of, those that end first: an issuer has one, or a few."""
NOW_SECONDS: Final = 30.0
"""Seconds that a proof is kept which rests on a condition about the present time."""
MAX_PROOFS: Final = 100_000
"""Verified findings in memory."""
MIN_STALE: Final = timedelta(hours=1)
DEFAULT_STALE: Final = timedelta(hours=24)
MAX_STALE: Final = timedelta(hours=720)
"""How long ago an image may have been verified that an outage lets in: at least as long as a proof is remembered, at most a month."""
MAX_RECORDS: Final = 20_000
"""Records of what was verified, for outages, in memory and in the cluster: each takes about 150 bytes there."""
MAX_RECORDS_TEXT: Final = 1 * MIB
"""Bytes of one part of the kept records: as much as a ConfigMap may hold."""
MAX_VERSIONS: Final = 50_000
"""Pieces of signed metadata whose highest version is in memory: five to a repository, 12 MB in all."""
MAX_RECENT: Final = 500
"""Questions that are asked again behind the answers when a policy changes: those that were judged last."""
MAX_ANSWERS: Final = 2_000
"""Whole answers in memory, each of a few kB."""
MAX_REMEMBERED_TAGS: Final = 100_000
"""tag → digest answers in memory."""
MAX_BLOB_MEMORY: Final = 16 * MIB
"""Bytes of manifests and blobs kept by digest."""
MAX_AUTHORITIES: Final = 64
"""Certificate authorities of policies that are kept ready for connections."""
MAX_TOKENS: Final = 10_000
"""Registry tokens in memory."""

# ── the API server ───────────────────────────────────────────────────────────────────────────────────────────────────
KUBE_SECONDS: Final = 5.0
"""Seconds for one request to the API server."""
KUBE_PAGE: Final = 100
"""Objects the API server is asked for at once: parsed, a page of policies takes about 2 MiB, and a list of all of them would take all."""
KUBE_PAUSE: Final = 1.0
"""Seconds for which an API server is left alone that says it has too much to do, or gives no answer, and not for how long."""
MAX_KUBE_PAUSE: Final = 60.0
"""Seconds for which it can make us do so (`Retry-After`)."""
MAX_WRITES_AT_ONCE: Final = 16
"""Statuses written at the same time: an API server has 245 places for all service accounts together (priority level `workload-low`)."""
MAX_STATUSES: Final = 200
"""Statuses of policies written in one round, of which there is one each two seconds: every replica is told of each, and has reviews to answer."""
STATUS_BREATH: Final = 100
"""Policies looked at before others of the process have their turn: a few milliseconds, where their status has to be computed."""
PULL_SECRET_SECONDS: Final = 30.0
"""Seconds that the pull secrets of a Pod are kept."""
MAX_UNTOLD_REFUSALS: Final = 100
"""Refusals that wait to be written as Events."""
SAME_EVENT_SECONDS: Final = 600.0
"""Seconds in which a replica tells the same refusal about the same object once."""
MAX_TOLD_REFUSALS: Final = 2_000
"""Refusals that were told and are remembered for that."""
MAX_EVENTS_PER_NAMESPACE: Final = 10
"""Events about refusals that a replica writes into one namespace in a minute."""
MAX_EVENTS: Final = 120
"""The same in all namespaces together: two a second, of which an API server takes hundreds."""
MAX_NAMESPACES_TOLD: Final = 1_000
"""Namespaces whose Events are counted; others are bounded by the number of all."""
MAX_UNTOLD_USES: Final = 200
"""Uses of exceptions that wait to be told (Events, the notification); each holds the rulings of one Pod."""
NOTIFY_SECONDS: Final = 5.0
"""Seconds for one notification."""
WATCH_SECONDS: Final = 300
"""Seconds after which the API server ends a watch of ours, which then goes on where it was."""
WATCH_SILENT_SECONDS: Final = 90.0
"""Seconds without a line after which a watch is dead: the API server sends a bookmark a minute."""
MAX_STATUS: Final = 4 * KIB
"""Characters of a condition's message in a policy's status."""
NAMESPACE_SECONDS: Final = 2.0
"""Seconds that a review waits for the labels of a namespace nobody has told us of."""
MAX_PULL_SECRETS: Final = 32
"""Pull secrets of one Pod that are read."""
MAX_PULLERS: Final = 1_000
"""Pods, as far as their pull secrets differ, whose logins are kept."""

# ── what runs already ────────────────────────────────────────────────────────────────────────────────────────────────
MAX_PODS: Final = 50_000
"""Pods that the leader follows, each in some hundred bytes; what is beyond them is not compared, and that is logged."""
RESCAN_SECONDS: Final = 10.0
"""Seconds for judging one kind of Pod again, evidence fetched included."""
RESCAN_PAUSE: Final = 0.1
"""Seconds between two of them where something had to be fetched: ten a second at most, whatever has changed."""
RESCAN_BREATH: Final = 50
"""Kinds of Pods judged from memory before others of the process have their turn."""
RESCAN_AT_ONCE: Final = 8
"""Kinds of Pods judged at the same time."""
RESCAN_SLOW_SECONDS: Final = 2.0
"""What takes longer than that is set aside, so that others have its place; its namespace is slow until something of it ends sooner."""
RESCAN_AT_ONCE_ASIDE: Final = 24
"""Kinds of Pods of slow namespaces judged at the same time, beside the others. Of one more than these is begun anew later."""
RESCAN_AT_ONCE_IN_NAMESPACE: Final = 2
"""Of all these, in one namespace."""
MAX_WAITED_FOR: Final = 200
"""Namespaces with something to be judged among which those are looked for that a cluster policy speaks about; where there are more, all of them are waited for."""
RESCAN_AGAIN_SECONDS: Final = 120.0
"""Seconds after which what could not be verified is tried again; twice as long after each time that follows."""
MAX_RESCAN_AGAIN_SECONDS: Final = 3600.0
"""The longest that these become."""
DRIFT_MARGIN: Final = 10.0
"""Seconds by which a Pod must be younger than its policy to have been admitted by it: replicas learn of a policy within two seconds, and
clocks differ."""
MAX_PAST_EXCUSES: Final = 10_000
"""Policies and namespaces of which the leader knows until when an exception was in force that is gone: beyond them the latest of those that were
forgotten counts as everybody's."""
MAX_COMPARED: Final = 32
"""Images of an index whose configurations are read to tell whether what runs is one of them."""
MAX_EVICTIONS: Final = 10
"""Pods evicted in one round, a second or more apart: their controllers make new ones meanwhile."""
EVICT_OWNER_SECONDS: Final = 60.0
"""Seconds after an eviction in which no other Pod of the same controller is evicted; twice as long after each that follows."""
MAX_EVICT_OWNER_SECONDS: Final = 3600.0
"""The longest that these become. A controller without evictions for as long again begins anew."""
EVICT_AGAIN_SECONDS: Final = 30.0
"""Seconds after which an eviction that was refused, by a disruption budget say, is asked for again."""
MAX_REPORTED_TEXT: Final = 512
"""Characters of a reason in a report, and of one that is remembered."""
MAX_REPORTED: Final = 300
"""Results in the report of one namespace, those that are not in order first: with their Pods they stay below what an object may have."""
MAX_REPORTED_PODS: Final = 10
"""Pods named in one result; how many there are stands beside them."""
MAX_EXAMPLES: Final = 5
"""Examples of what a policy denies, and as many of what it would deny, in its status, which every replica holds."""
MAX_EXAMPLE: Final = 512
"""Characters of one."""
MAX_VERDICTS: Final = 200
"""Policies of which is written in one round what they say of what runs; there is a round each ten seconds, and every replica is told of each."""
MAX_WRITES: Final = 20
"""Reports written in one round, which is the same: what is left waits for the next."""

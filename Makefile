# Every target makes its own .venv from locked, hashed requirements; Python 3.11 or newer and make are all that is needed.
PYTHON ?= python3
BIN := .venv/bin
# -n auto uses every core; `make test ARGS="-n 0 -k cosign"` runs what you name.
ARGS ?=

.DEFAULT_GOAL := help
.PHONY: manifests help demo test check bench image e2e format lock clean

help:  ## what can be made
	@awk -F ':.*## ' '/^[a-z0-9]+:.*## /{printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.venv/ready: pyproject.toml requirements/dev.txt
	@echo "==> .venv: $$($(PYTHON) --version), requirements/dev.txt (hashes checked)"
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Trusted Images needs Python 3.11 or newer; name one with: make PYTHON=python3.13")'
	@$(PYTHON) -m venv --clear .venv
	@# The lock is complete, so nothing is resolved here: older pips look for the newest of what is named with an extra.
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --progress-bar on --require-hashes --only-binary :all: --no-deps -r requirements/dev.txt
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@said=$$($(BIN)/python -m pip check --disable-pip-version-check) || { echo "$$said (requirements/dev.txt lacks it: make lock)"; exit 1; }
	@touch $@

demo: .venv/ready  ## the main job: a real server, really signed images, no cluster
	@$(BIN)/kubectl-trust demo

test: .venv/ready  ## every test, and that all that decides trust was tested
	@echo "==> tests"
	@$(BIN)/python -m pytest -n auto --cov --cov-report= $(ARGS)
	@test -n "$(ARGS)" || $(BIN)/python -m tests.coverage_floor

check: .venv/ready  ## formatting, lint, types, layers
	@echo "==> ruff format" && $(BIN)/ruff format --check .
	@echo "==> ruff check" && $(BIN)/ruff check .
	@echo "==> mypy --strict" && $(BIN)/mypy
	@echo "==> import-linter" && $(BIN)/lint-imports

bench: .venv/ready  ## figures beside their targets, also in build/bench.json
	@$(BIN)/python -m bench

# The base is an argument, for machines that have another one: make image BASE_IMAGE=…
BASE_IMAGE ?= python:3.13-slim
IMAGE ?= trusted-images:dev

image:  ## the container image, from wheels downloaded here, hashes checked
	@rm -rf build/wheels && mkdir -p build/wheels
	@echo "==> wheels for $(BASE_IMAGE)"
	@version=$$(docker run --rm --entrypoint python3 $(BASE_IMAGE) -c 'import sys; print("%d.%d" % sys.version_info[:2])') && \
	  $(PYTHON) -m pip download --quiet --disable-pip-version-check --no-deps --require-hashes --only-binary :all: \
	    --python-version $$version --dest build/wheels -r requirements/runtime.txt
	@echo "==> docker build $(IMAGE)"
	@docker build --quiet --build-arg BASE_IMAGE=$(BASE_IMAGE) -t $(IMAGE) .

e2e: .venv/ready  ## the end-to-end suite on a kind cluster; E2E_CONTEXT names one that exists
	@$(BIN)/python -m pytest -n 0 -v -W default tests/e2e $(ARGS)

format: .venv/ready  ## write the code as the formatter wants it
	@$(BIN)/ruff format . && $(BIN)/ruff check --fix .

LOCK = $(ARGS) --quiet --universal --generate-hashes --no-header --python-version 3.11 pyproject.toml --extra fast --extra operator --extra pkcs11
# In an environment of its own: with a new dependency, .venv cannot be made before the lock is.
lock:  ## add to requirements/*.txt what is missing; ARGS=--upgrade: the newest of everything
	@$(PYTHON) -m venv build/lock && build/lock/bin/python -m pip install --quiet --disable-pip-version-check uv
	@build/lock/bin/uv pip compile $(LOCK) -o requirements/runtime.txt
	@build/lock/bin/uv pip compile $(LOCK) --group dev -c requirements/runtime.txt -o requirements/dev.txt

clean:  ## remove what the other targets made
	rm -rf .venv build dist .coverage* .mypy_cache .pytest_cache .ruff_cache .hypothesis

manifests:  ## the plain YAML, from the chart (needs helm)
	@command -v helm >/dev/null || { echo 'helm is not on the PATH: tests/e2e/README.md says where it comes from'; exit 1; }
	@$(BIN)/kubectl-trust crd > manifests/crds.yaml && cp manifests/crds.yaml charts/trusted-images/files/crds.yaml
	@helm template trusted-images charts/trusted-images -n trusted-images --no-hooks --skip-tests --set crds.install=false > manifests/install.yaml
	@$(BIN)/python -m tests.chart_values > charts/trusted-images/README.md

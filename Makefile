# make run    sets everything up and starts the daemon (Ctrl-C drains and stops)
# make test   sets everything up and runs every test that can run on this machine
# make check  style, types and the direction of imports, in less than a minute
# Needs python3 (3.11 or newer, with venv) and make, nothing else.

PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
STAMPS := .venv/.stamps

# As many workers as cores, and at least two; ARGS="-n 4" overrides it.
WORKERS := $(shell cores=$$(nproc 2>/dev/null || echo 2); [ $$cores -gt 2 ] && echo $$cores || echo 2)

.PHONY: run test check coverage test-sweep test-mutation bench bench-scale bench-workflows lock clean

run: $(STAMPS)/run
	@exec $(BIN)/ticketgate serve

# Long tests come first in the order of collection (faults), and are kept there.
# Two runs of pytest, so two closing lines: side by side what can be, then one by one what measures
# time or memory. A run that selects no test (5) is no failure unless both select none.
test: $(STAMPS)/test
	@set +e; \
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder -m "not sweep and not bench and not alone" $(ARGS); first=$$?; \
	[ $$first -eq 2 ] && exit 2; \
	$(BIN)/python -m pytest -m "alone and not sweep and not bench" $(ARGS); second=$$?; \
	[ $$first -eq 5 ] && exit $$second; \
	[ $$second -eq 5 ] && exit $$first; \
	[ $$first -ne 0 ] && exit $$first; exit $$second

# The long versions of the fault and order sweeps, of which `make test` runs a sample.
test-sweep: $(STAMPS)/test
	$(BIN)/python -m pytest -m sweep --timeout=3600 $(ARGS)

# Half a million readings of damaged mails, of which `make test` runs twenty thousand; COUNT=5000000 for more.
COUNT ?= 500000
test-mutation: $(STAMPS)/test
	MUTATIONS=$(COUNT) $(BIN)/python -m pytest tests/unit/gateway/reading/test_mutation.py --timeout=36000 $(ARGS)

check: $(STAMPS)/test
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

# Which lines and branches of PACKAGES the tests in TESTS reach, the least covered files last.
# Subprocesses are not counted. It takes twice the time of the tests alone, so `make test` does
# without it, and CI does it for core only.
TESTS ?= tests/unit tests/replay
PACKAGES ?= core config gateway
coverage: $(STAMPS)/test
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile $(PACKAGES:%=--cov=%) --cov-branch --cov-report= $(TESTS) $(ARGS)
	$(BIN)/coverage report --skip-covered --sort=-cover | tail -n 40

bench: $(STAMPS)/test
	$(BIN)/python tests/bench/throughput.py $(ARGS)
	$(BIN)/python tests/bench/latency.py
	$(BIN)/python tests/bench/importing.py
	$(BIN)/python tests/bench/mailboxes.py

bench-scale: $(STAMPS)/test
	$(BIN)/python tests/bench/scale.py $(ARGS)

bench-workflows: $(STAMPS)/test
	$(BIN)/python tests/bench/workflows.py $(ARGS)

# Pins what pyproject.toml allows and is not pinned yet; UPGRADE=--upgrade pins all to what is newest
# now. Needs uv.
LOCK := uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links --no-annotate \
	--custom-compile-command "make lock"
lock:
	$(LOCK) $(UPGRADE) pyproject.toml --group build --output-file requirements.lock
	$(LOCK) $(UPGRADE) pyproject.toml --group dev --constraints requirements.lock --output-file requirements-dev.lock

clean:
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis .coverage dist build

$(STAMPS)/venv:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "ticketgate needs Python 3.11 or newer; say make PYTHON=/path/to/python3" >&2; exit 69; }
	$(PYTHON) -m venv .venv
	@mkdir -p $(STAMPS) && touch $@

# The project itself is installed without isolation and without dependencies, so that everything that runs here stands in the lock.
$(STAMPS)/run: $(STAMPS)/venv requirements.lock pyproject.toml
	$(PIP) install --require-hashes --requirement requirements.lock
	$(PIP) install --no-deps --no-build-isolation --editable .
	@touch $@

$(STAMPS)/test: $(STAMPS)/run requirements-dev.lock
	$(PIP) install --require-hashes --requirement requirements-dev.lock
	@touch $@

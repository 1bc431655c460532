# make run    sets everything up and starts the daemon (Ctrl-C drains and stops)
# make test   sets everything up and runs every test that can run on this machine
# Needs python3 (3.11 or newer, with venv) and make, nothing else.

PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
STAMPS := .venv/.stamps

.PHONY: run test test-sweep test-mutation lint bench bench-scale bench-workflows lock clean

run: $(STAMPS)/run
	@exec $(BIN)/ticketgate serve

test: $(STAMPS)/test
	$(BIN)/python -m pytest $(ARGS)

# The long versions of the fault and order sweeps, of which `make test` runs a sample.
test-sweep: $(STAMPS)/test
	$(BIN)/python -m pytest -m sweep --timeout=3600 $(ARGS)

# Half a million readings of damaged mails, of which `make test` runs twenty thousand; COUNT=5000000 for more.
COUNT ?= 500000
test-mutation: $(STAMPS)/test
	MUTATIONS=$(COUNT) $(BIN)/python -m pytest tests/unit/gateway/reading/test_mutation.py --timeout=36000 $(ARGS)

lint: $(STAMPS)/test
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(STAMPS)/test
	$(BIN)/python tests/bench/throughput.py $(ARGS)
	$(BIN)/python tests/bench/latency.py
	$(BIN)/python tests/bench/importing.py
	$(BIN)/python tests/bench/mailboxes.py

bench-scale: $(STAMPS)/test
	$(BIN)/python tests/bench/scale.py $(ARGS)

bench-workflows: $(STAMPS)/test
	$(BIN)/python tests/bench/workflows.py $(ARGS)

# Pins what pyproject.toml allows to what is newest now; needs uv.
LOCK := uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links --no-annotate \
	--custom-compile-command "make lock"
lock:
	$(LOCK) --upgrade pyproject.toml --group build --output-file requirements.lock
	$(LOCK) --upgrade pyproject.toml --group dev --constraints requirements.lock --output-file requirements-dev.lock

clean:
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis dist build

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

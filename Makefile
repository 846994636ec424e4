# Every target starts from a bare Debian 12: it installs what it needs, then does its job.
# The system's interpreter is taken on purpose: ExaBGP's unprivileged user must be able to reach it.
PYTHON ?= /usr/bin/python3
VENV   ?= .venv
BIN     = $(VENV)/bin

.PHONY: help demo run test check bench lab golden wheel clean

help:
	@sed -n 's/^## //p' $(MAKEFILE_LIST)

## make demo   an attack against a real router, detected, filtered, withdrawn (needs root; cleans up after itself)
demo: $(VENV)/.installed
	@deploy/as-root deploy/install-packages base routers
	@deploy/as-root $(BIN)/stopbank demo

## make run    the appliance on this machine, with stopbank.toml where there is one, else with defaults (see the example)
run: $(VENV)/.installed
	@deploy/as-root deploy/install-packages base
	@$(BIN)/stopbank run

## make test   install what the tests need and run all of them, also against the built wheel
test: $(VENV)/.installed
	@deploy/as-root deploy/install-packages base routers browser tools
	@deploy/as-root env HYPOTHESIS_PROFILE=$(or $(HYPOTHESIS_PROFILE),fast) deploy/run-tests $(VENV) $(PYTHON)

## make check  ruff, mypy strict, layers and unit tests, without root
check: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/pytest -q -m "not peer and not browser"

## make bench  every benchmark, one JSON object a line
bench: $(VENV)/.installed
	@deploy/as-root deploy/install-packages base routers bench
	@deploy/as-root $(BIN)/stopbank bench all --json

## make lab    the namespaces with real routers, left standing until Ctrl-C
lab: $(VENV)/.installed
	@deploy/as-root deploy/install-packages base routers
	@deploy/as-root $(BIN)/stopbank lab

## make golden rewrite the golden files; read the diff
golden: $(VENV)/.installed
	STOPBANK_GOLDEN=write $(BIN)/pytest -q tests -k golden

wheel: $(VENV)/.installed
	$(BIN)/pip wheel --quiet --no-deps --wheel-dir dist .

clean:
	rm -rf $(VENV) dist build .pytest_cache .mypy_cache .ruff_cache .hypothesis

$(VENV)/.installed: pyproject.toml deploy/make-venv
	@deploy/make-venv $(PYTHON) $(VENV)

# Everything happens in .venv, which `make setup` makes; stamps in it keep the second time short.

.DEFAULT_GOAL := help
.PHONY: help demo run setup test test-npu test-end-to-end test-others lint system constraints clean

VENV := .venv
BIN := $(VENV)/bin
PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { command -v $$p; break; }; done)
PIP := $(BIN)/python -m pip -qq --disable-pip-version-check
APT := DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends
FOR_TESTS := chromium pulseaudio pulseaudio-utils libasound2-plugins libportaudio2 g++

help:  ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(VENV)/.runs  ## live captions of a recording of two people, in this terminal; half a minute
	@$(BIN)/python -m daemon.demo

run: $(VENV)/.runs  ## the daemon, and the address of its web page
	@$(BIN)/amanuensis serve

setup: $(VENV)/.runs  ## only the environment
	@echo "Ready. The command is $(BIN)/amanuensis; try: $(BIN)/amanuensis doctor"

# Side by side: the tests of the NPU compute, most others wait for sound and clocks, before which the former step back.
# Two threads for small products wait for each other on a busy machine.
test: export OPENBLAS_NUM_THREADS = 1
test: $(VENV)/.tests system lint  ## every check there is
	@echo "Testing; each of three parts says how it went when it has ended."
	@$(MAKE) --no-print-directory --jobs=3 --keep-going --output-sync test-npu test-end-to-end test-others

test-npu:
	nice -n 19 $(BIN)/python -m pytest tests/npu

test-end-to-end:
	$(BIN)/python -m pytest tests/end_to_end

test-others:
	$(BIN)/python -m pytest --ignore=tests/npu --ignore=tests/end_to_end

lint: $(VENV)/.tests  ## style, types, and the arrows between the packages
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

system:  ## what the tests of microphone, web page and kernels need from the system (installed when root)
	@command -v dpkg-query >/dev/null || exit 0; \
	missing=$$(for p in $(FOR_TESTS); do \
		dpkg-query -W -f '$${db:Status-Status}\n' $$p 2>/dev/null | grep -qx installed || printf '%s ' $$p; done); \
	if [ -z "$$missing" ]; then exit 0; fi; \
	if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
		said=$$({ apt-get update -qq && $(APT) $$missing; } 2>&1) || { echo "$$said" | tail -n 3; \
			echo "apt could not install: $$missing. The tests that need them will be skipped."; }; \
	else echo "Not installed: $$missing. The tests that need them are skipped; to run them: sudo apt install $$missing"; fi

constraints: $(VENV)/.tests  ## write the versions installed in .venv to constraints.txt
	$(BIN)/python -m pip freeze --exclude-editable > constraints.txt

clean:  ## remove the environment and everything generated
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/.made:
	@if [ -z "$(PYTHON)" ]; then \
		echo "Amanuensis needs Python 3.11 or later, and there is none. Install it: sudo apt install python3 python3-venv"; \
		exit 1; fi
	@if ! $(PYTHON) -c 'import ensurepip, venv' 2>/dev/null; then \
		if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
			echo "Installing python3-venv, which Debian keeps apart from Python."; \
			{ apt-get update -qq && $(APT) python3-venv; } >/dev/null 2>&1; fi; \
		$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
			echo "This Python cannot make environments yet. Install the missing part: sudo apt install python3-venv"; \
			exit 1; }; fi
	@test -x $(BIN)/python || { echo "Making $(VENV)"; $(PYTHON) -m venv $(VENV); }
	@touch $@

$(VENV)/.runs: $(VENV)/.made pyproject.toml constraints.txt
	@echo "Installing Amanuensis into $(VENV); the first time this takes a minute or two."
	@$(PIP) install -c constraints.txt -e . || { \
		echo "The packages could not be installed. The lines above say why; a network connection is needed once."; exit 1; }
	@touch $@

$(VENV)/.tests: $(VENV)/.runs
	@echo "Installing what the tests need into $(VENV)."
	@$(PIP) install -c constraints.txt -e '.[test]' || { \
		echo "The packages could not be installed. The lines above say why; a network connection is needed once."; exit 1; }
	@touch $@

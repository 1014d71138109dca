# Everything a developer types. Nothing needs to be installed but Python 3.11 or later, make and git:
# uv is taken from the path, or put into .uv, and everything else into .venv.

UV := $(shell command -v uv 2>/dev/null || echo .uv/bin/uv)
PYTHON ?= python3
RUN := .venv/bin/python -m

.PHONY: run test check lint bench soak clean

run: .venv/ready
	.venv/bin/aistrale run "Hello, world!" --provider echo

test: .venv/ready
	$(RUN) pytest

check: lint test

lint: .venv/ready
	$(RUN) ruff check
	$(RUN) ruff format --check
	$(RUN) mypy
	.venv/bin/lint-imports --no-logo

# The figures in benchmarks/README.md. Compiled bytecode, or start-up times double.
bench: .venv/ready
	PYTHONDONTWRITEBYTECODE= $(UV) sync --locked --quiet --group bench --compile-bytecode
	PYTHONDONTWRITEBYTECODE= $(RUN) benchmarks

soak: .venv/ready
	$(RUN) pytest tests -m soak --override-ini addopts= --timeout 3600

.venv/ready: pyproject.toml uv.lock $(filter .uv/bin/uv,$(UV))
	$(UV) sync --locked --quiet
	@touch $@

.uv/bin/uv:
	$(PYTHON) -m venv .uv || { rm -rf .uv; echo 'This Python cannot make environments; on Debian: apt-get install python3-venv'; exit 1; }
	.uv/bin/python -m pip install --quiet uv

clean:
	rm -rf .venv .uv .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache dist

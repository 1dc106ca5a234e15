# Everything is installed inside this checkout, in .venv/ and .cipipe/. `make clean` removes both.

.PHONY: help demo test lint clean

# Terraform, where this machine has none.
export PATH := $(PATH):$(CURDIR)/.cipipe/bin

help:  ## show this help
	@sed -n 's/^\([a-z]*\): *## /  make \1|/p' $(MAKEFILE_LIST) | column -t -s '|'

demo:  ## run the whole pipeline of this repository in a sandbox on this machine
	scripts/setup demo
	set -a; . .cipipe/env; .venv/bin/cipipe run --sandbox --env dev --yes

test:  ## run the tests in parallel; select some with PYTEST_ARGS='-k dags -x', run one at a time with '-n 0'
	scripts/setup test
	set -a; . .cipipe/env; .venv/bin/python -m pytest -n auto --no-loadscope-reorder $(PYTEST_ARGS)

lint:  ## ruff, mypy, import-linter, deptry, shellcheck, terraform; locks and references are current
	scripts/setup dev
	.venv/bin/ruff check
	.venv/bin/ruff format --check
	.venv/bin/mypy
	.venv/bin/lint-imports
	.venv/bin/deptry cipipe
	.venv/bin/deptry --ignore DEP001,DEP002,DEP004 --exclude '\.venv' benchmarks dags dbt scripts tests
	.venv/bin/shellcheck .ci/run scripts/lint_terraform scripts/lock scripts/setup scripts/uv
	.venv/bin/sqlfluff lint --disable-progress-bar dbt
	.venv/bin/python scripts/check_references.py
	scripts/lock --check
	scripts/lint_terraform

clean:  ## stop the sandbox and remove everything that was installed
	-[ ! -x .venv/bin/cipipe ] || .venv/bin/cipipe sandbox down
	rm -rf .venv .cipipe .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis

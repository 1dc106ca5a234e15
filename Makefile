# Everything is made inside this checkout: .venv/ and .cipipe/. `make clean` removes both.

.PHONY: help demo test lint clean

help:  ## show this
	@sed -n 's/^\([a-z]*\): *## /  make \1|/p' $(MAKEFILE_LIST) | column -t -s '|'

demo:  ## run the whole pipeline of this repository in a sandbox on this machine
	scripts/setup demo
	set -a; . .cipipe/env; .venv/bin/cipipe run --sandbox --env dev --yes

test:  ## run the tests in parallel; PYTEST_ARGS='-k dags -x' chooses, '-n 0' runs them one by one
	scripts/setup test
	set -a; . .cipipe/env; .venv/bin/python -m pytest -n auto --no-loadscope-reorder $(PYTEST_ARGS)

lint:  ## ruff, mypy, import-linter, shellcheck
	scripts/setup dev
	.venv/bin/ruff check
	.venv/bin/ruff format --check
	.venv/bin/mypy
	.venv/bin/lint-imports
	.venv/bin/shellcheck scripts/setup .ci/run

clean:  ## stop what runs, remove what was made
	-[ ! -x .venv/bin/cipipe ] || .venv/bin/cipipe sandbox down
	rm -rf .venv .cipipe .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis

# make install   .venv with the package and its tools
# make demo      trains MAML-TRPO on 2D navigation, evaluates it on unseen tasks, writes a report
# make docs      the documentation site, in build/site
# make test      lint, types, tests, the site, and the wheel installed elsewhere
# make test-slow learning tests, minutes each
# make test-metaworld  Meta-World and the rest on the older MuJoCo it pins, in .venv-metaworld

PYTHON ?= python3
BIN := .venv/bin
DEMO ?= demo/$(shell date +%Y%m%d-%H%M%S)

.PHONY: install demo docs test lint types wheel test-slow test-metaworld clean

install: .venv/installed

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	rm -rf *.egg-info  # metadata of an earlier version would hide the entry points
	$(BIN)/pip install --quiet --constraint constraints.txt torch
	$(BIN)/pip install --quiet --constraint constraints.txt --editable .
	touch $@

.venv/test-tools: .venv/installed
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[test,docs]'
	touch $@

.venv/docs-tools: .venv/installed
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[docs]'
	touch $@

docs: .venv/docs-tools
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict
	@echo 'wrote build/site/index.html'

demo: DEMO := $(DEMO)
demo: .venv/installed
	$(BIN)/metarl train maml-trpo --env Navigation2D:maml17 --out $(DEMO)/run --seed 0 \
		--iterations 100 --hidden-sizes 64 64 --activation tanh --max-kl-nats 0.02
	$(BIN)/metarl evaluate $(DEMO)/run
	$(BIN)/metarl report $(DEMO)/run --out $(DEMO)/report.html

test: lint types wheel
	$(BIN)/pytest -n auto

lint: .venv/test-tools
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

# The packages of one import name lie in several folders; mypy sees them joined by links.
types: .venv/test-tools
	rm -rf build/types && mkdir -p build/types/metarl
	ln -s $(CURDIR)/metarl/* $(CURDIR)/envs $(CURDIR)/agents $(CURDIR)/scripts build/types/metarl/
	$(BIN)/mypy

wheel: .venv/test-tools
	rm -rf build/lib build/bdist* build/elsewhere dist
	$(BIN)/python -m build --wheel --outdir dist . > build/wheel.log 2>&1 || (cat build/wheel.log; false)
	$(BIN)/pip install --quiet --no-deps --target build/elsewhere dist/*.whl
	cd build/elsewhere && PYTHONPATH=. ../../$(BIN)/python -W error ../../tests/import_everything.py

test-slow: .venv/test-tools
	$(BIN)/pytest -n auto --dist worksteal -m slow

# Meta-World pins MuJoCo 3.3.0; Ant and Humanoid, which need 3.3.5, are tested in .venv only.
.venv-metaworld/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv-metaworld
	grep -v '^mujoco==' constraints.txt > .venv-metaworld/constraints.txt
	.venv-metaworld/bin/pip install --quiet --constraint .venv-metaworld/constraints.txt torch
	.venv-metaworld/bin/pip install --quiet --constraint .venv-metaworld/constraints.txt \
		--editable '.[metaworld]' pytest imageio
	touch $@

test-metaworld: .venv-metaworld/installed
	.venv-metaworld/bin/pytest -m "slow or not slow" tests/envs/metaworld/test_families.py
	.venv-metaworld/bin/pytest tests/envs/navigation/test_goals.py tests/envs/locomotion/test_walkers.py \
		tests/envs/locomotion/test_random_dynamics.py tests/envs/simulators/test_worker_batch.py \
		tests/envs/simulators/test_gymnasium_family.py tests/envs/test_classic_control.py

clean:
	rm -rf .venv .venv-metaworld build dist demo *.egg-info

# `make demo` and `make test` need python3 with venv, and make. The rest is for developers.
PYTHON ?= python3
PY := .venv/bin/python
# Neighbours share what they compile: they stay in one process until another is idle.
PYTEST := $(PY) -m pytest -n auto --dist worksteal -q

.PHONY: demo test test-peers test-slow test-real docs peers lint format lock bench bench-quick faults kernels wheels clean

demo: .venv/ready  ## train an LSTM on generated reviews, draw its curves
	rm -rf runs/demo
	$(PY) -m experiments.imdb_lstm --flagfile=experiments/flags/demo.flags

test: .venv/ready  ## the fast tests
	$(PYTEST)

test-peers: peers  ## those that `make test` has skipped if the peers were not there
	$(PYTEST) $$(grep -rlE "importorskip\((_NEEDS|'(seqjax.interop.)?(torch|seqeval|equinox|onnx|sklearn))" tests)

test-slow: .venv/ready  ## the long ones
	$(PYTEST) -m 'slow and not real_data'

test-real: .venv/ready  ## those on real data, in the folder SEQJAX_TEST_DATA
	$(PYTEST) -m real_data

docs: .venv/ready  ## the site, into docs/_build/html: every link, every notebook
	$(PY) -m pip install --quiet sphinx==9.0.4 myst-nb==1.4.0 furo==2025.12.19
	$(PY) -m sphinx -W --keep-going --quiet -j auto docs docs/_build/html

lint: .venv/ready
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy

format: .venv/ready
	$(PY) -m ruff check --fix .
	$(PY) -m ruff format .

bench: .venv/ready peers
	$(PY) -m benchmarks.run

bench-quick: .venv/ready
	$(PY) -m benchmarks.run --quick

faults: .venv/ready  ## kills, damage, full disks: what a run does; writes docs/faults.md
	cd tests && ../$(PY) -m faults

peers: .venv/ready  ## PyTorch, ONNX and others, for comparisons; not part of the lock file
	$(PY) -m pip install --quiet torch==2.13.0 safetensors seqeval==1.2.2 equinox==0.13.8 \
	  onnx==1.23.2 onnxruntime==1.32.0 scikit-learn==1.9.1

lock: .venv/ready  ## renew requirements.txt from pyproject.toml
	$(PY) -m uv pip compile pyproject.toml --quiet --extra test --extra dev --universal \
	  --generate-hashes --no-annotate --no-header --output-file requirements.txt

clean:  ## the environment and caches; runs stay
	rm -rf .venv .mypy_cache .pytest_cache .ruff_cache .hypothesis

kernels: .venv/ready  ## the CPU kernels again, after a change of theirs
	$(PY) seqjax/fast/cpu/build.py --zig

# A wheel's platform, and zig's name for it.
WHEELS := manylinux_2_28_x86_64=x86_64-linux-gnu.2.28 \
  manylinux_2_28_aarch64=aarch64-linux-gnu.2.28 \
  macosx_11_0_arm64=aarch64-macos.11.0 win_amd64=x86_64-windows-gnu

wheels: .venv/ready  ## into dist/, the kernels by zig: run on Linux x86_64 alone, others untried
	$(PY) -m pip install --quiet build ziglang==0.15.1
	for pair in $(WHEELS); do rm -rf build; \
	  SEQJAX_TARGET=$${pair#*=} $(PY) -m build --wheel --no-isolation --outdir dist \
	    --config-setting=--build-option=--plat-name=$${pair%=*} . || exit 1; \
	done; rm -rf build

.venv/ready: requirements.txt pyproject.toml setup.py
	$(PYTHON) -m venv .venv
	$(PY) -m pip install --quiet --require-hashes --requirement requirements.txt
	$(PY) -m pip install --quiet --no-deps --no-build-isolation --editable .
	$(PY) seqjax/fast/cpu/build.py --zig || true  # without kernels it says so, and works
	touch $@

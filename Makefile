# Two commands do everything, set-up included:  make demo  and  make test.

PYTHON ?= python3
BIN := .venv/bin
RUNNABLE := .venv/.runnable
MADE := .venv/.made
GL := libegl1 libgl1-mesa-dri

.PHONY: demo test lint types docs unit setup clean

demo: $(RUNNABLE)
	$(BIN)/nearer demo

test: lint types docs unit

setup: $(MADE)

# What nearer itself needs, and no more.
$(RUNNABLE): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "nearer needs Python 3.11 or newer; run make PYTHON=python3.11")'
	$(PYTHON) -m venv .venv || { echo "Python must have the venv module; run: apt-get install python3-venv" >&2; exit 1; }
	$(BIN)/pip install --quiet --constraint constraints.txt --editable .
	@if command -v dpkg >/dev/null && ! dpkg -s $(GL) >/dev/null 2>&1; then \
	  if [ "$$(id -u)" = 0 ]; then apt-get update -q && apt-get install -qy $(GL); \
	  else echo "the tabletop's images need OpenGL; run: sudo apt-get install $(GL)" >&2; fi; \
	fi
	touch $(RUNNABLE)

# Every extra and the development tools.
$(MADE): $(RUNNABLE)
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[dev,docs,pretrain,vlm,wandb,trackio,rerun,ray,aloha,metaworld,console]'
	# Tests drive nearer serve with openpi's own client; without its dependencies, which want numpy < 2.
	$(BIN)/pip install --quiet --no-deps openpi-client==0.1.2
	# And PushT with an OpenCV that asks for no display.
	$(BIN)/pip install --quiet --constraint constraints.txt pymunk pygame shapely opencv-python-headless
	$(BIN)/pip install --quiet --no-deps --constraint constraints.txt gym-pusht
	# Tests open the console in a real browser, where there is one.
	@if ! command -v chromium >/dev/null; then \
	  if command -v apt-get >/dev/null && [ "$$(id -u)" = 0 ]; then \
	    apt-get update -q && apt-get install -qy --no-install-recommends chromium; \
	  else echo "tests of the console's page are skipped without Chromium; run: sudo apt-get install chromium" >&2; fi; \
	fi
	touch $(MADE)

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: setup
	$(BIN)/pyright

# The pages of docs/ and the API from the docstrings, as HTML in site/; a warning is an error.
docs: setup
	$(BIN)/mkdocs build --strict --quiet

unit: setup
	OMP_NUM_THREADS=1 $(BIN)/pytest --numprocesses 2 --dist loadfile

clean:
	rm -rf .venv .pytest_cache .ruff_cache .hypothesis build site src/*.egg-info

# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

PYTHON ?= python3
GATES = PYTHONDONTWRITEBYTECODE=1 $(PYTHON) tests/gates/run.py
export DEMO_DIR ?= $(CURDIR)/certops-demo

help:             ## this list
	@sed -n 's/^\([a-z-]*\):.*## */  make \1|/p' $(MAKEFILE_LIST) | column -t -s '|'
demo:             ## a cluster whose certificates are about to expire, inspected and rotated; leaves a report
	@$(GATES) --exec python lab/demo.py
test:             ## everything that must pass, real clusters included
	@$(GATES) full
test-fast:        ## the inner loop: no cluster
	@$(GATES) fast
test-long:        ## what takes too long for each run of "test": all faults, all settings
	@$(GATES) long
lab:              ## a real one-node cluster to try things on
	@lab/lab up single
lab-ha:           ## three control planes and two workers behind a load balancer
	@lab/lab up ha
lab-down:         ## remove the lab's clusters
	@lab/lab down all
bench: lab        ## what it costs, side by side with what others do
	@$(GATES) --exec python tests/bench/bench.py
collection:       ## put this checkout where Ansible finds it, and say how to use it
	@$(GATES) --tree
clean:            ## remove what this checkout left in the cache; built Kubernetes and environments stay
	@$(GATES) --clean

.PHONY: help demo test test-fast test-long lab lab-ha lab-down bench collection clean
.DEFAULT_GOAL := help

# Programs of Debian in a guest and natively: the same results? Packages are downloaded, and it takes
# long, so this is not a part of `make test`. See docs/workloads.md.

WORKLOAD_ARCH ?= amd64

check-workloads: ## real programs in a guest and natively, byte for byte (hours)
	@scripts/setup workloads
	@$(SUBMAKE) -s $(BUILD)/doble
	@tests/workloads/make-root $(BUILD) $(WORKLOAD_ARCH)
	@tests/workloads/run --build $(BUILD) --arch $(WORKLOAD_ARCH) $(WORKLOADS)

.PHONY: check-workloads

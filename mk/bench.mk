# Benchmarks. The programs are one static binary that runs natively and in any guest; it is built
# without options for this host's processor.

BENCH_SRCS := $(sort $(wildcard bench/programs/*.c))
BENCH_PROG := $(BUILD)/bench/benchprog

$(BENCH_PROG): $(BENCH_SRCS) bench/programs/bench.h
	@mkdir -p $(@D)
	$(CC) -std=gnu17 -D_GNU_SOURCE -O2 -static $(WARN) -o $@ $(BENCH_SRCS) -lm

# tests/boot/translate.py looks at their results
check check-boot: $(BENCH_PROG)

bench: ## compare speeds: native, doble, QEMU (options in BENCH_ARGS; see docs/performance.md)
	@scripts/setup bench
	@$(SUBMAKE) -s $(BUILD)/doble guest $(BENCH_PROG)
	@bench/run.py --build $(BUILD) $(BENCH_ARGS)

.PHONY: bench

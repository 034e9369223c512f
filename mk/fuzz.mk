# Fuzzers (docs/testing-fuzz.md). They are libFuzzer programs, built by clang with AddressSanitizer and
# UBSan in a folder of their own: $(BUILD)-fuzz. There are also the corpora and the finds.

FUZZERS := cpu engines devices loaders gdb monitor state virtio qcow2
FUZZ_PROGRAMS := $(FUZZERS:%=$(BUILD)/tests/fuzz/fuzz_%)
FUZZ_SHARED := machine guest guest_input vm_fixture
FUZZ_SHARED_OBJS := $(FUZZ_SHARED:%=$(BUILD)/tests/fuzz/%.o)
FUZZ_LINK_monitor := $(BUILD)/tests/fuzz/wrap_files.o -Wl,--wrap=open,--wrap=rename,--wrap=unlink

$(FUZZ_PROGRAMS): $(BUILD)/tests/fuzz/fuzz_%: $(BUILD)/tests/fuzz/fuzz_%.o $(FUZZ_SHARED_OBJS) \
		$(BUILD)/tests/fuzz/wrap_files.o $(BUILD)/libdoble.a
	$(CC) $(LDFLAGS) -fsanitize=fuzzer -o $@ $(BUILD)/tests/fuzz/fuzz_$*.o $(FUZZ_SHARED_OBJS) \
		$(FUZZ_LINK_$*) $(BUILD)/libdoble.a $(LDLIBS)

-include $(FUZZ_PROGRAMS:=.d) $(FUZZ_SHARED_OBJS:.o=.d)

# Comparisons are not traced where they are the whole work and say nothing about the input.
ifneq ($(findstring fuzzer,$(SANITIZE)),)
$(BUILD)/src/cpu/%.o $(BUILD)/src/engine/%.o $(BUILD)/tests/fuzz/machine.o: \
	ALL_CFLAGS += -fno-sanitize-coverage=trace-cmp
endif

# The target of the make inside.
fuzzers: $(FUZZ_PROGRAMS)

FUZZ_CC ?= clang
# Is there a clang that can link a libFuzzer program?
FUZZ_PROBE = echo 'int LLVMFuzzerTestOneInput(const char *p, long n); \
	int LLVMFuzzerTestOneInput(const char *p, long n) { return p && n < 0; }' | \
	$(FUZZ_CC) -fsanitize=fuzzer,address,undefined -x c -o /dev/null - 2>/dev/null

fuzz-build:
	@$(SANITIZED) CC=$(FUZZ_CC) BUILD=$(BUILD)-fuzz fuzzers \
		SANITIZE='-fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=all'

FUZZ_SECONDS ?= 1800
FUZZ_JOBS ?= $(shell nproc)
FUZZ_RUN = tests/fuzz/run --build $(BUILD)-fuzz --seconds $(FUZZ_SECONDS) --jobs $(FUZZ_JOBS)

fuzz: fuzz-build ## run each fuzzer for FUZZ_SECONDS (1800), FUZZ_JOBS at a time
	@$(FUZZ_RUN) $(FUZZERS)

$(FUZZERS:%=fuzz-%): fuzz-%: fuzz-build
	@$(FUZZ_RUN) $*

# A moment of each, and all that they ever found, belongs to `make test`.
TESTS += tests/fuzz/short

check: fuzz-if-possible

fuzz-if-possible:
	@if $(FUZZ_PROBE); then $(MAKE) --no-print-directory fuzz-build; fi

.PHONY: fuzz fuzz-build fuzz-if-possible fuzzers $(FUZZERS:%=fuzz-%)

# Tests: how the programs are built, and the targets that run them. tests/unit and tests/dev hold one
# cmocka program in each test_*.c, linked with libdoble.a; tests/boot holds scripts, which find the
# monitor and the guest in $DOBLE and $DOBLE_GUEST. Another fragment adds programs of its own to
# `make test` with: TESTS += PROGRAM.

UNIT_TESTS := $(patsubst %.c,$(BUILD)/%,$(sort $(wildcard tests/unit/test_*.c)))
DEV_TESTS := $(patsubst %.c,$(BUILD)/%,$(sort $(wildcard tests/dev/test_*.c)))
BOOT_TESTS := $(sort $(wildcard tests/boot/*.sh tests/boot/*.py))
RUN_TESTS = BUILD=$(BUILD) DOBLE=$(BUILD)/doble DOBLE_GUEST=$(BUILD)/guest scripts/run-tests

$(BUILD)/tests/%.o: tests/%.c | generated
	@mkdir -p $(@D)
	$(CC) $(ALL_CFLAGS) -c -o $@ $<

$(UNIT_TESTS) $(DEV_TESTS): %: %.o $(BUILD)/libdoble.a
	$(CC) $(LDFLAGS) -o $@ $^ -lcmocka $(LDLIBS)

.SECONDARY: $(addsuffix .o,$(UNIT_TESTS) $(DEV_TESTS))
-include $(addsuffix .d,$(UNIT_TESTS) $(DEV_TESTS))

# Two steps, because the first installs what the second is built with.
test: ## install what is missing, build, and run all tests
	@scripts/setup test
	@$(SUBMAKE) -s compile guest
	@$(MAKE) --no-print-directory check

# The programs of other fragments are known only when all have been read.
.SECONDEXPANSION:

check: $(BUILD)/doble guest $(UNIT_TESTS) $(DEV_TESTS) $$(TESTS) ## the same, but install nothing
	@$(RUN_TESTS) $(UNIT_TESTS) $(DEV_TESTS) $(TESTS) $(BOOT_TESTS)

check-unit: $(UNIT_TESTS) ## tests without a guest or devices
	@$(RUN_TESTS) $(UNIT_TESTS)

check-dev: $(DEV_TESTS) ## tests of devices, through the bus
	@$(RUN_TESTS) $(DEV_TESTS)

check-boot: $(BUILD)/doble guest ## tests that boot a guest
	@$(RUN_TESTS) $(BOOT_TESTS)

# ATTACK_SECONDS bounds each of the two; a failure prints how to repeat it.
ATTACK_SECONDS ?= 1800

check-hostile: $(BUILD)/doble ## a long campaign of guests that attack, also with sanitizers
	@$(SANITIZED) BUILD=$(BUILD)-asan SANITIZE='-fsanitize=address,undefined -fno-sanitize-recover=all' \
		$(BUILD)-asan/doble
	DOBLE=$(BUILD)/doble tests/boot/attack.py --seconds $(ATTACK_SECONDS)
	DOBLE=$(BUILD)-asan/doble tests/boot/attack.py --seconds $(ATTACK_SECONDS)

SANITIZED = $(SUBMAKE) -s CFLAGS='-O1 -g -fno-omit-frame-pointer'

check-asan: ## unit and device tests with AddressSanitizer and UBSan
	@$(SANITIZED) BUILD=$(BUILD)-asan check-sanitized \
		SANITIZE='-fsanitize=address,undefined -fno-sanitize-recover=all'

check-tsan: ## unit and device tests with ThreadSanitizer
	@$(SANITIZED) BUILD=$(BUILD)-tsan SANITIZE=-fsanitize=thread check-sanitized

check-sanitized: $(UNIT_TESTS) $(DEV_TESTS)
	@$(RUN_TESTS) $(UNIT_TESTS) $(DEV_TESTS)

clang: ## build everything with clang, in build-clang
	@$(SUBMAKE) -s CC=clang BUILD=$(BUILD)-clang compile

compile: $(BUILD)/doble $(UNIT_TESTS) $(DEV_TESTS) $$(TESTS) ## build the monitor and all tests

format-check: ## every C file is as clang-format would write it
	@git ls-files '*.c' '*.h' | grep -v 'trace_events\.h$$' | xargs clang-format --dry-run -Werror

.PHONY: test check check-unit check-dev check-boot check-hostile check-asan check-tsan \
	check-sanitized clang compile format-check

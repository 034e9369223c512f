# The instruction test: every instruction form by the interpreter and by the host's processor.

INSN_SRCS := $(sort $(wildcard tests/insn/*.c tests/insn/*.S))
INSN_OBJS := $(addprefix $(BUILD)/,$(addsuffix .o,$(basename $(INSN_SRCS))))
INSN_TEST := $(BUILD)/tests/insn/insn-test

$(BUILD)/tests/insn/%.o: tests/insn/%.S
	@mkdir -p $(@D)
	$(CC) -c -o $@ $<

$(INSN_TEST): $(INSN_OBJS) $(BUILD)/libdoble.a
	$(CC) $(LDFLAGS) -o $@ $^ $(LDLIBS)

-include $(INSN_OBJS:.o=.d)

# A run of less than a minute, with every form in it, belongs to `make test`.
TESTS += $(INSN_TEST)

INSN_SEED ?= 1

check-insn: $(INSN_TEST) ## 10,000 random states of every instruction form (half an hour)
	$(INSN_TEST) --forms 10000 --random-bytes 1000000 --seed $(INSN_SEED)

SEQUENCES ?= 10000000

check-translate: $(INSN_TEST) ## every form and 10,000,000 random sequences by the translator (hours)
	$(INSN_TEST) --engine translate --forms 200 --sequences $(SEQUENCES) --seed $(INSN_SEED) --show 4

insn-table: $(INSN_TEST) ## the same, and write docs/insn-coverage.md
	$(INSN_TEST) --forms 10000 --random-bytes 1000000 --seed $(INSN_SEED) \
		--table docs/insn-coverage.md

# The build proves each translation that the tests' guests and a boot of Linux make it emit.
check-verify: ## boot tests of the translator with a proof of each translation
	@$(SUBMAKE) -s BUILD=$(BUILD)-verify CFLAGS='-O1 -g -DDOBLE_VERIFY_CODE' compile guest
	BUILD=$(BUILD)-verify DOBLE=$(BUILD)-verify/doble DOBLE_GUEST=$(BUILD)-verify/guest \
		scripts/run-tests tests/boot/engines.py tests/boot/translate.py tests/boot/attack.py

.PHONY: check-insn check-translate check-verify insn-table

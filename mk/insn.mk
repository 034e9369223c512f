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

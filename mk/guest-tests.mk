# The guests that test themselves: the same sources make a 64-bit and a 32-bit one. Each is a
# bzImage and a bootable disk.

GUEST_TEST_SRCS := $(sort $(wildcard tests/guest/*.c tests/guest/*.S))
GUEST_TESTS := $(BUILD)/tests/guest/guest64.bin $(BUILD)/tests/guest/guest32.bin
GUEST_TEST_FLAGS := -std=gnu17 $(WARN) -O1 -g -ffreestanding -fno-pic -fno-stack-protector \
	-fno-asynchronous-unwind-tables -fcf-protection=none -fno-strict-aliasing -mgeneral-regs-only \
	-mno-red-zone -MMD -MP

guest_test_objs = $(addprefix $(BUILD)/tests/guest/$1/,$(addsuffix .o,$(notdir $(GUEST_TEST_SRCS))))

$(BUILD)/tests/guest/32/%.o: tests/guest/%
	@mkdir -p $(@D)
	$(CC) -m32 $(GUEST_TEST_FLAGS) -c -o $@ $<

$(BUILD)/tests/guest/64/%.o: tests/guest/%
	@mkdir -p $(@D)
	$(CC) -m64 $(GUEST_TEST_FLAGS) -c -o $@ $<

$(BUILD)/tests/guest/guest32.elf: $(call guest_test_objs,32) tests/guest/link.ld
	ld -m elf_i386 --no-warn-rwx-segments -T tests/guest/link.ld -o $@ $(filter %.o,$^)

$(BUILD)/tests/guest/guest64.elf: $(call guest_test_objs,64) tests/guest/link.ld
	ld -m elf_x86_64 --no-warn-rwx-segments -T tests/guest/link.ld -o $@ $(filter %.o,$^)

$(BUILD)/tests/guest/%.bin: $(BUILD)/tests/guest/%.elf
	objcopy -O binary $< $@

-include $(patsubst %.o,%.d,$(call guest_test_objs,32) $(call guest_test_objs,64))

check check-boot compile: $(GUEST_TESTS)

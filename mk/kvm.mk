# Hardware virtualization: a /dev/kvm that fails, for tests/boot/engines.py, and the tests of the
# engine `kvm` in a virtual machine that has a real one.

FAKE_KVM := $(BUILD)/tests/kvm/fake_kvm.so
KVM_BRIDGE := $(BUILD)/tests/kvm/bridge

$(FAKE_KVM): tests/kvm/fake_kvm.c
	@mkdir -p $(@D)
	$(CC) -std=gnu17 $(WARN) -O1 -fPIC -shared -o $@ $< -ldl

$(KVM_BRIDGE): tests/kvm/bridge.c
	@mkdir -p $(@D)
	$(CC) -std=gnu17 -D_GNU_SOURCE $(WARN) -O1 -static -o $@ $<

check check-boot compile: $(FAKE_KVM) $(KVM_BRIDGE)

KVM_TESTS := tests/kvm/nested.py tests/kvm/host.py

TESTS += $(KVM_TESTS)

check-kvm: $(KVM_BRIDGE)

check-kvm: $(BUILD)/doble guest ## the engine `kvm`, in a virtual machine of QEMU and on this host
	@$(RUN_TESTS) $(KVM_TESTS)

.PHONY: check-kvm

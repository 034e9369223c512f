# The built-in guest, its installation, and `make run`.

GUEST := $(BUILD)/guest
GUEST_DEBS := $(GUEST)/linux-image.deb $(GUEST)/busybox-static.deb
GUEST_FILES := $(GUEST)/vmlinuz $(GUEST)/initrd.img

guest: $(GUEST_FILES) ## prepare the built-in guest (kernel and initrd)

$(GUEST_DEBS) &: | guest/fetch
	guest/fetch $(GUEST)

$(GUEST_FILES) &: $(GUEST_DEBS) guest/build guest/init guest/modules $(shell find guest/etc -type f)
	guest/build $(GUEST)

# A make inside that uses all processors, unless this one was told how many.
SUBMAKE = $(MAKE) --no-print-directory $(if $(filter -j%,$(MAKEFLAGS)),,-j$(shell nproc))

# Without a terminal the guest shows that it works and powers off by itself.
run: ## install what is missing, build, and boot the built-in guest in this terminal
	@scripts/setup run
	@$(SUBMAKE) -s $(BUILD)/doble guest
	@exec $(BUILD)/doble run $(RUN_ARGS)

.PHONY: guest run

# Installation. The guest is installed if it was prepared (`make guest`).

DEST = $(DESTDIR)$(PREFIX)
INSTALLED = bin/doble share/man/man1/doble.1 share/doble/vmlinuz share/doble/initrd.img

install: $(BUILD)/doble ## install into $(DESTDIR)$(PREFIX)
	install -D -m 755 $(BUILD)/doble $(DEST)/bin/doble
	install -D -m 644 man/doble.1 $(DEST)/share/man/man1/doble.1
	@for file in vmlinuz initrd.img; do \
		[ ! -e $(BUILD)/guest/$$file ] || \
		install -v -D -m 644 $(BUILD)/guest/$$file $(DEST)/share/doble/$$file; \
	done

uninstall: ## remove what install put there
	rm -f $(INSTALLED:%=$(DEST)/%)
	-rmdir $(DEST)/share/doble 2>/dev/null

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1\t\2/p' $(MAKEFILE_LIST) | LC_ALL=C sort | \
		awk -F '\t' '{printf "make %-14s %s\n", $$1, $$2}'

.PHONY: install uninstall help

# Long tests of disks.

KILLS ?= 100

check-kill: $(BUILD)/doble guest ## machines in a row that are killed while they write (KILLS=100)
	@DOBLE=$(BUILD)/doble DOBLE_GUEST=$(BUILD)/guest tests/kill-campaign -n $(KILLS)

.PHONY: check-kill

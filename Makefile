# Doble: `make` builds build/doble, `make run` does everything up to a shell in the built-in guest,
# `make test` runs all tests. README.md lists the other targets.

BUILD ?= build
ifeq ($(origin CC),default)
CC := gcc
endif
PREFIX ?= /usr/local
VERSION := 0.1.0

CFLAGS ?= -O2 -g
WARN := -Wall -Wextra -Werror -Wstrict-prototypes -Wmissing-prototypes -Wvla -Wshadow
ALL_CFLAGS := -std=gnu17 $(WARN) -Isrc -I$(BUILD)/gen -pthread -fno-strict-aliasing \
	-DDOBLE_VERSION='"$(VERSION)"' -DDOBLE_PREFIX='"$(PREFIX)"' -MMD -MP $(CFLAGS) $(SANITIZE)
LDLIBS := -lZydis -ljansson -lslirp -luring -lz -lzstd -pthread
LDFLAGS += $(SANITIZE)

SRCS := $(shell find src -name '*.c' | LC_ALL=C sort)
OBJS := $(SRCS:%.c=$(BUILD)/%.o)
LIB_OBJS := $(filter-out $(BUILD)/src/cli/main.o,$(OBJS))

all: $(BUILD)/doble

$(BUILD)/doble: $(BUILD)/src/cli/main.o $(BUILD)/libdoble.a
	$(CC) $(LDFLAGS) -o $@ $^ $(LDLIBS)

$(BUILD)/libdoble.a: $(LIB_OBJS)
	@rm -f $@
	ar rcs $@ $^

$(BUILD)/src/%.o: src/%.c | generated
	@mkdir -p $(@D)
	$(CC) $(ALL_CFLAGS) -c -o $@ $<

.PHONY: all generated clean
generated:

clean:
	rm -rf $(BUILD)

-include $(OBJS:.o=.d)
include $(wildcard mk/*.mk)

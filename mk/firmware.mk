# Firmware: the DSDT is written in ASL and compiled by iasl into a C array.

generated: $(BUILD)/gen/dsdt.h

$(BUILD)/gen/dsdt.h: src/firmware/dsdt.asl
	@mkdir -p $(@D)
	iasl -vs -we -p $(@D)/dsdt $< > $(@D)/dsdt.log || { cat $(@D)/dsdt.log; exit 1; }
	@{ echo '/* made from $< */'; echo 'static const unsigned char dsdt_aml[] = {'; \
		od -An -v -tu1 $(@D)/dsdt.aml | sed 's/  *\([0-9][0-9]*\)/\1,/g'; echo '};'; } > $@.tmp
	@mv $@.tmp $@

/* dsdt.asl - what the board has that an operating system can't find by itself.
 *
 * Addresses and interrupts are those of machine/pc.c. Where the window for base registers begins
 * depends on the size of RAM: \PCIM, in a table of its own (firmware/acpi_tables.c). The power
 * button is fixed hardware (FADT), so it is no device here. */
DefinitionBlock ("", "DSDT", 2, "DOBLE", "DOBLEPC", 1)
{
    External (\PCIM, IntObj)

    /* Soft off: SLP_TYP 5, as in dev/acpi_pm.h. */
    Name (\_S5, Package () { 5, 5, 0, 0 })

    /* 1: interrupts go through the IOAPIC. */
    Name (APIC, 0)
    Method (\_PIC, 1)
    {
        APIC = Arg0
    }

    Scope (\_SB)
    {
        /* Ports and memory of the board itself. */
        Device (MBRD)
        {
            Name (_HID, EisaId ("PNP0C02"))
            Name (_UID, 0)
            Name (_CRS, ResourceTemplate ()
            {
                IO (Decode16, 0x0080, 0x0080, 1, 1)  /* POST code */
                IO (Decode16, 0x0092, 0x0092, 1, 1)  /* system control port A */
                IO (Decode16, 0x00E9, 0x00E9, 1, 1)  /* debug console */
                IO (Decode16, 0x0402, 0x0402, 1, 1)  /* debug console */
                IO (Decode16, 0x0600, 0x0600, 1, 16) /* power management */
                Memory32Fixed (ReadWrite, 0xFEC00000, 0x1000) /* IOAPIC */
                Memory32Fixed (ReadWrite, 0xFEE00000, 0x1000) /* local APICs */
            })
        }

        Device (HPET)
        {
            Name (_HID, EisaId ("PNP0103"))
            Name (_UID, 0)
            Name (_CRS, ResourceTemplate ()
            {
                Memory32Fixed (ReadWrite, 0xFED00000, 0x400)
            })
        }

        Device (PCI0)
        {
            Name (_HID, EisaId ("PNP0A03"))
            Name (_UID, 0)
            Name (_BBN, 0)

            Name (RES, ResourceTemplate ()
            {
                WordBusNumber (ResourceProducer, MinFixed, MaxFixed, PosDecode,
                    0, 0x00, 0xFF, 0, 0x100)
                IO (Decode16, 0x0CF8, 0x0CF8, 1, 8)
                WordIO (ResourceProducer, MinFixed, MaxFixed, PosDecode, EntireRange,
                    0, 0x0000, 0x0CF7, 0, 0x0CF8)
                WordIO (ResourceProducer, MinFixed, MaxFixed, PosDecode, EntireRange,
                    0, 0x0D00, 0xFFFF, 0, 0xF300)
                DWordMemory (ResourceProducer, PosDecode, MinFixed, MaxFixed, Cacheable, ReadWrite,
                    0, 0x000A0000, 0x000BFFFF, 0, 0x00020000)
                DWordMemory (ResourceProducer, PosDecode, MinFixed, MaxFixed, NonCacheable,
                    ReadWrite, 0, 0xC0000000, 0xFEBFFFFF, 0, 0x3EC00000, , , BARS, AddressRangeMemory,
                    TypeStatic)
            })
            Method (_CRS, 0, Serialized)
            {
                CreateDWordField (RES, \_SB.PCI0.BARS._MIN, WMIN)
                CreateDWordField (RES, \_SB.PCI0.BARS._LEN, WLEN)
                WMIN = PCIM
                WLEN = 0xFEC00000 - PCIM
                Return (RES)
            }

            /* The line of a slot's pin, as pci_pirq() in bus/pci.h has it. */
            Method (LINE, 1)
            {
                If (APIC)
                {
                    Local0 = Package () { 0, 0, 0, 0 }
                    Local0[3] = 16 + Arg0
                    Return (Local0)
                }
                If (Arg0 == 0)
                {
                    Return (Package () { 0, 0, LNKA, 0 })
                }
                If (Arg0 == 1)
                {
                    Return (Package () { 0, 0, LNKB, 0 })
                }
                If (Arg0 == 2)
                {
                    Return (Package () { 0, 0, LNKC, 0 })
                }
                Return (Package () { 0, 0, LNKD, 0 })
            }

            Method (_PRT, 0)
            {
                Local0 = Package (128) { }
                Local1 = 0
                While (Local1 < 128)
                {
                    Local2 = Local1 >> 2 /* slot; the pin is in bits 1:0 */
                    Local3 = LINE ((Local2 + Local1 - 1) & 3)
                    Local3[0] = (Local2 << 16) | 0xFFFF
                    Local3[1] = Local1 & 3
                    Local0[Local1] = Local3
                    Local1++
                }
                Return (Local0)
            }

            Device (ISA)
            {
                Name (_ADR, 0x00010000)
                OperationRegion (ROUT, PCI_Config, 0x60, 4)
                Field (ROUT, ByteAcc, NoLock, Preserve)
                {
                    PRQA, 8,
                    PRQB, 8,
                    PRQC, 8,
                    PRQD, 8
                }

                Device (PIC)
                {
                    Name (_HID, EisaId ("PNP0000"))
                    Name (_CRS, ResourceTemplate ()
                    {
                        IO (Decode16, 0x0020, 0x0020, 1, 2)
                        IO (Decode16, 0x00A0, 0x00A0, 1, 2)
                        IO (Decode16, 0x04D0, 0x04D0, 1, 2)
                        IRQNoFlags () { 2 }
                    })
                }

                Device (PIT)
                {
                    Name (_HID, EisaId ("PNP0100"))
                    Name (_CRS, ResourceTemplate ()
                    {
                        IO (Decode16, 0x0040, 0x0040, 1, 4)
                        IRQNoFlags () { 0 }
                    })
                }

                Device (SPKR)
                {
                    Name (_HID, EisaId ("PNP0800"))
                    Name (_CRS, ResourceTemplate ()
                    {
                        IO (Decode16, 0x0061, 0x0061, 1, 1)
                    })
                }

                Device (RTC)
                {
                    Name (_HID, EisaId ("PNP0B00"))
                    Name (_CRS, ResourceTemplate ()
                    {
                        IO (Decode16, 0x0070, 0x0070, 1, 2)
                        IRQNoFlags () { 8 }
                    })
                }

                Device (KBD)
                {
                    Name (_HID, EisaId ("PNP0303"))
                    Name (_CRS, ResourceTemplate ()
                    {
                        IO (Decode16, 0x0060, 0x0060, 1, 1)
                        IO (Decode16, 0x0064, 0x0064, 1, 1)
                        IRQNoFlags () { 1 }
                    })
                }

                Device (MOU)
                {
                    Name (_HID, EisaId ("PNP0F13"))
                    Name (_CRS, ResourceTemplate ()
                    {
                        IRQNoFlags () { 12 }
                    })
                }

                Device (COM1)
                {
                    Name (_HID, EisaId ("PNP0501"))
                    Name (_UID, 1)
                    Name (_CRS, ResourceTemplate ()
                    {
                        IO (Decode16, 0x03F8, 0x03F8, 1, 8)
                        IRQNoFlags () { 4 }
                    })
                }
            }
        }

        /* The links: PIRQs and the ISA interrupts to which they are routed. */
        /* Present, and enabled unless its route is off. */
        Method (LSTA, 1)
        {
            If (Arg0 & 0x80)
            {
                Return (0x09)
            }
            Return (0x0B)
        }

        Name (LBUF, ResourceTemplate ()
        {
            IRQ (Level, ActiveHigh, Shared) { }
        })
        CreateWordField (LBUF, 1, LIRQ)
        Method (LCRS, 1, Serialized)
        {
            LIRQ = 0
            If (!(Arg0 & 0x80))
            {
                LIRQ = 1 << (Arg0 & 0x0F)
            }
            Return (LBUF)
        }

        Device (LNKA)
        {
            Name (_HID, EisaId ("PNP0C0F"))
            Name (_UID, 0)
            Name (_PRS, ResourceTemplate ()
            {
                IRQ (Level, ActiveHigh, Shared) { 5, 10, 11 }
            })
            Method (_STA, 0)
            {
                Return (LSTA (\_SB.PCI0.ISA.PRQA))
            }
            Method (_DIS, 0)
            {
                \_SB.PCI0.ISA.PRQA |= 0x80
            }
            Method (_CRS, 0, Serialized)
            {
                Return (LCRS (\_SB.PCI0.ISA.PRQA))
            }
            Method (_SRS, 1)
            {
                CreateWordField (Arg0, 1, IRQS)
                FindSetRightBit (IRQS, Local0)
                \_SB.PCI0.ISA.PRQA = Local0 - 1
            }
        }

        Device (LNKB)
        {
            Name (_HID, EisaId ("PNP0C0F"))
            Name (_UID, 1)
            Name (_PRS, ResourceTemplate ()
            {
                IRQ (Level, ActiveHigh, Shared) { 5, 10, 11 }
            })
            Method (_STA, 0)
            {
                Return (LSTA (\_SB.PCI0.ISA.PRQB))
            }
            Method (_DIS, 0)
            {
                \_SB.PCI0.ISA.PRQB |= 0x80
            }
            Method (_CRS, 0, Serialized)
            {
                Return (LCRS (\_SB.PCI0.ISA.PRQB))
            }
            Method (_SRS, 1)
            {
                CreateWordField (Arg0, 1, IRQS)
                FindSetRightBit (IRQS, Local0)
                \_SB.PCI0.ISA.PRQB = Local0 - 1
            }
        }

        Device (LNKC)
        {
            Name (_HID, EisaId ("PNP0C0F"))
            Name (_UID, 2)
            Name (_PRS, ResourceTemplate ()
            {
                IRQ (Level, ActiveHigh, Shared) { 5, 10, 11 }
            })
            Method (_STA, 0)
            {
                Return (LSTA (\_SB.PCI0.ISA.PRQC))
            }
            Method (_DIS, 0)
            {
                \_SB.PCI0.ISA.PRQC |= 0x80
            }
            Method (_CRS, 0, Serialized)
            {
                Return (LCRS (\_SB.PCI0.ISA.PRQC))
            }
            Method (_SRS, 1)
            {
                CreateWordField (Arg0, 1, IRQS)
                FindSetRightBit (IRQS, Local0)
                \_SB.PCI0.ISA.PRQC = Local0 - 1
            }
        }

        Device (LNKD)
        {
            Name (_HID, EisaId ("PNP0C0F"))
            Name (_UID, 3)
            Name (_PRS, ResourceTemplate ()
            {
                IRQ (Level, ActiveHigh, Shared) { 5, 10, 11 }
            })
            Method (_STA, 0)
            {
                Return (LSTA (\_SB.PCI0.ISA.PRQD))
            }
            Method (_DIS, 0)
            {
                \_SB.PCI0.ISA.PRQD |= 0x80
            }
            Method (_CRS, 0, Serialized)
            {
                Return (LCRS (\_SB.PCI0.ISA.PRQD))
            }
            Method (_SRS, 1)
            {
                CreateWordField (Arg0, 1, IRQS)
                FindSetRightBit (IRQS, Local0)
                \_SB.PCI0.ISA.PRQD = Local0 - 1
            }
        }
    }
}

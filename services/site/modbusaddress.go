package site

import (
	"fmt"
	"strconv"
	"strings"
)

// ModbusTable is one of the four address spaces of a Modbus device
// (application protocol 1.1b3, 4.3), as profiles spell it.
type ModbusTable string

// The tables, with the digit that the old notation of addresses begins with.
const (
	ModbusCoil     ModbusTable = "coil"     // 0, one bit, written too
	ModbusDiscrete ModbusTable = "discrete" // 1, one bit
	ModbusInput    ModbusTable = "input"    // 3, a register of 16 bits
	ModbusHolding  ModbusTable = "holding"  // 4, a register of 16 bits, written too
)

// Bits says whether the table is of bits, not of registers.
func (t ModbusTable) Bits() bool { return t == ModbusCoil || t == ModbusDiscrete }

// ModbusAddress is where a point lies in a device.
type ModbusAddress struct {
	Table  ModbusTable
	Number uint16 // as in the protocol, from 0
	Bit    int    // of the register, 0 the least significant; -1: not a bit of one
}

func (a ModbusAddress) String() string {
	if a.Bit >= 0 {
		return fmt.Sprintf("%s:%d.%d", a.Table, a.Number, a.Bit)
	}
	return fmt.Sprintf("%s:%d", a.Table, a.Number)
}

var modbusDigits = map[byte]ModbusTable{'0': ModbusCoil, '1': ModbusDiscrete, '3': ModbusInput, '4': ModbusHolding}

// ParseModbusAddress reads "TABLE:NUMBER" with the number of the protocol,
// from 0, and ".BIT" behind it for a bit of a register; or the old notation of
// five or six digits, whose first is the table and whose rest counts from 1:
// "40001" is "holding:0".
func ParseModbusAddress(s string) (ModbusAddress, error) {
	table, number, colon := strings.Cut(s, ":")
	a := ModbusAddress{Table: ModbusTable(table), Bit: -1}
	first := uint64(0)
	if !colon {
		number, a.Table = oldModbusNumber(s)
		first = 1
	}
	switch a.Table {
	case ModbusCoil, ModbusDiscrete, ModbusInput, ModbusHolding:
	default:
		return a, fmt.Errorf("want a table and a number, such as holding:100, input:7, coil:0, discrete:3, or 40101")
	}
	number, bit, hasBit := strings.Cut(number, ".")
	n, err := strconv.ParseUint(number, 10, 32)
	if err != nil || n < first || n-first > 65535 {
		return a, fmt.Errorf("%q is no number from %d to %d", number, first, 65535+first)
	}
	a.Number = uint16(n - first)
	if !hasBit {
		return a, nil
	}
	b, err := strconv.ParseUint(bit, 10, 8)
	switch {
	case a.Table.Bits():
		return a, fmt.Errorf("a %s is a bit already", a.Table)
	case err != nil || b > 15:
		return a, fmt.Errorf("bit %q is no number from 0 to 15", bit)
	}
	a.Bit = int(b)
	return a, nil
}

func oldModbusNumber(s string) (number string, table ModbusTable) {
	digits, _, _ := strings.Cut(s, ".")
	if len(digits) != 5 && len(digits) != 6 || notIn(digits, "0123456789") != "" {
		return "", ""
	}
	return s[1:], modbusDigits[s[0]]
}

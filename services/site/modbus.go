package site

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// Modbus is one connection to Modbus devices: one device, or a gateway with
// several units behind it.
type Modbus struct {
	Name string `yaml:"name"`
	// Transport is tcp, rtu-over-tcp (serial frames through a terminal server)
	// or rtu (a serial port of the box); default tcp.
	Transport string        `yaml:"transport,omitempty"`
	Address   string        `yaml:"address"`          // host:port, or the serial port such as /dev/ttyUSB0
	Serial    *ModbusSerial `yaml:"serial,omitempty"` // of transport rtu
	Unit      int           `yaml:"unit,omitempty"`   // of points that name none; default 1
	Every     string        `yaml:"every,omitempty"`  // time between two reads of a point; default 1s
	Timeout   string        `yaml:"timeout,omitempty"`
	// Pause is the least time between an answer and the next request, for
	// gateways and slow devices.
	Pause string `yaml:"pause,omitempty"`
	// MaxRegisters and MaxBits of one request; default 125 and 2000, which are
	// the protocol's.
	MaxRegisters int `yaml:"max_registers,omitempty"`
	MaxBits      int `yaml:"max_bits,omitempty"`
	// Gap is how many registers nobody asked for may lie between two points
	// of one request; default 8; for bits 16 times as many.
	Gap      *int          `yaml:"gap,omitempty"`
	Points   []ModbusPoint `yaml:"points"`
	Records  Records       `yaml:"records,omitempty"`
	Commands *Commands     `yaml:"commands,omitempty"`
}

// ModbusSerial is how a serial port is set.
type ModbusSerial struct {
	Baud     int    `yaml:"baud,omitempty"`      // default 19200
	Parity   string `yaml:"parity,omitempty"`    // none, even or odd; default even
	StopBits int    `yaml:"stop_bits,omitempty"` // 1 or 2; default 1, without parity 2
}

// ModbusPoint is one value of a device.
type ModbusPoint struct {
	Name string `yaml:"name"`
	// Address is the table and the number of the protocol, holding:100,
	// input:7, coil:0, discrete:3, with a bit of a register as holding:100.3;
	// or the old notation that counts from 1, "40101".
	Address string  `yaml:"address"`
	Type    string  `yaml:"type,omitempty"`   // default uint16; bool where the address is of a bit
	Order   string  `yaml:"order,omitempty"`  // of bytes: ABCD, CDAB, BADC or DCBA; default ABCD
	Length  int     `yaml:"length,omitempty"` // registers of a string
	Scale   float64 `yaml:"scale,omitempty"`  // value = number * Scale + Offset; default 1
	Offset  float64 `yaml:"offset,omitempty"`
	Unit    string  `yaml:"unit,omitempty"`    // of measure, such as °C
	UnitID  int     `yaml:"unit_id,omitempty"` // the device behind a gateway; default: Unit of the connection
	Every   string  `yaml:"every,omitempty"`   // default: that of the connection
	// Writable points may be written by commands.
	Writable bool `yaml:"writable,omitempty"`
	// ReadBack has a write confirmed by reading; default true. Turn it off
	// for what resets itself.
	ReadBack *bool  `yaml:"read_back,omitempty"`
	Report   Report `yaml:"report,omitempty"`
}

// Words of Modbus.Transport.
const (
	ModbusTCP        = "tcp"
	ModbusRTUOverTCP = "rtu-over-tcp"
	ModbusRTU        = "rtu"
)

// ModbusTypes are the words of ModbusPoint.Type, with the registers of each;
// 0: as many as Length says.
var ModbusTypes = map[string]int{
	"bool": 1, "int16": 1, "uint16": 1, "bcd16": 1,
	"int32": 2, "uint32": 2, "float32": 2, "bcd32": 2,
	"int64": 4, "uint64": 4, "float64": 4, "string": 0,
}

// The most one request may ask for (application protocol 1.1b3, 6.1 and 6.3).
const (
	maxModbusRegisters = 125
	maxModbusBits      = 2000
	maxModbusPoints    = 5000
)

// Common implements Instance.
func (m *Modbus) Common() Common {
	return Common{Name: m.Name, Records: &m.Records, Commands: m.Commands, Words: append(slices.Clone(ReadingWords), "unit_id")}
}

func (m *Modbus) fill() {
	orString(&m.Transport, ModbusTCP)
	if m.Transport == ModbusRTU && m.Serial == nil {
		m.Serial = &ModbusSerial{}
	}
	if s := m.Serial; s != nil {
		orInt(&s.Baud, 19200)
		orString(&s.Parity, "even")
		orInt(&s.StopBits, map[bool]int{true: 2, false: 1}[s.Parity == "none"])
	}
	orInt(&m.Unit, 1)
	orString(&m.Every, "1s")
	orString(&m.Timeout, "1s")
	orString(&m.Pause, "0s")
	orInt(&m.MaxRegisters, maxModbusRegisters)
	orInt(&m.MaxBits, maxModbusBits)
	if m.Gap == nil {
		gap := 8
		m.Gap = &gap
	}
	for i := range m.Points {
		m.Points[i].fill(m)
	}
	m.Records.fill(m.Name, "{point}")
	m.Commands.fill()
}

func (p *ModbusPoint) fill(m *Modbus) {
	a, _ := ParseModbusAddress(p.Address)
	orString(&p.Type, map[bool]string{true: "bool", false: "uint16"}[a.Table.Bits() || a.Bit >= 0])
	orString(&p.Order, "ABCD")
	if p.Scale == 0 {
		p.Scale = 1
	}
	orInt(&p.UnitID, m.Unit)
	orString(&p.Every, m.Every)
	orBool(&p.ReadBack, true)
}

func (m *Modbus) check(c checker, path string) {
	c.text(path+".transport", m.Transport, oneOf(ModbusTCP, ModbusRTUOverTCP, ModbusRTU))
	if m.Transport == ModbusRTU {
		c.text(path+".address", m.Address, deviceFile)
	} else {
		if strings.HasPrefix(m.Address, "/dev/") {
			c.value(path+".address", "", "a serial port is for transport: rtu")
		}
		c.text(path+".address", m.Address, dialAddress("502"))
		if m.Serial != nil {
			c.key(path+".serial", "", "is for transport: rtu; a terminal server has settings of its own")
		}
	}
	if s := m.Serial; s != nil {
		c.number(path+".serial.baud", s.Baud, 300, 1_000_000)
		c.text(path+".serial.parity", s.Parity, oneOf("none", "even", "odd"))
		c.number(path+".serial.stop_bits", s.StopBits, 1, 2)
	}
	c.number(path+".unit", m.Unit, 1, 255)
	c.text(path+".every", m.Every, span(10*time.Millisecond, 24*time.Hour))
	c.text(path+".timeout", m.Timeout, span(10*time.Millisecond, time.Minute))
	c.text(path+".pause", m.Pause, span(0, time.Minute))
	c.number(path+".max_registers", m.MaxRegisters, 1, maxModbusRegisters)
	c.number(path+".max_bits", m.MaxBits, 1, maxModbusBits)
	if m.Gap != nil && (*m.Gap < 0 || *m.Gap > maxModbusRegisters) {
		c.value(path+".gap", "", "want 0 to %d registers, got %d", maxModbusRegisters, *m.Gap)
	}
	if len(m.Points) > maxModbusPoints {
		c.key(path+".points", "", "%d points are more than the %d of one connection", len(m.Points), maxModbusPoints)
	}
	at := func(i int) string { return fmt.Sprintf("%s.points[%d]", path, i) }
	for i := range m.Points {
		c.modbusPoint(at(i), &m.Points[i], m)
	}
	c.unique(len(m.Points), func(i int) (string, string) { return m.Points[i].Name, at(i) + ".name" })
}

// number judges a whole number that was given.
func (c checker) number(path string, n, lo, hi int) {
	if _, given := c.keys[path]; given && (n < lo || n > hi) {
		c.value(path, "", "want %d to %d, got %d", lo, hi, n)
	}
}

func deviceFile(s string) fault {
	if !strings.HasPrefix(s, "/dev/") || strings.Contains(s, "..") {
		return faultf("want a serial port such as /dev/ttyUSB0, got %q", shorten(s))
	}
	return fault{}
}

func (c checker) modbusPoint(path string, p *ModbusPoint, m *Modbus) {
	c.number(path+".unit_id", p.UnitID, 1, 255)
	c.text(path+".every", p.Every, span(10*time.Millisecond, 24*time.Hour))
	c.text(path+".type", p.Type, oneOf(slices.Sorted(maps.Keys(ModbusTypes))...))
	c.text(path+".order", p.Order, oneOf(byteOrders...))
	c.exception(path+".report", &p.Report)
	a, err := ParseModbusAddress(p.Address)
	if err != nil {
		if p.Address != "" {
			c.value(path+".address", "", "%v", err)
		}
		return
	}
	bit := a.Table.Bits() || a.Bit >= 0
	registers := ModbusTypes[p.Type]
	switch {
	case bit && p.Type != "" && p.Type != "bool":
		c.value(path+".type", "", "%s is a bit, which is a bool", p.Address)
	case p.Type == "string" && scaled(p.Scale, p.Offset):
		c.key(path, "", "a string has no scale and no offset")
	case (p.Type == "string") != (p.Length != 0):
		c.key(path, "", "length, in registers, is needed by type: string, and by it only")
	case p.Type == "string":
		registers = p.Length
		c.number(path+".length", p.Length, 1, maxModbusRegisters)
		c.text(path+".order", p.Order, oneOf("ABCD", "BADC"))
	case (p.Type == "bool" || bit) && scaled(p.Scale, p.Offset):
		c.key(path, "", "a bool has no scale and no offset")
	}
	if most := m.MaxRegisters; most > 0 && registers > most && !bit {
		c.value(path+".type", "", "takes %d registers, more than max_registers, %d", registers, most)
	}
	if int(a.Number)+registers > 65536 && !bit {
		c.value(path+".address", "", "the value ends behind the last register, 65535")
	}
	if p.Writable && (a.Table == ModbusInput || a.Table == ModbusDiscrete) {
		c.value(path+".writable", "", "the table %s cannot be written", a.Table)
	}
}

// scaled is false for what changes no number, given or filled in.
func scaled(scale, offset float64) bool { return scale != 0 && scale != 1 || offset != 0 }

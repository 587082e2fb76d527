package site

import (
	"fmt"
	"time"
)

// S7 is one connection to a Siemens S7-300, 400, 1200 or 1500.
type S7 struct {
	Name    string `yaml:"name"`
	Address string `yaml:"address"` // host:port; the port is 102
	// Rack and Slot of the CPU; default 0 and 1, which is an S7-1200 or 1500.
	// An S7-300 has slot 2.
	Rack int  `yaml:"rack,omitempty"`
	Slot *int `yaml:"slot,omitempty"`
	// As what the box connects: pg, op or basic. A CPU has so many connections
	// of each; default pg.
	As       string    `yaml:"as,omitempty"`
	Every    string    `yaml:"every,omitempty"`   // time between two reads of a point; default 1s
	Timeout  string    `yaml:"timeout,omitempty"` // of one answer; default 2s
	Points   []S7Point `yaml:"points"`
	Records  Records   `yaml:"records,omitempty"`
	Commands *Commands `yaml:"commands,omitempty"`
}

// S7Point is one value in the memory of a PLC.
type S7Point struct {
	Name string `yaml:"name"`
	// Address with its type: DB10.DBD4 REAL, DB1.DBX0.3, M0.1, IW64 INT,
	// DB1.DBB10 STRING[20].
	Address string  `yaml:"address"`
	Scale   float64 `yaml:"scale,omitempty"` // value = number * Scale + Offset; default 1
	Offset  float64 `yaml:"offset,omitempty"`
	Unit    string  `yaml:"unit,omitempty"`  // of measure, such as °C
	Every   string  `yaml:"every,omitempty"` // default: that of the connection
	// Writable points may be written by commands.
	Writable bool `yaml:"writable,omitempty"`
	// ReadBack has a write confirmed by reading; default true. Turn it off
	// for what resets itself.
	ReadBack *bool  `yaml:"read_back,omitempty"`
	Report   Report `yaml:"report,omitempty"`
}

// S7Connections are the words of S7.As, with their numbers in the protocol.
var S7Connections = map[string]int{"pg": 1, "op": 2, "basic": 3}

const maxS7Points = 5000

// Common implements Instance.
func (s *S7) Common() Common {
	return Common{Name: s.Name, Records: &s.Records, Commands: s.Commands, Words: ReadingWords}
}

func (s *S7) fill() {
	if s.Slot == nil {
		slot := 1
		s.Slot = &slot
	}
	orString(&s.As, "pg")
	orString(&s.Every, "1s")
	orString(&s.Timeout, "2s")
	for i := range s.Points {
		p := &s.Points[i]
		if p.Scale == 0 {
			p.Scale = 1
		}
		orString(&p.Every, s.Every)
		orBool(&p.ReadBack, true)
	}
	s.Records.fill(s.Name, "{point}")
	s.Commands.fill()
}

func (s *S7) check(c checker, path string) {
	c.text(path+".address", s.Address, dialAddress("102"))
	c.number(path+".rack", s.Rack, 0, 7)
	if s.Slot != nil {
		c.number(path+".slot", *s.Slot, 0, 31)
	}
	c.text(path+".as", s.As, oneOf("pg", "op", "basic"))
	c.text(path+".every", s.Every, span(10*time.Millisecond, 24*time.Hour))
	c.text(path+".timeout", s.Timeout, span(10*time.Millisecond, time.Minute))
	if len(s.Points) > maxS7Points {
		c.key(path+".points", "", "%d points are more than the %d of one connection", len(s.Points), maxS7Points)
	}
	at := func(i int) string { return fmt.Sprintf("%s.points[%d]", path, i) }
	for i := range s.Points {
		c.s7Point(at(i), &s.Points[i])
	}
	c.unique(len(s.Points), func(i int) (string, string) { return s.Points[i].Name, at(i) + ".name" })
}

func (c checker) s7Point(path string, p *S7Point) {
	c.text(path+".every", p.Every, span(10*time.Millisecond, 24*time.Hour))
	c.exception(path+".report", &p.Report)
	if p.Address == "" {
		return
	}
	a, err := ParseS7Address(p.Address)
	if err != nil {
		c.value(path+".address", "", "%v", err)
		return
	}
	switch a.Type {
	case "BOOL", "CHAR", "STRING", "DT", "DTL":
		if scaled(p.Scale, p.Offset) {
			c.key(path, "", "a %s has no scale and no offset", a.Type)
		}
	}
	if p.Writable && (a.Type == "DT" || a.Type == "DTL") {
		c.value(path+".writable", "", "a %s is read only here", a.Type)
	}
	if p.Writable && a.Area == S7Input {
		c.value(path+".writable", "", "an input is what the PLC reads; it cannot be written")
	}
}

package site

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// SNMP is an agent that is asked: a switch, an inverter, an uninterruptible
// power supply.
type SNMP struct {
	Name    string `yaml:"name"`
	Address string `yaml:"address"`           // host:port; the port is 161
	Version string `yaml:"version,omitempty"` // 1, 2c or 3; default 2c, with a user 3
	// Community is the file that holds it, of versions 1 and 2c; default: the
	// word public.
	Community string    `yaml:"community,omitempty"`
	User      *SNMPUser `yaml:"user,omitempty"`    // of version 3
	Context   string    `yaml:"context,omitempty"` // of version 3
	Every     string    `yaml:"every,omitempty"`   // time between two reads of a point or a walk; default 10s
	Timeout   string    `yaml:"timeout,omitempty"` // of one answer; default 2s
	Retries   *int      `yaml:"retries,omitempty"` // of a request without an answer; default 2
	// MaxOIDs and MaxRepetitions of one request; default 20 each.
	MaxOIDs        int         `yaml:"max_oids,omitempty"`
	MaxRepetitions int         `yaml:"max_repetitions,omitempty"`
	Points         []SNMPPoint `yaml:"points,omitempty"`
	Walks          []SNMPWalk  `yaml:"walks,omitempty"`
	Records        Records     `yaml:"records,omitempty"`
	Commands       *Commands   `yaml:"commands,omitempty"`
}

// SNMPUser is a user of version 3 (RFC 3414).
type SNMPUser struct {
	Name         string `yaml:"name"`
	Auth         string `yaml:"auth,omitempty"`          // sha or sha256; default sha256 with AuthPassword
	AuthPassword string `yaml:"auth_password,omitempty"` // file
	Priv         string `yaml:"priv,omitempty"`          // aes; default aes with PrivPassword
	PrivPassword string `yaml:"priv_password,omitempty"` // file
}

// SNMPPoint is one object of an agent.
type SNMPPoint struct {
	Name string `yaml:"name"`
	OID  string `yaml:"oid"` // in numbers, with its instance: 1.3.6.1.2.1.1.3.0
	// Text of an octet string: auto (text where it is text, else hex), text
	// or hex; default auto.
	Text   string  `yaml:"text,omitempty"`
	Scale  float64 `yaml:"scale,omitempty"` // value = number * Scale + Offset; default 1
	Offset float64 `yaml:"offset,omitempty"`
	Unit   string  `yaml:"unit,omitempty"`  // of measure, such as °C
	Every  string  `yaml:"every,omitempty"` // default: that of the agent
	// Writable points may be written by commands.
	Writable bool `yaml:"writable,omitempty"`
	// ReadBack has a write confirmed by reading; default true. Turn it off
	// for what resets itself.
	ReadBack *bool  `yaml:"read_back,omitempty"`
	Report   Report `yaml:"report,omitempty"`
}

// SNMPWalk is a subtree of an agent, such as a column of a table: each of its
// objects is a point whose name is that of the walk, a dot, and what follows
// OID.
type SNMPWalk struct {
	Name    string  `yaml:"name"`
	OID     string  `yaml:"oid"`                // in numbers
	MaxRows int     `yaml:"max_rows,omitempty"` // default 1000; what is behind is not read
	Text    string  `yaml:"text,omitempty"`
	Scale   float64 `yaml:"scale,omitempty"`
	Offset  float64 `yaml:"offset,omitempty"`
	Unit    string  `yaml:"unit,omitempty"`
	Every   string  `yaml:"every,omitempty"`
	Report  Report  `yaml:"report,omitempty"`
}

// SNMPTraps is a receiver of traps and informs.
type SNMPTraps struct {
	Name   string `yaml:"name"`
	Listen string `yaml:"listen,omitempty"` // host:port; default ":162"
	// Community is the file that holds it: versions 1 and 2c with another are
	// refused. Default: any.
	Community string     `yaml:"community,omitempty"`
	Users     []SNMPUser `yaml:"users,omitempty"` // of version 3; without any its traps are refused
	Records   Records    `yaml:"records,omitempty"`
}

// Words of SNMP.Version, SNMPUser.Auth and Priv, and SNMPPoint.Text.
const (
	SNMP1      = "1"
	SNMP2c     = "2c"
	SNMP3      = "3"
	SNMPSHA    = "sha"
	SNMPSHA256 = "sha256"
	SNMPAES    = "aes"
	SNMPAuto   = "auto"
	SNMPText   = "text"
	SNMPHex    = "hex"
)

const (
	maxSNMPPoints = 5000
	maxSNMPRows   = 10000
)

// snmpTrapWords are those of templates, beside those of every protocol.
var snmpTrapWords = []string{"source", "trap", "version"}

// Common implements Instance.
func (s *SNMP) Common() Common {
	return Common{Name: s.Name, Records: &s.Records, Commands: s.Commands, Words: ReadingWords}
}

// Common implements Instance.
func (s *SNMPTraps) Common() Common {
	return Common{Name: s.Name, Records: &s.Records, Words: snmpTrapWords}
}

func (s *SNMP) fill() {
	if s.User != nil {
		s.User.fill()
		orString(&s.Version, SNMP3)
	}
	orString(&s.Version, SNMP2c)
	orString(&s.Every, "10s")
	orString(&s.Timeout, "2s")
	if s.Retries == nil {
		retries := 2
		s.Retries = &retries
	}
	orInt(&s.MaxOIDs, 20)
	orInt(&s.MaxRepetitions, 20)
	for i := range s.Points {
		p := &s.Points[i]
		fillSNMPValue(&p.Text, &p.Scale)
		orString(&p.Every, s.Every)
		orBool(&p.ReadBack, true)
	}
	for i := range s.Walks {
		w := &s.Walks[i]
		fillSNMPValue(&w.Text, &w.Scale)
		orString(&w.Every, s.Every)
		orInt(&w.MaxRows, 1000)
	}
	s.Records.fill(s.Name, "{point}")
	s.Commands.fill()
}

func fillSNMPValue(text *string, scale *float64) {
	orString(text, SNMPAuto)
	if *scale == 0 {
		*scale = 1
	}
}

func (s *SNMPTraps) fill() {
	orString(&s.Listen, ":162")
	for i := range s.Users {
		s.Users[i].fill()
	}
	s.Records.fill(s.Name, "{source}")
}

func (u *SNMPUser) fill() {
	if u.AuthPassword != "" {
		orString(&u.Auth, SNMPSHA256)
	}
	if u.PrivPassword != "" {
		orString(&u.Priv, SNMPAES)
	}
}

func (s *SNMP) check(c checker, path string) {
	c.text(path+".address", s.Address, dialAddress("161"))
	c.text(path+".version", s.Version, oneOf(SNMP1, SNMP2c, SNMP3))
	c.secret(path+".community", s.Community)
	if s.User != nil {
		c.snmpUser(path+".user", s.User)
	}
	if s.Version != "" && (s.Version == SNMP3) != (s.User != nil) {
		c.key(path, "", `version: "3" and the section user need each other`)
	}
	if s.User != nil && s.Community != "" {
		c.key(path+".community", "", "is of versions 1 and 2c; version 3 has a user")
	}
	if s.User == nil && s.Context != "" {
		c.key(path+".context", "", "is of version 3")
	}
	c.text(path+".every", s.Every, span(10*time.Millisecond, 24*time.Hour))
	c.text(path+".timeout", s.Timeout, span(10*time.Millisecond, time.Minute))
	if s.Retries != nil {
		c.number(path+".retries", *s.Retries, 0, 10)
	}
	c.number(path+".max_oids", s.MaxOIDs, 1, 100)
	c.number(path+".max_repetitions", s.MaxRepetitions, 1, 200)
	if n := len(s.Points) + len(s.Walks); n == 0 || n > maxSNMPPoints {
		c.key(path, "", "want 1 to %d points and walks, got %d", maxSNMPPoints, n)
	}
	point := func(i int) string { return fmt.Sprintf("%s.points[%d]", path, i) }
	for i := range s.Points {
		p := &s.Points[i]
		c.snmpValue(point(i), p.OID, p.Text, p.Every, &p.Report)
	}
	walk := func(i int) string { return fmt.Sprintf("%s.walks[%d]", path, i) }
	for i := range s.Walks {
		w := &s.Walks[i]
		c.snmpValue(walk(i), w.OID, w.Text, w.Every, &w.Report)
		c.number(walk(i)+".max_rows", w.MaxRows, 1, maxSNMPRows)
	}
	c.unique(len(s.Points)+len(s.Walks), func(i int) (string, string) {
		if i < len(s.Points) {
			return s.Points[i].Name, point(i) + ".name"
		}
		i -= len(s.Points)
		return s.Walks[i].Name, walk(i) + ".name"
	})
}

func (s *SNMPTraps) check(c checker, path string) {
	c.text(path+".listen", s.Listen, listenAddress)
	c.secret(path+".community", s.Community)
	at := func(i int) string { return fmt.Sprintf("%s.users[%d]", path, i) }
	for i := range s.Users {
		c.snmpUser(at(i), &s.Users[i])
	}
	c.unique(len(s.Users), func(i int) (string, string) { return s.Users[i].Name, at(i) + ".name" })
	c.text(path+".records.format", s.Records.Format, oneOf(FormatJSON, FormatRaw))
}

func (c checker) snmpUser(path string, u *SNMPUser) {
	c.text(path+".auth", u.Auth, oneOf(SNMPSHA, SNMPSHA256))
	c.secret(path+".auth_password", u.AuthPassword)
	c.text(path+".priv", u.Priv, oneOf(SNMPAES))
	c.secret(path+".priv_password", u.PrivPassword)
	switch {
	case u.Auth != "" && u.AuthPassword == "" || u.Priv != "" && u.PrivPassword == "":
		c.key(path, "", "auth needs auth_password, and priv priv_password: names of files")
	case u.PrivPassword != "" && u.AuthPassword == "":
		c.key(path, "", "the protocol has no priv without auth: give auth_password too")
	}
}

func (c checker) snmpValue(path, oid, text, every string, report *Report) {
	c.text(path+".oid", oid, func(s string) fault {
		if !ValidOID(s) {
			return faultf("want an object identifier in numbers, such as 1.3.6.1.2.1.1.3.0, got %q", shorten(s))
		}
		return fault{}
	})
	c.text(path+".text", text, oneOf(SNMPAuto, SNMPText, SNMPHex))
	c.text(path+".every", every, span(10*time.Millisecond, 24*time.Hour))
	c.exception(path+".report", report)
}

// ValidOID says whether s is an object identifier in numbers, as RFC 2578,
// 3.5 bounds it: at most 128 of them, of 32 bits.
func ValidOID(s string) bool {
	parts := strings.Split(s, ".")
	if len(parts) < 2 || len(parts) > 128 {
		return false
	}
	for i, p := range parts {
		n, err := strconv.ParseUint(p, 10, 32)
		if err != nil || p != strconv.FormatUint(n, 10) || i == 0 && n > 2 || i == 1 && n > 39 {
			return false
		}
	}
	return true
}

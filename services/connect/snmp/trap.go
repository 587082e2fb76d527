package snmp

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/gosnmp/gosnmp"

	"github.com/waysideos/wayside/services/connect"
	"github.com/waysideos/wayside/services/site"
)

// message is a record of format json.
type message struct {
	Version    string     `json:"version"`
	Trap       string     `json:"trap"` // OID of the notification
	Inform     bool       `json:"inform,omitempty"`
	Enterprise string     `json:"enterprise,omitempty"` // of version 1
	Agent      string     `json:"agent,omitempty"`      // of version 1: the address that the trap gives
	Uptime     uint64     `json:"uptime"`               // of the sender, in hundredths of a second
	User       string     `json:"user,omitempty"`       // of version 3
	Context    string     `json:"context,omitempty"`    // of version 3
	Variables  []variable `json:"variables"`
	Source     string     `json:"source"`
	BoxTime    string     `json:"box_time"`
}

// variable is one object of a notification.
type variable struct {
	OID   string `json:"oid"`
	Type  string `json:"type"`
	Value any    `json:"value"`
}

const (
	trapOID = ".1.3.6.1.6.3.1.1.4.1.0" // snmpTrapOID.0
	// standardTraps are those of version 1 with a number of their own, less
	// one (RFC 3584, 3.1).
	standardTraps    = ".1.3.6.1.6.3.1.1.5"
	enterpriseTrap   = 6
	boxTimeFormat    = "2006-01-02T15:04:05.000Z07:00"
	snmpEngineIDLess = 5 // the shortest engine identifier (RFC 3411)
)

// parser turns datagrams into notifications.
type parser struct {
	community string // "": any
	users     map[string]gosnmp.SnmpV3MsgFlags
	library   *gosnmp.GoSNMP
	engine    *engine // of informs of version 3
	raw       bool
}

// newParser is of the receiver of that name.
func newParser(name, community string, raw bool) *parser {
	return &parser{
		engine: newEngine(name, time.Now()), community: community, raw: raw, users: map[string]gosnmp.SnmpV3MsgFlags{},
		// The version says only that version 3 is checked where it comes.
		library: &gosnmp.GoSNMP{Version: gosnmp.Version3, SecurityModel: gosnmp.UserSecurityModel},
	}
}

// add is a user of version 3; its messages must have at least that security.
func (p *parser) add(sp *gosnmp.UsmSecurityParameters, least gosnmp.SnmpV3MsgFlags) error {
	table := p.library.GetTrapSecurityParametersTable()
	if table == nil {
		table = gosnmp.NewSnmpV3SecurityParametersTable(gosnmp.Logger{})
		p.library.SetTrapSecurityParametersTable(table)
	}
	p.users[sp.UserName] = least
	return table.Add(sp.UserName, sp)
}

// packet reads a datagram as a trap or an inform that may come from its
// sender. The library panics on some headers that are cut off.
func (p *parser) packet(b []byte) (packet *gosnmp.SnmpPacket, err error) {
	defer func() {
		if r := recover(); r != nil {
			packet, err = nil, errors.New("no SNMP message: its header is broken")
		}
	}()
	if len(p.users) == 0 && isVersion3(b) {
		return nil, errors.New("version 3, and the profile has no users")
	}
	packet, err = p.library.UnmarshalTrap(b, true)
	if err != nil {
		return nil, fmt.Errorf("no SNMP message, or not of a user: %v", err)
	}
	switch packet.Version {
	case gosnmp.Version1, gosnmp.Version2c:
		if p.community != "" && packet.Community != p.community {
			return nil, errors.New("of another community")
		}
	case gosnmp.Version3:
		if err := p.allowed(packet); err != nil {
			return nil, err
		}
	default:
		return nil, fmt.Errorf("version %d is unknown", packet.Version)
	}
	v1 := packet.Version == gosnmp.Version1
	switch packet.PDUType {
	case gosnmp.Trap:
		if v1 {
			return packet, nil
		}
	case gosnmp.SNMPv2Trap:
		if !v1 {
			return packet, nil
		}
	case gosnmp.InformRequest:
		if !v1 {
			return packet, nil
		}
	}
	return nil, errors.New("neither a trap nor an inform")
}

// allowed holds a message of version 3 to its user: the library does not ask
// for priv, nor of a sender to name its engine.
func (p *parser) allowed(packet *gosnmp.SnmpPacket) error {
	sp, ok := packet.SecurityParameters.(*gosnmp.UsmSecurityParameters)
	if !ok || packet.SecurityModel != gosnmp.UserSecurityModel || len(sp.AuthoritativeEngineID) < snmpEngineIDLess {
		return errors.New("version 3 without a user")
	}
	least, known := p.users[sp.UserName]
	if !known || packet.MsgFlags&least != least {
		return errors.New("less secure than the profile wants of its user")
	}
	return nil
}

// record of a packet; b is the datagram.
func (p *parser) record(packet *gosnmp.SnmpPacket, b []byte, from net.Addr, now time.Time) (connect.Record, error) {
	m, err := describe(packet)
	if err != nil {
		return connect.Record{}, err
	}
	m.Source, m.BoxTime = hostOf(from), now.UTC().Format(boxTimeFormat)
	r := connect.Record{Value: b, Time: now, Values: map[string]string{"source": m.Source, "trap": m.Trap, "version": m.Version}}
	if !p.raw {
		r.Value, err = json.Marshal(m)
	}
	return r, err
}

// describe says of all versions the same: a trap of version 1 gets the OID
// that RFC 3584, 3.1 has for it.
func describe(packet *gosnmp.SnmpPacket) (message, error) {
	m := message{Variables: []variable{}, Inform: packet.PDUType == gosnmp.InformRequest}
	for _, pdu := range packet.Variables {
		v, err := value{}.decode(pdu)
		if err != nil {
			v = nil
		}
		switch {
		case pdu.Name == sysUpTime && packet.Version != gosnmp.Version1:
			m.Uptime, _ = v.(uint64)
			continue
		case pdu.Name == trapOID:
			m.Trap, _ = v.(string)
			continue
		}
		m.Variables = append(m.Variables, variable{strings.TrimPrefix(pdu.Name, "."), pdu.Type.String(), v})
	}
	switch packet.Version {
	case gosnmp.Version1:
		m.Version, m.Agent = site.SNMP1, packet.AgentAddress
		m.Enterprise, m.Uptime = strings.TrimPrefix(packet.Enterprise, "."), uint64(packet.Timestamp)
		m.Trap = fmt.Sprintf("%s.%d", standardTraps[1:], packet.GenericTrap+1)
		if packet.GenericTrap == enterpriseTrap {
			m.Trap = fmt.Sprintf("%s.0.%d", m.Enterprise, packet.SpecificTrap)
		}
	case gosnmp.Version2c:
		m.Version = site.SNMP2c
	default:
		m.Version, m.Context = site.SNMP3, packet.ContextName
		m.User = packet.SecurityParameters.(*gosnmp.UsmSecurityParameters).UserName
	}
	if m.Trap == "" {
		return m, errors.New("a notification that does not say which: it has no snmpTrapOID.0")
	}
	return m, nil
}

func hostOf(a net.Addr) string {
	if host, _, err := net.SplitHostPort(a.String()); err == nil {
		return host
	}
	return a.String()
}

// isVersion3 looks at the version of what may be an SNMP message.
func isVersion3(b []byte) bool {
	_, in, _ := cutTLV(b)
	tag, v, _ := cutTLV(in)
	return tag == 2 && len(v) > 0 && v[len(v)-1] == 3
}

// ask answers a sender of informs of version 3 that asks who is here; nil: it
// does not.
func (p *parser) ask(b []byte) []byte {
	if len(p.users) == 0 || !isVersion3(b) {
		return nil
	}
	return p.engine.discovery(b, time.Now())
}

// refusal is what the sender of an inform hears that has to ask first, or
// again; nil: it is taken.
func (p *parser) refusal(packet *gosnmp.SnmpPacket) []byte {
	if packet.Version != gosnmp.Version3 || packet.PDUType != gosnmp.InformRequest {
		return nil
	}
	return p.engine.refusal(packet, time.Now())
}

// answer acknowledges an inform that was taken; b is its datagram.
func (p *parser) answer(packet *gosnmp.SnmpPacket, b []byte) ([]byte, error) {
	if packet.Version == gosnmp.Version3 {
		return p.engine.response(packet, time.Now())
	}
	return response(b), nil
}

// response is the answer to an inform of version 2c: the same message with
// another type (RFC 3416, 4.2.7). nil: it is none.
func response(inform []byte) []byte {
	_, in, _ := cutTLV(inform)
	_, _, rest := cutTLV(in)  // version
	_, _, rest = cutTLV(rest) // community
	if len(rest) == 0 || rest[0] != byte(gosnmp.InformRequest) {
		return nil
	}
	out := append([]byte(nil), inform...)
	out[len(inform)-len(rest)] = byte(gosnmp.GetResponse)
	return out
}

// cutTLV takes the first value off BER bytes (X.690); nothing where they are
// broken, or longer than a datagram.
func cutTLV(b []byte) (tag byte, in, rest []byte) {
	if len(b) < 2 {
		return 0, nil, nil
	}
	n, at := int(b[1]), 2
	if n >= 0x80 {
		at += n - 0x80
		if at > 6 || at > len(b) {
			return 0, nil, nil
		}
		n = 0
		for _, c := range b[2:at] {
			n = n<<8 | int(c)
		}
	}
	if n > len(b)-at {
		return 0, nil, nil
	}
	return b[0], b[at : at+n], b[at+n:]
}

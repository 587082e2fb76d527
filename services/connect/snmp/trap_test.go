package snmp

import (
	"encoding/json"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/gosnmp/gosnmp"

	"github.com/waysideos/wayside/services/connect"
	"github.com/waysideos/wayside/services/connect/connecttest"
	"github.com/waysideos/wayside/services/site"
)

var sender = &net.UDPAddr{IP: net.IPv4(192, 0, 2, 9), Port: 40000}

// version1 is a trap of version 1.
func version1(t testing.TB, generic, specific int) []byte {
	t.Helper()
	p := &gosnmp.SnmpPacket{
		Version: gosnmp.Version1, Community: "public", PDUType: gosnmp.Trap,
		SnmpTrap:  gosnmp.SnmpTrap{Enterprise: ".1.3.6.1.4.1.9", AgentAddress: "192.0.2.1", GenericTrap: generic, SpecificTrap: specific, Timestamp: 77},
		Variables: []gosnmp.SnmpPDU{{Name: base + ".1", Type: gosnmp.OctetString, Value: "hot"}},
	}
	b, err := p.MarshalMsg()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestTraps(t *testing.T) {
	hot := []variable{{base[1:] + ".1", "OctetString", "hot"}}
	first := message{
		Version: "1", Trap: "1.3.6.1.6.3.1.1.5.4", Enterprise: "1.3.6.1.4.1.9", Agent: "192.0.2.1", Uptime: 77,
		Variables: hot, Source: "192.0.2.9", BoxTime: "2026-11-28T15:00:00.000Z",
	}
	own, second, inform := first, first, first
	own.Trap = "1.3.6.1.4.1.9.0.17"
	second = message{Version: "2c", Trap: "1.3.6.1.6.3.1.1.5.3", Uptime: 4200, Variables: hot, Source: first.Source, BoxTime: first.BoxTime}
	inform = second
	inform.Inform = true
	object := gosnmp.SnmpPDU{Name: base + ".1", Type: gosnmp.OctetString, Value: "hot"}
	for name, c := range map[string]struct {
		b    []byte
		want message
	}{
		"version 1":          {version1(t, 3, 0), first},
		"version 1, its own": {version1(t, 6, 17), own},
		"version 2c":         {notification(t, gosnmp.SNMPv2Trap, 1, object), second},
		"inform":             {notification(t, gosnmp.InformRequest, 1, object), inform},
	} {
		p := newParser("box/dev", "public", false)
		packet, err := p.packet(c.b)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		r, err := p.record(packet, c.b, sender, time.Date(2026, 11, 28, 15, 0, 0, 0, time.UTC))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		var got message
		if err := json.Unmarshal(r.Value, &got); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
		if r.Values["trap"] != c.want.Trap || r.Values["source"] != "192.0.2.9" || r.Values["version"] != c.want.Version {
			t.Errorf("%s: words are %v", name, r.Values)
		}
		p.raw = true
		if r, err := p.record(packet, c.b, sender, time.Now()); err != nil || string(r.Value) != string(c.b) {
			t.Errorf("%s: raw is %q, %v", name, r.Value, err)
		}
	}
}

// version3 is a trap of version 3 of a user, at that security.
func version3(t testing.TB, name, auth, priv string, flags gosnmp.SnmpV3MsgFlags) []byte {
	t.Helper()
	sp := &gosnmp.UsmSecurityParameters{
		UserName: name, AuthoritativeEngineID: "\x80\x00\x1f\x88\x04box", AuthoritativeEngineBoots: 1, AuthoritativeEngineTime: 1,
		AuthenticationProtocol: gosnmp.SHA256, AuthenticationPassphrase: auth, PrivacyProtocol: gosnmp.AES, PrivacyPassphrase: priv,
	}
	if err := sp.InitSecurityKeys(); err != nil {
		t.Fatal(err)
	}
	return encode3(t, sp, flags, gosnmp.SNMPv2Trap)
}

func encode3(t testing.TB, sp *gosnmp.UsmSecurityParameters, flags gosnmp.SnmpV3MsgFlags, kind gosnmp.PDUType) []byte {
	t.Helper()
	g := &gosnmp.GoSNMP{Version: gosnmp.Version3, SecurityModel: gosnmp.UserSecurityModel, MsgFlags: flags, SecurityParameters: sp, ContextEngineID: "x"}
	b, err := g.SnmpEncodePacket(kind, []gosnmp.SnmpPDU{
		{Name: sysUpTime, Type: gosnmp.TimeTicks, Value: uint32(4200)},
		{Name: trapOID, Type: gosnmp.ObjectIdentifier, Value: ".1.3.6.1.6.3.1.1.5.3"},
	}, 0, 0)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// secure is a parser that knows one user.
func secure(t testing.TB) *parser {
	t.Helper()
	p := newParser("box/dev", "", false)
	err := p.add(&gosnmp.UsmSecurityParameters{
		UserName: "till", AuthenticationProtocol: gosnmp.SHA256, AuthenticationPassphrase: "twelve monkeys",
		PrivacyProtocol: gosnmp.AES, PrivacyPassphrase: "seven samurai",
	}, gosnmp.AuthPriv)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestUsers(t *testing.T) {
	good := version3(t, "till", "twelve monkeys", "seven samurai", gosnmp.AuthPriv)
	packet, err := secure(t).packet(good)
	if err != nil {
		t.Fatal(err)
	}
	if m, err := describe(packet); err != nil || m.User != "till" || m.Version != "3" || m.Uptime != 4200 {
		t.Errorf("got %+v, %v", m, err)
	}
	changed := append([]byte(nil), good...)
	changed[len(changed)-1] ^= 1
	for name, c := range map[string]struct {
		p    *parser
		b    []byte
		want string
	}{
		"no users":       {newParser("box/dev", "", false), good, "no users"},
		"other user":     {secure(t), version3(t, "tell", "twelve monkeys", "seven samurai", gosnmp.AuthPriv), "not of a user"},
		"wrong password": {secure(t), version3(t, "till", "eleven monkeys", "seven samurai", gosnmp.AuthPriv), "not of a user"},
		"no priv":        {secure(t), version3(t, "till", "twelve monkeys", "seven samurai", gosnmp.AuthNoPriv), "less secure"},
		"no auth":        {secure(t), version3(t, "till", "twelve monkeys", "seven samurai", gosnmp.NoAuthNoPriv), "not of a user"},
		"changed":        {secure(t), changed, "not of a user"},
	} {
		if _, err := c.p.packet(c.b); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want %q", name, err, c.want)
		}
	}
}

// TestInforms3: a sender of version 3 learns whom it speaks to, and what the
// time is there; only then its inform is taken.
func TestInforms3(t *testing.T) {
	p := secure(t)
	inform := func(engine string, boots, at uint32) []byte {
		sp := &gosnmp.UsmSecurityParameters{
			UserName: "till", AuthoritativeEngineID: engine, AuthoritativeEngineBoots: boots, AuthoritativeEngineTime: at,
			AuthenticationProtocol: gosnmp.SHA256, AuthenticationPassphrase: "twelve monkeys", PrivacyProtocol: gosnmp.AES, PrivacyPassphrase: "seven samurai",
		}
		if err := sp.InitSecurityKeys(); err != nil {
			t.Fatal(err)
		}
		return encode3(t, sp, gosnmp.AuthPriv|gosnmp.Reportable, gosnmp.InformRequest)
	}
	// read is an answer as the sender sees it.
	read := func(b []byte) *gosnmp.SnmpPacket {
		t.Helper()
		sp := &gosnmp.UsmSecurityParameters{
			UserName: "till", AuthenticationProtocol: gosnmp.SHA256, AuthenticationPassphrase: "twelve monkeys",
			PrivacyProtocol: gosnmp.AES, PrivacyPassphrase: "seven samurai", AuthoritativeEngineID: p.engine.id,
		}
		got, err := (&gosnmp.GoSNMP{Version: gosnmp.Version3, SecurityModel: gosnmp.UserSecurityModel, SecurityParameters: sp}).UnmarshalTrap(b, false)
		if err != nil {
			t.Fatalf("%x: %v", b, err)
		}
		return got
	}
	for name, c := range map[string]struct {
		b    []byte
		want string
	}{
		"another engine": {inform("\x80\x00\x1f\x88\x04other", 1, 1), unknownEngine},
		"of before":      {inform(p.engine.id, p.engine.boots-1, 1), notInTimeWindow},
		"too old":        {inform(p.engine.id, p.engine.boots, timeWindow+10), notInTimeWindow},
	} {
		packet, err := p.packet(c.b)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		b := p.refusal(packet)
		if b == nil {
			t.Errorf("%s: was taken", name)
			continue
		}
		if c.want == notInTimeWindow {
			r := read(b)
			sp := r.SecurityParameters.(*gosnmp.UsmSecurityParameters)
			if r.PDUType != gosnmp.Report || r.Variables[0].Name != c.want || r.MsgFlags != gosnmp.AuthNoPriv || sp.AuthoritativeEngineBoots != p.engine.boots {
				t.Errorf("%s: got %+v", name, r)
			}
		}
	}
	packet, err := p.packet(inform(p.engine.id, p.engine.boots, 0))
	if err != nil {
		t.Fatal(err)
	}
	if p.refusal(packet) != nil {
		t.Error("a good inform was refused")
	}
	first, err := p.answer(packet, nil)
	if err != nil {
		t.Fatal(err)
	}
	if r := read(first); r.PDUType != gosnmp.GetResponse || r.RequestID != packet.RequestID || r.MsgID != packet.MsgID || len(r.Variables) != 2 {
		t.Errorf("the answer is %+v", r)
	}
	if second, err := p.answer(packet, nil); err != nil || string(first) == string(second) {
		t.Errorf("the same twice: a salt was used again, %v", err)
	}
}

// TestRefused: what is no notification is a dead letter, and what follows it
// comes all the same.
func TestRefused(t *testing.T) {
	b, at, dir := connecttest.NewBroker(t), connecttest.FreeAddress(t), t.TempDir()
	secret(t, dir, "word", "public")
	p, err := site.Parse("test", fmt.Appendf(nil, "version: 1\nsite: a\nconnect: {snmp_traps: [{name: dev, listen: %q, community: word}]}\n", at))
	if err != nil {
		t.Fatal(err)
	}
	c, err := NewReceiver(p.Connect.SNMPTraps[0])
	if err != nil {
		t.Fatal(err)
	}
	r := connecttest.Start(t, b.Addr, nil, dir, connect.NewInstance(p.Connect.Instances()[0], c))
	connecttest.Until(t, "the receiver listens", func() bool { return r.State("dev").State == connect.Running })
	conn, err := net.Dial("udp", at)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	foreign := strings.Replace(string(version1(t, 3, 0)), "public", "secret", 1)
	want := []string{"no SNMP message", "of another community", "neither a trap", "no users", "which: it has no snmpTrapOID"}
	nameless := notification(t, gosnmp.SNMPv2Trap, 1)
	nameless[len(nameless)-13]++ // of snmpTrapOID.0
	for _, d := range []string{
		"hello", foreign, string(notification(t, gosnmp.GetRequest, 1)), string(version3(t, "till", "twelve monkeys", "seven samurai", gosnmp.AuthPriv)),
		string(nameless), string(version1(t, 3, 0)),
	} {
		if _, err := conn.Write([]byte(d)); err != nil {
			t.Fatal(err)
		}
	}
	if rec := b.Read("dev", 1)[0]; string(rec.Key) != "127.0.0.1" || !strings.Contains(string(rec.Value), `"agent":"192.0.2.1"`) {
		t.Errorf("the record is %s: %s", rec.Key, rec.Value)
	}
	for i, rec := range b.Read("dead-letters.dev", len(want)) {
		if reason := string(rec.Headers[0].Value); !strings.Contains(reason, want[i]) {
			t.Errorf("dead letter %d: %s, want %s", i, reason, want[i])
		}
	}
}

// TestResponse: lengths may be written longer than they need to be, and net-snmp
// does so.
func TestResponse(t *testing.T) {
	b := []byte{0x30, 0x82, 0, 0x0d, 2, 1, 1, 4, 0x81, 1, 'p', 0xa6, 3, 2, 1, 5, 0}
	want := append([]byte(nil), b...)
	want[11] = 0xa2
	if got := response(b); string(got) != string(want) {
		t.Errorf("got %x, want %x", got, want)
	}
	if got := response(b[:8]); got != nil {
		t.Errorf("got %x for half a message", got)
	}
}

// FuzzPacket: nothing that comes from the network does harm, and what is
// taken for an inform has an answer that is one.
func FuzzPacket(f *testing.F) {
	f.Add(version1(f, 3, 0))
	f.Add(notification(f, gosnmp.SNMPv2Trap, 1, number(base, 1)))
	f.Add(notification(f, gosnmp.InformRequest, 1<<30, number(base, 1)))
	f.Add(version3(f, "till", "twelve monkeys", "seven samurai", gosnmp.AuthPriv))
	parsers := []*parser{newParser("box/dev", "", false), secure(f)}
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, p := range parsers {
			_ = p.ask(b)
			packet, err := p.packet(b)
			if err != nil {
				continue
			}
			if r, err := p.record(packet, b, sender, time.Now()); err == nil && !json.Valid(r.Value) {
				t.Errorf("%x became %s", b, r.Value)
			}
			if packet.PDUType != gosnmp.InformRequest {
				continue
			}
			if packet.Version == gosnmp.Version3 {
				if _, err := p.answer(packet, b); err != nil && p.refusal(packet) == nil {
					t.Errorf("no answer to %x: %v", b, err)
				}
				continue
			}
			answer, err := (&gosnmp.GoSNMP{}).SnmpDecodePacket(response(b))
			if err != nil || answer.PDUType != gosnmp.GetResponse || answer.RequestID != packet.RequestID {
				t.Errorf("the answer to %x is %+v, %v", b, answer, err)
			}
		}
	})
}

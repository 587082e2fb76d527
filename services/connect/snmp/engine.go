package snmp

import (
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"time"

	"github.com/gosnmp/gosnmp"
)

// engine is who takes informs of version 3: their receiver is the one whose
// identifier and clock they carry, as proof that they are not old (RFC 3414,
// 1.5.1). The library's listener neither keeps a clock nor compares one.
type engine struct {
	id      string
	boots   uint32 // larger than at every start before
	started time.Time
}

const (
	timeWindow       = 150 // seconds (RFC 3414, 2.2.3)
	unknownEngine    = ".1.3.6.1.6.3.15.1.1.4.0"
	notInTimeWindow  = ".1.3.6.1.6.3.15.1.1.2.0"
	engineFormat     = "\x80\x00\x00\x00\x05" // no enterprise; octets follow (RFC 3411, 5)
	engineIDOctets   = 8
	privacySaltBytes = 8
)

// engineEpoch lets boots, which has 31 bits, be seconds until the year 2094.
// They need no storage; a clock that was set back has senders refused until
// they ask anew.
var engineEpoch = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

func newEngine(name string, now time.Time) *engine {
	sum := sha256.Sum256([]byte(name))
	return &engine{
		id: engineFormat + string(sum[:engineIDOctets]), started: now,
		boots: uint32(max(1, now.Sub(engineEpoch)/time.Second)),
	}
}

func (e *engine) time(now time.Time) uint32 { return uint32(now.Sub(e.started) / time.Second) }

// stamp has a message say whose it is, and when it was made. A salt is used
// once.
func (e *engine) stamp(sp *gosnmp.UsmSecurityParameters, now time.Time) {
	sp.AuthoritativeEngineBoots, sp.AuthoritativeEngineTime = e.boots, e.time(now)
	sp.PrivacyParameters = make([]byte, privacySaltBytes)
	_, _ = rand.Read(sp.PrivacyParameters) // never fails
}

// discovery is the answer to a sender that asks who is here (RFC 3414, 4): a
// message without an engine, nor security. nil: b is none.
func (e *engine) discovery(b []byte, now time.Time) []byte {
	_, msg, _ := cutTLV(b)
	version, _, rest := cutTLV(msg)
	_, global, rest := cutTLV(rest)
	_, id, g := cutTLV(global)
	_, _, g = cutTLV(g) // size
	_, flags, _ := cutTLV(g)
	_, security, rest := cutTLV(rest)
	_, usm, _ := cutTLV(security)
	octets, engineID, _ := cutTLV(usm)
	_, scoped, _ := cutTLV(rest)
	_, _, scoped = cutTLV(scoped) // context engine
	_, _, scoped = cutTLV(scoped) // context
	_, pdu, _ := cutTLV(scoped)
	_, request, _ := cutTLV(pdu)
	if version != 2 || octets != 4 || len(engineID) > 0 || len(request) == 0 || len(flags) != 1 || gosnmp.SnmpV3MsgFlags(flags[0]) != gosnmp.Reportable {
		return nil
	}
	sp := &gosnmp.UsmSecurityParameters{AuthoritativeEngineID: e.id}
	report, _ := e.report(sp, gosnmp.NoAuthNoPriv, number32(id), number32(request), unknownEngine, now)
	return report
}

// refusal is what an inform's sender hears whose message is not for this
// engine, or too old; nil: take it. The message has its user's security.
func (e *engine) refusal(p *gosnmp.SnmpPacket, now time.Time) []byte {
	sp := p.SecurityParameters.(*gosnmp.UsmSecurityParameters)
	age := int64(e.time(now)) - int64(sp.AuthoritativeEngineTime)
	var report []byte
	switch {
	case sp.AuthoritativeEngineID != e.id:
		report, _ = e.report(&gosnmp.UsmSecurityParameters{AuthoritativeEngineID: e.id}, gosnmp.NoAuthNoPriv, p.MsgID, p.RequestID, unknownEngine, now)
	case p.MsgFlags&gosnmp.AuthNoPriv > 0 && (sp.AuthoritativeEngineBoots != e.boots || age > timeWindow || age < -timeWindow):
		report, _ = e.report(sp, gosnmp.AuthNoPriv, p.MsgID, p.RequestID, notInTimeWindow, now)
	}
	return report
}

func (e *engine) report(sp *gosnmp.UsmSecurityParameters, flags gosnmp.SnmpV3MsgFlags, id, request uint32, counter string, now time.Time) ([]byte, error) {
	e.stamp(sp, now)
	p := &gosnmp.SnmpPacket{
		Version: gosnmp.Version3, MsgID: id, MsgFlags: flags, SecurityModel: gosnmp.UserSecurityModel, SecurityParameters: sp,
		ContextEngineID: e.id, PDUType: gosnmp.Report, RequestID: request,
		Variables: []gosnmp.SnmpPDU{{Name: counter, Type: gosnmp.Counter32, Value: uint32(1)}},
	}
	return p.MarshalMsg()
}

// response acknowledges an inform that was taken, as secure as it came.
func (e *engine) response(p *gosnmp.SnmpPacket, now time.Time) ([]byte, error) {
	sp, ok := p.SecurityParameters.(*gosnmp.UsmSecurityParameters)
	if !ok {
		return nil, errors.New("an inform without a user")
	}
	e.stamp(sp, now)
	out := *p
	out.PDUType, out.MsgFlags = gosnmp.GetResponse, p.MsgFlags&gosnmp.AuthPriv
	return out.MarshalMsg()
}

// number32 of BER octets.
func number32(b []byte) (n uint32) {
	for _, c := range b {
		n = n<<8 | uint32(c)
	}
	return n
}

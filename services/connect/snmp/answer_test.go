package snmp

import (
	"encoding/json"
	"testing"

	"github.com/gosnmp/gosnmp"

	"github.com/waysideos/wayside/services/site"
)

// FuzzAnswer: whatever an agent answers, a value of it can be told, or there
// is an error. The library panics on some headers that are cut off; the frame
// takes that for the agent's being lost.
func FuzzAnswer(f *testing.F) {
	for _, pdu := range []gosnmp.SnmpPDU{
		number(base, -1),
		{Name: base, Type: gosnmp.OctetString, Value: "hot\x00"},
		{Name: base, Type: gosnmp.Counter64, Value: uint64(1 << 63)},
		{Name: base, Type: gosnmp.IPAddress, Value: "192.0.2.1"},
		{Name: base, Type: gosnmp.NoSuchObject},
	} {
		p := &gosnmp.SnmpPacket{Version: gosnmp.Version2c, Community: "public", PDUType: gosnmp.GetResponse, Variables: []gosnmp.SnmpPDU{pdu}}
		b, err := p.MarshalMsg()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var packet *gosnmp.SnmpPacket
		func() {
			defer func() { _ = recover() }()
			packet, _ = (&gosnmp.GoSNMP{}).SnmpDecodePacket(b)
		}()
		if packet == nil {
			return
		}
		for _, pdu := range packet.Variables {
			for _, v := range []value{{}, {text: site.SNMPText, scale: 0.1, offset: 1}, {text: site.SNMPHex}} {
				if got, err := v.decode(pdu); err == nil {
					if _, err := json.Marshal(got); err != nil && !isFloat(got) { // NaN is bad quality, later
						t.Errorf("%v: %v", got, err)
					}
				}
			}
		}
	})
}

func isFloat(v any) bool { _, ok := v.(float64); return ok }

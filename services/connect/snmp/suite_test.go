package snmp

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gosnmp/gosnmp"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/waysideos/wayside/services/connect"
	"github.com/waysideos/wayside/services/connect/connecttest"
	"github.com/waysideos/wayside/services/site"
)

const suiteObject = ".1.3.6.1.4.1.99999.1.0"

// suiteAgent has one object, and says when it was asked for.
type suiteAgent struct {
	t    *testing.T
	addr string

	mu    sync.Mutex
	a     *agent
	value int
	fault connecttest.Fault
}

func number(name string, n int) gosnmp.SnmpPDU {
	return gosnmp.SnmpPDU{Name: name, Type: gosnmp.Integer, Value: n}
}

func (s *suiteAgent) Start() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.a = serve(s.t, s.addr, number(suiteObject, s.value))
}

func (s *suiteAgent) Stop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.a != nil {
		s.a.stop()
		s.a = nil
	}
}

// Emit returns when the agent was asked for the value, if it is well.
func (s *suiteAgent) Emit(value int64) error {
	s.mu.Lock()
	a, well := s.a, s.fault == connecttest.Well
	s.value = int(value)
	s.mu.Unlock()
	if a == nil {
		return nil
	}
	before := 0
	a.set(func() { a.objects[suiteObject] = number(suiteObject, int(value)); before = len(a.requests) })
	return connecttest.Asked(well, before, func() int { return len(a.asked()) })
}

func (s *suiteAgent) Do(f connecttest.Fault) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fault = f
	s.a.set(func() {
		s.a.delay, s.a.mangle = 0, nil
		switch f {
		case connecttest.Malformed:
			s.a.mangle = func(b []byte) []byte { return b[:len(b)-3] }
		case connecttest.Slow:
			s.a.delay = 20 * time.Second
		}
	})
	return true
}

func TestSuite(t *testing.T) {
	connecttest.Run(t, connecttest.Case{
		Protocol: "snmp", Polled: true, Readings: true,
		New: func(t *testing.T, secrets string) (string, connecttest.Device) {
			secret(t, secrets, "community", "not to be logged")
			s := &suiteAgent{t: t, addr: connecttest.FreeAddress(t), value: -1} // which is no value of the suite
			return fmt.Sprintf(`name: dev
address: %s
community: community
every: 10ms
timeout: 3s
retries: 0
points:
  - {name: value, oid: %s, report: {changes: true}}
`, s.addr, suiteObject[1:]), s
		},
		Make: func(p *site.Profile) (connect.Connector, error) { return New(p.Connect.SNMP[0]) },
		Cannot: map[string]string{
			"flood": "an agent that is asked cannot say more than it is asked for",
		},
	})
}

func secret(t testing.TB, dir, name, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, name), []byte(text+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
}

// suiteSender sends traps of version 2c, or informs.
type suiteSender struct {
	t      *testing.T
	addr   string
	inform bool

	away, broken atomic.Bool
	id           atomic.Uint32
}

func (s *suiteSender) Start() { s.away.Store(false) }
func (s *suiteSender) Stop()  { s.away.Store(true) }

func (s *suiteSender) Emit(value int64) error {
	if s.away.Load() {
		return fmt.Errorf("the sender is away")
	}
	conn, err := net.Dial("udp", s.addr)
	if err != nil {
		return err
	}
	defer conn.Close()
	kind := gosnmp.SNMPv2Trap
	if s.inform {
		kind = gosnmp.InformRequest
	}
	id := s.id.Add(1)
	b := notification(s.t, kind, id, number(suiteObject, int(value)))
	if s.broken.Load() {
		b = b[:len(b)-3]
	}
	if _, err := conn.Write(b); err != nil || !s.inform {
		return err
	}
	if err := conn.SetReadDeadline(time.Now().Add(2 * time.Second)); err != nil {
		return err
	}
	n, err := conn.Read(b)
	if err != nil {
		return err
	}
	g := &gosnmp.GoSNMP{Version: gosnmp.Version2c}
	p, err := g.SnmpDecodePacket(b[:n])
	if err != nil || p.PDUType != gosnmp.GetResponse || p.RequestID != id || len(p.Variables) != 3 {
		s.t.Errorf("an inform is answered by %+v, %v", p, err)
	}
	return err
}

func (s *suiteSender) Do(f connecttest.Fault) bool {
	s.broken.Store(f == connecttest.Malformed)
	return f != connecttest.Slow
}

// notification is a datagram of version 2c.
func notification(t testing.TB, kind gosnmp.PDUType, id uint32, vars ...gosnmp.SnmpPDU) []byte {
	t.Helper()
	p := &gosnmp.SnmpPacket{
		Version: gosnmp.Version2c, Community: "public", PDUType: kind, RequestID: id,
		Variables: append([]gosnmp.SnmpPDU{
			{Name: sysUpTime, Type: gosnmp.TimeTicks, Value: uint32(4200)},
			{Name: trapOID, Type: gosnmp.ObjectIdentifier, Value: ".1.3.6.1.6.3.1.1.5.3"},
		}, vars...),
	}
	b, err := p.MarshalMsg()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func trapValue(r *kgo.Record) (int64, bool) {
	var m message
	if json.Unmarshal(r.Value, &m) != nil || len(m.Variables) != 1 {
		return 0, false
	}
	n, ok := m.Variables[0].Value.(float64)
	return int64(n), ok
}

func receiverCase(inform bool) connecttest.Case {
	return connecttest.Case{
		// A datagram in the kernel's buffer is nobody's yet: the suite has to
		// wait for each trap, as for what is polled.
		Protocol: "snmp_traps", Polled: !inform, Acknowledged: inform, Value: trapValue,
		New: func(t *testing.T, _ string) (string, connecttest.Device) {
			s := &suiteSender{t: t, addr: connecttest.FreeAddress(t), inform: inform}
			return "name: dev\nlisten: " + s.addr + "\n", s
		},
		Make: func(p *site.Profile) (connect.Connector, error) { return NewReceiver(p.Connect.SNMPTraps[0]) },
		Cannot: map[string]string{
			"slow device": "a sender of traps is not asked",
		},
	}
}

func TestSuiteTraps(t *testing.T)   { connecttest.Run(t, receiverCase(false)) }
func TestSuiteInforms(t *testing.T) { connecttest.Run(t, receiverCase(true)) }

package modbus

import (
	"fmt"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/waysideos/wayside/services/connect"
	"github.com/waysideos/wayside/services/connect/connecttest"
	"github.com/waysideos/wayside/services/site"
)

// suiteDevice has one register, and says when it was asked for.
type suiteDevice struct {
	t    *testing.T
	addr string

	mu    sync.Mutex
	d     *device
	value uint16
	fault connecttest.Fault
}

func (s *suiteDevice) Start() {
	ln, err := net.Listen("tcp", s.addr)
	if err != nil {
		s.t.Fatal(err)
	}
	d := serveOn(s.t, ln, false)
	s.mu.Lock()
	defer s.mu.Unlock()
	d.set(func() { d.registers[100] = s.value })
	s.d = d
}

func (s *suiteDevice) Stop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.d != nil {
		s.d.stop()
		s.d = nil
	}
}

// Emit returns when the device was asked for the value, if it is well.
func (s *suiteDevice) Emit(value int64) error {
	s.mu.Lock()
	d, well := s.d, s.fault == connecttest.Well
	s.value = uint16(value)
	s.mu.Unlock()
	if d == nil {
		return nil
	}
	before := 0
	d.set(func() { d.registers[100] = uint16(value); before = len(d.requests) })
	return connecttest.Asked(well, before, d.asked)
}

func (s *suiteDevice) Do(f connecttest.Fault) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fault = f
	s.d.set(func() {
		s.d.delay, s.d.mangle = 0, nil
		switch f {
		case connecttest.Malformed:
			s.d.mangle = func(frame []byte) []byte { return append(frame[:8:8], 200) }
		case connecttest.Slow:
			s.d.delay = 3 * time.Second
		}
	})
	return true
}

func TestSuite(t *testing.T) {
	connecttest.Run(t, connecttest.Case{
		Protocol: "modbus", Polled: true, Readings: true,
		New: func(t *testing.T, _ string) (string, connecttest.Device) {
			s := &suiteDevice{t: t, addr: connecttest.FreeAddress(t), value: 0xffff} // -1, which is no value of the suite
			return fmt.Sprintf(`name: dev
address: %s
every: 10ms
timeout: 1s
points:
  - {name: value, address: "holding:100", type: int16, report: {changes: true}}
`, s.addr), s
		},
		Make: func(p *site.Profile) (connect.Connector, error) { return New(p.Connect.Modbus[0]) },
		Cannot: map[string]string{
			"flood": "a device that is asked cannot say more than it is asked for",
		},
	})
}

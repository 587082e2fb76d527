package syslog

import (
	"encoding/json"
	"fmt"
	"net"
	"strconv"
	"sync"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/waysideos/wayside/services/connect"
	"github.com/waysideos/wayside/services/connect/connecttest"
	"github.com/waysideos/wayside/services/site"
)

// suiteSender sends datagrams.
type suiteSender struct {
	t    *testing.T
	addr string

	mu    sync.Mutex
	conn  net.Conn
	fault connecttest.Fault
}

func (s *suiteSender) Start() {
	conn, err := net.Dial("udp", s.addr)
	if err != nil {
		s.t.Fatal(err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.conn = conn
}

func (s *suiteSender) Stop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.conn != nil {
		s.conn.Close()
	}
}

func (s *suiteSender) Emit(value int64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	text := fmt.Sprintf("<14>1 - host app - - - %d", value)
	if s.fault == connecttest.Malformed {
		text = "no message"
	}
	_, err := s.conn.Write([]byte(text))
	return err
}

func (s *suiteSender) Do(f connecttest.Fault) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fault = f
	return f != connecttest.Slow
}

func TestSuite(t *testing.T) {
	connecttest.Run(t, connecttest.Case{
		// A datagram in the kernel's buffer is nobody's yet: the suite has to
		// wait for each, as for what is polled.
		Protocol: "syslog", Polled: true,
		New: func(t *testing.T, _ string) (string, connecttest.Device) {
			s := &suiteSender{t: t, addr: connecttest.FreeAddress(t)}
			return "name: dev\nlisten: " + s.addr + "\n", s
		},
		Make: func(p *site.Profile) (connect.Connector, error) { return New(p.Connect.Syslog[0]) },
		Value: func(r *kgo.Record) (int64, bool) {
			var m message
			if json.Unmarshal(r.Value, &m) != nil {
				return 0, false
			}
			n, err := strconv.ParseInt(m.Message, 10, 64)
			return n, err == nil
		},
		Cannot: map[string]string{
			"slow device": "a sender of syslog is not asked and does not answer",
		},
	})
}

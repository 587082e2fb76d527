package syslog

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/waysideos/wayside/services/connect"
	"github.com/waysideos/wayside/services/connect/connecttest"
	"github.com/waysideos/wayside/services/site"
)

// suiteSender sends datagrams, or lines over TCP.
type suiteSender struct {
	t       *testing.T
	network string
	addr    string

	mu    sync.Mutex
	conn  net.Conn
	wrote time.Time
	fault connecttest.Fault
}

func (s *suiteSender) Start() {}

func (s *suiteSender) Stop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.drop()
}

func (s *suiteSender) drop() {
	if s.conn != nil {
		s.conn.Close()
		s.conn = nil
	}
}

// connected sees to it that there is a connection whose far end is there: what
// is written into one that was closed is lost, and nobody hears of it.
func (s *suiteSender) connected() (err error) {
	if s.conn != nil && s.network == "tcp" && time.Since(s.wrote) > 10*time.Millisecond {
		_ = s.conn.SetReadDeadline(time.Now().Add(time.Millisecond))
		if _, err := s.conn.Read(make([]byte, 1)); !os.IsTimeout(err) {
			s.drop()
		}
	}
	if s.conn == nil {
		s.conn, err = net.Dial(s.network, s.addr)
	}
	return err
}

func (s *suiteSender) Emit(value int64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.connected(); err != nil {
		return err
	}
	text := fmt.Sprintf("<14>1 - host app - - - %d\n", value)
	switch s.fault {
	case connecttest.Malformed:
		text = "no message\n"
	case connecttest.Slow:
		text = text[:4]
	}
	if s.network == "udp" {
		text = strings.TrimSuffix(text, "\n")
	}
	s.wrote = time.Now()
	_, err := s.conn.Write([]byte(text))
	return err
}

func (s *suiteSender) Do(f connecttest.Fault) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fault = f
	return f != connecttest.Slow || s.network == "tcp"
}

// value is what a message of the suite says.
func value(r *kgo.Record) (int64, bool) {
	var m message
	if json.Unmarshal(r.Value, &m) != nil {
		return 0, false
	}
	n, err := strconv.ParseInt(m.Message, 10, 64)
	return n, err == nil
}

func sends(network string) func(t *testing.T, _ string) (string, connecttest.Device) {
	return func(t *testing.T, _ string) (string, connecttest.Device) {
		s := &suiteSender{t: t, network: network, addr: connecttest.FreeAddress(t)}
		return "name: dev\ntransport: " + network + "\nlisten: " + s.addr + "\n", s
	}
}

func receiver(p *site.Profile) (connect.Connector, error) { return New(p.Connect.Syslog[0]) }

// What is in a buffer of the kernel is nobody's yet: the suite has to wait for
// each message, as for what is polled.

func TestSuite(t *testing.T) {
	connecttest.Run(t, connecttest.Case{
		Protocol: "syslog", Variant: "UDP", Polled: true, New: sends("udp"), Make: receiver, Value: value,
		Cannot: map[string]string{
			"slow device": "a sender of datagrams is not asked and does not answer",
		},
	})
}

func TestSuiteTCP(t *testing.T) {
	connecttest.Run(t, connecttest.Case{
		Protocol: "syslog", Variant: "TCP", Polled: true, New: sends("tcp"), Make: receiver, Value: value,
		Cannot: map[string]string{
			"broker away":     "the connection is held back, and nothing is spooled before the box stops: TestTCP",
			"box loses power": "what was read and waits for the broker is in memory, and nothing was acknowledged",
		},
	})
}

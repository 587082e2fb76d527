package replicator

import (
	"net"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"
)

// A connection that the other end closes is noticed at rest, once; one that the
// client closes is no sign.
func TestCuts(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	var c cuts
	connect := func() (near, far *net.TCPConn) {
		t.Helper()
		a, err := net.Dial("tcp", ln.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		b, err := ln.Accept()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { a.Close(); b.Close() })
		c.OnBrokerConnect(kgo.BrokerMetadata{}, 0, a, nil)
		return a.(*net.TCPConn), b.(*net.TCPConn)
	}
	for name, end := range map[string]func(far *net.TCPConn){
		"closed":                    func(far *net.TCPConn) { far.Close() },
		"closed behind a last word": func(far *net.TCPConn) { far.Write([]byte("alert")); far.Close() }, // as TLS does
		"reset":                     func(far *net.TCPConn) { far.SetLinger(0); far.Close() },
	} {
		t.Run(name, func(t *testing.T) {
			near, far := connect()
			if c.swap() {
				t.Fatal("an open connection is a sign")
			}
			end(far)
			eventually(t, "it is noticed", c.swap)
			if c.OnBrokerDisconnect(kgo.BrokerMetadata{}, near); c.swap() {
				t.Error("it is noticed twice")
			}
		})
	}
	t.Run("closed here", func(t *testing.T) {
		near, _ := connect()
		if c.OnBrokerDisconnect(kgo.BrokerMetadata{}, near); c.swap() {
			t.Error("a connection that the client closes is a sign")
		}
		near.Close()
		if len(c.all) > 0 {
			t.Errorf("%d connections are remembered", len(c.all))
		}
	})
	t.Run("closed there and found by the client", func(t *testing.T) {
		near, far := connect()
		far.Close()
		near.Read(make([]byte, 1)) // its end
		if c.OnBrokerDisconnect(kgo.BrokerMetadata{}, near); !c.swap() {
			t.Error("it is no sign")
		}
	})
}

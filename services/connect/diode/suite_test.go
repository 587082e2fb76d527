package diode_test

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/waysideos/wayside/services/connect"
	"github.com/waysideos/wayside/services/connect/connecttest"
	"github.com/waysideos/wayside/services/connect/diode"
	"github.com/waysideos/wayside/services/connect/diode/wire"
	"github.com/waysideos/wayside/services/site"
)

// far is a sender without a box. It knows from ICMP, which no diode lets back,
// that nobody listens.
type far struct {
	t       *testing.T
	address string

	mu   sync.Mutex
	conn net.Conn
	pack *wire.Packer
	next int64
	live bool
}

const suiteKey = "the key of both sides"

func (f *far) Start() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.conn == nil {
		var err error
		if f.conn, err = net.Dial("udp", f.address); err != nil {
			f.t.Fatal(err)
		}
	}
	f.live = true
	f.pack = &wire.Packer{Stream: uint64(time.Now().UnixNano()), Redundancy: 50, Key: []byte(suiteKey), Send: func(d []byte) error {
		_, err := f.conn.Write(d)
		return err
	}}
}

func (f *far) Stop() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.live = false
}

func (f *far) Emit(value int64) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.live {
		return fmt.Errorf("the sender is off")
	}
	r := &wire.Record{Topic: "dev", Offset: f.next, Prev: f.next, Time: time.Now().UnixMilli(), Value: fmt.Appendf(nil, `{"value":%d}`, value)}
	if err := f.pack.Record(r); err != nil {
		return err
	}
	if err := f.pack.Flush(); err != nil {
		return err
	}
	f.next++
	return nil
}

func (f *far) Do(fault connecttest.Fault) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if fault == connecttest.Malformed {
		_, err := f.conn.Write([]byte("WD\x01 no datagram of ours"))
		return err == nil
	}
	return fault == connecttest.Well
}

func TestSuite(t *testing.T) {
	connecttest.Run(t, connecttest.Case{
		Protocol: "diode_receive",
		New: func(t *testing.T, secrets string) (string, connecttest.Device) {
			if err := os.WriteFile(filepath.Join(secrets, "diode.key"), []byte(suiteKey), 0o600); err != nil {
				t.Fatal(err)
			}
			address := udpAddress(t)
			return fmt.Sprintf("name: dev\nlisten: %s\nkey: diode.key\n", address), &far{t: t, address: address}
		},
		Make: func(p *site.Profile) (connect.Connector, error) { return diode.NewReceiver(p.Connect.DiodeReceive[0]) },
		Cannot: map[string]string{
			"slow device":       "nobody is waited for",
			"times and quality": "records are carried as they are",
		},
	})
}

package mqtt

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/eclipse/paho.golang/paho"

	connectors "github.com/waysideos/wayside/services/connect"
	"github.com/waysideos/wayside/services/connect/connecttest"
	"github.com/waysideos/wayside/services/site"
)

// thing is a device that publishes with QoS 1 and a password.
type thing struct {
	t    *testing.T
	addr string

	mu   sync.Mutex
	off  bool
	slow bool
	conn net.Conn
	cl   *paho.Client
}

func (d *thing) Start() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.off = false
}

func (d *thing) Stop() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.off = true
	d.drop()
}

func (d *thing) drop() {
	if d.conn != nil {
		d.conn.Close()
	}
	d.conn, d.cl = nil, nil
}

// connected is its client, which is made when there is none.
func (d *thing) connected() (*paho.Client, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.off {
		return nil, errors.New("the device is away")
	}
	if d.cl != nil {
		return d.cl, nil
	}
	conn, err := net.Dial("tcp", d.addr)
	if err != nil {
		return nil, err
	}
	cl := paho.NewClient(paho.ClientConfig{Conn: conn, PacketTimeout: time.Minute})
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	if _, err := cl.Connect(ctx, &paho.Connect{
		ClientID: "thing", KeepAlive: 60, CleanStart: true, Username: "thing", UsernameFlag: true, Password: []byte("s3cret-word"), PasswordFlag: true,
	}); err != nil {
		conn.Close()
		return nil, err
	}
	d.conn, d.cl = conn, cl
	return cl, nil
}

func (d *thing) Emit(v int64) error {
	cl, err := d.connected()
	if err != nil {
		return err
	}
	d.mu.Lock()
	slow, conn := d.slow, d.conn
	d.mu.Unlock()
	if slow { // the half of a packet
		_, err := conn.Write([]byte{publishType, 100, 0})
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 40*time.Second)
	defer cancel()
	go func() { // paho waits for an answer of a connection that ended a moment before
		select {
		case <-cl.Done():
			cancel()
		case <-ctx.Done():
		}
	}()
	_, err = cl.Publish(ctx, &paho.Publish{Topic: "plant/value", QoS: 1, Payload: fmt.Appendf(nil, `{"value":%d}`, v)})
	if err != nil {
		d.mu.Lock()
		defer d.mu.Unlock()
		if d.cl == cl {
			d.drop()
		}
	}
	return err
}

func (d *thing) Do(f connecttest.Fault) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.slow = f == connecttest.Slow
	return f != connecttest.Malformed
}

// service is the broker as the suite runs it.
type service struct {
	cfg    site.MQTT
	broker string
	secret string
}

func (s service) Run(ctx context.Context, box *connectors.Box) error {
	ln, err := net.Listen("tcp", s.cfg.Listen)
	if err != nil {
		return err
	}
	c, err := New(Config{
		Listener: ln, Listeners: s.cfg.Listeners, Users: s.cfg.Users, Anonymous: s.cfg.Anonymous, ACL: s.cfg.ACL,
		Routes: s.cfg.Routes, Broker: []string{s.broker}, Secrets: s.secret, Log: slog.New(box.Log().Handler()),
	})
	if err != nil {
		return err
	}
	box.Up("")
	return c.Run(ctx)
}

func TestSuite(t *testing.T) {
	connecttest.Run(t, connecttest.Case{
		Protocol: "mqtt", Acknowledged: true, Senders: 100,
		New: func(t *testing.T, secrets string) (string, connecttest.Device) {
			if err := os.WriteFile(filepath.Join(secrets, "users"), []byte("thing:s3cret-word\n"), 0o600); err != nil {
				t.Fatal(err)
			}
			d := &thing{t: t, addr: connecttest.FreeAddress(t)}
			return "listen: " + d.addr + "\nusers: users\nroutes: [{filter: '#', topic: dev}]\n", d
		},
		Service: func(profile, broker, secrets string) connectors.Connector {
			p, err := site.Parse("case", []byte("version: 1\nsite: box\nconnect:\n  mqtt:\n    "+strings.ReplaceAll(profile, "\n", "\n    ")))
			if err != nil {
				t.Fatal(err)
			}
			return service{cfg: *p.Connect.MQTT, broker: broker, secret: secrets}
		},
		Change: "acl: [{user: thing, publish: [plant/#]}]",
		Cannot: map[string]string{
			"malformed answer": "what is no MQTT ends its own connection and is told to nobody else: TestGarbageEndsItsOwnConnection",
		},
	})
}

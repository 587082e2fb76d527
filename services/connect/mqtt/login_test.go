package mqtt

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/waysideos/wayside/services/site"
)

// login sends a CONNECT for a session that is kept, and returns the return
// code of its answer and whether there was a session; 0xff for a connection
// that was closed without one.
func login(t *testing.T, addr, client, user, password string) (d *device, code byte, present bool) {
	t.Helper()
	d = &device{t: t, conn: dial(t, addr)}
	d.r = bufio.NewReader(d.conn)
	flags := byte(0)
	body := text(client)
	if user != "" {
		flags = 0xC0
		body = append(append(body, text(user)...), text(password)...)
	}
	d.send(connectType, append(append(text("MQTT"), 4, flags, 0, 60), body...))
	typ, ack, err := d.next(15 * time.Second)
	if err != nil || typ != connackType {
		return d, 0xff, false
	}
	return d, ack[1], ack[0] == 1
}

func withUsers(t *testing.T) func(*Config) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "users")
	if err := os.WriteFile(file, []byte("a:1\nb:2\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	anyone := true
	return func(c *Config) {
		c.Users, c.Anonymous = file, &anyone
		c.ACL = []site.MQTTRule{{User: "*", Subscribe: []string{"#"}, Publish: []string{"#"}}}
	}
}

// What waits in a session of a client that is away is its user's: nobody else
// reads it, and nobody else ends it.
func TestAbsentSessionBelongsToItsUser(t *testing.T) {
	kafka := cluster(t)
	c, addr, _ := start(t, kafka.ListenAddrs(), withUsers(t))
	d, code, _ := login(t, addr, "same", "a", "1")
	if code != 0 {
		t.Fatalf("user a: code %d", code)
	}
	d.subscribe("alarm/#", 1)
	d.conn.Close()
	eventually(t, "a is away", func() bool { return c.connected() == 0 })
	pub, _, _ := login(t, addr, "p", "b", "2")
	pub.publishAll("alarm/1", "for a")
	for _, who := range [][2]string{{"b", "2"}, {"", ""}} {
		if _, code, _ := login(t, addr, "same", who[0], who[1]); code == 0 {
			t.Errorf("user %q took the session of a, who is away", who[0])
		}
	}
	d, code, present := login(t, addr, "same", "a", "1")
	if code != 0 || !present {
		t.Fatalf("its own user: code %d, session present %v", code, present)
	}
	if g := d.publication1(); g.payload != "for a" {
		t.Errorf("got %+v, want what came meanwhile", g)
	}
}

// A session that is nobody's gives way to a user, who begins anew.
func TestAbsentSessionOfNobody(t *testing.T) {
	kafka := cluster(t)
	c, addr, _ := start(t, kafka.ListenAddrs(), withUsers(t))
	d, _, _ := login(t, addr, "same", "", "")
	d.subscribe("alarm/#", 1)
	d.conn.Close()
	eventually(t, "it is away", func() bool { return c.connected() == 0 })
	if _, code, present := login(t, addr, "same", "a", "1"); code != 0 || present {
		t.Errorf("code %d, session present %v; want 0 and none", code, present)
	}
	if n := len(c.subscriptions("same")); n != 0 {
		t.Errorf("the new session has %d subscriptions", n)
	}
}

// Of two users who come with one identifier at once, one has it.
func TestOneIdentifierTwoUsers(t *testing.T) {
	kafka := cluster(t)
	c, addr, _ := start(t, kafka.ListenAddrs(), withUsers(t))
	for i := range 20 {
		id := string(rune('a' + i))
		var codes [2]byte
		var wg sync.WaitGroup
		for n, who := range [][2]string{{"a", "1"}, {"b", "2"}} {
			wg.Go(func() { _, codes[n], _ = login(t, addr, id, who[0], who[1]) })
		}
		wg.Wait()
		if (codes[0] == 0) == (codes[1] == 0) {
			t.Fatalf("identifier %s: codes %v, want one of them 0", id, codes)
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.claims) != 0 {
		t.Errorf("claims are left: %v", c.claims)
	}
}

// What says that it is a large CONNECT, or something else, is ended before
// there is room for it.
func TestFirstPacketIsBounded(t *testing.T) {
	kafka := cluster(t)
	_, addr, _ := start(t, kafka.ListenAddrs())
	for name, head := range map[string][]byte{
		"a large CONNECT": binary.AppendUvarint([]byte{connectType}, maxConnect+1),
		"a PUBLISH":       binary.AppendUvarint([]byte{publishType}, 1000),
	} {
		d := &device{t: t, conn: dial(t, addr)}
		for _, b := range head { // in pieces
			if _, err := d.conn.Write([]byte{b}); err != nil {
				break
			}
			time.Sleep(time.Millisecond)
		}
		_ = d.conn.SetReadDeadline(time.Now().Add(connectTimeout / 2)) // well before the time for a CONNECT is over
		if _, err := d.conn.Read(make([]byte, 1)); err == nil || os.IsTimeout(err) {
			t.Errorf("%s: read = %v, want a closed connection", name, err)
		}
	}
	// The largest will there is fits.
	d := &device{t: t, conn: dial(t, addr)}
	d.r = bufio.NewReader(d.conn)
	body := append(append(text("MQTT"), 4, 0x06, 0, 60), text("w")...)
	body = append(append(body, text("alarm/w")...), text(string(make([]byte, 65535)))...)
	d.send(connectType, body)
	if typ, ack := d.read(); typ != connackType || ack[1] != 0 {
		t.Errorf("a will of 64 KiB: got packet %#x % x, want CONNACK", typ, ack)
	}
}

// Connections that say nothing keep nobody out for long.
func TestSilentConnectionsMakeRoom(t *testing.T) {
	kafka := cluster(t)
	c, addr, _ := start(t, kafka.ListenAddrs())
	silent := make([]net.Conn, 2*maxHandshakes)
	for i := range silent {
		silent[i] = dial(t, addr)
	}
	connect(t, addr, "d", false) // within the time that a CONNECT has
	l := c.lns[0]
	l.mu.Lock()
	n := len(l.arrivals)
	l.mu.Unlock()
	if n > maxHandshakes {
		t.Errorf("%d connections have not said who they are, want at most %d", n, maxHandshakes)
	}
	(&device{t: t, conn: silent[0]}).closedAfter("the oldest")
}

// Whose CONNECT is being looked at is not turned away for it, however long
// that takes; who is silent is.
func TestWhoWaitsForUsMakesNoRoom(t *testing.T) {
	l := &listener{left: make(chan struct{}, 1), closed: make(chan struct{}), turnedAway: prometheus.NewCounter(prometheus.CounterOpts{Name: "turned_away"})}
	near, far := net.Pipe()
	comes := func(conn net.Conn, quiet time.Duration) *peer {
		p := &peer{raw: &arrival{Conn: conn, silent: quiet}, at: l}
		l.arrive(p)
		return p
	}
	defer far.Close()
	for range maxHandshakes - 1 {
		comes(near, time.Minute).raw.said.Store(true)
	}
	silentNear, silentFar := net.Pipe()
	defer silentFar.Close()
	comes(silentNear, time.Minute)
	next := comes(near, 0) // in the place of the silent one
	_ = silentFar.SetReadDeadline(time.Now().Add(10 * time.Second))
	if _, err := silentFar.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("the silent one: read = %v, want EOF", err)
	}
	next.raw.said.Store(true)
	arrived := make(chan struct{})
	go func() {
		defer close(arrived)
		comes(near, 0)
	}()
	l.known(l.first())
	<-arrived
	_ = far.SetReadDeadline(time.Now())
	if _, err := far.Read(make([]byte, 1)); !os.IsTimeout(err) {
		t.Errorf("one whose CONNECT has come: read = %v, want it to be open", err)
	}
}

func (l *listener) first() *peer {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.arrivals[0]
}

// Clients that come back all at once to a box whose core takes its time for
// each handshake wait for each other, and none is turned away.
func TestCrowdWithSlowHandshakes(t *testing.T) {
	const crowd = maxHandshakes + 36
	dir := t.TempDir()
	serverCertificate(t, dir)
	kafka := cluster(t)
	c, _, _ := start(t, kafka.ListenAddrs(), func(c *Config) {
		c.Secrets = dir
		c.Listeners = []site.MQTTListener{{Name: "secure", Listen: "127.0.0.1:0", TLS: &site.ServerTLS{Cert: "server.pem", Key: "server.key"}}}
	})
	var core sync.Mutex
	c.lns[1].tls.Get().GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) {
		core.Lock()
		defer core.Unlock()
		time.Sleep(15 * time.Millisecond) // those of the first lot together take twice connectLeast
		return nil, nil
	}
	refused := make(chan error, crowd)
	for i := range crowd {
		go func() {
			conn, err := tls.Dial("tcp", c.lns[1].Address(), &tls.Config{InsecureSkipVerify: true})
			if err != nil {
				refused <- err
				return
			}
			defer conn.Close()
			d := &device{t: t, conn: conn, r: bufio.NewReader(conn)}
			d.send(connectType, append(append(text("MQTT"), 4, 2, 0, 60), text(fmt.Sprint("c", i))...))
			typ, ack, err := d.next(time.Minute)
			if err == nil && (typ != connackType || ack[1] != 0) {
				err = fmt.Errorf("got packet %#x % x, want CONNACK", typ, ack)
			}
			refused <- err
		}()
	}
	for range crowd {
		if err := <-refused; err != nil {
			t.Fatalf("one was turned away: %v", err)
		}
	}
}

// serverCertificate makes server.pem and server.key.
func serverCertificate(t *testing.T, dir string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	der, err1 := x509.CreateCertificate(rand.Reader, c, c, &key.PublicKey, key)
	raw, err2 := x509.MarshalPKCS8PrivateKey(key)
	if err := errors.Join(err1, err2); err != nil {
		t.Fatal(err)
	}
	for name, block := range map[string]*pem.Block{"server.pem": {Type: "CERTIFICATE", Bytes: der}, "server.key": {Type: "PRIVATE KEY", Bytes: raw}} {
		if err := os.WriteFile(filepath.Join(dir, name), pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

package mqtt

import (
	"net"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/eclipse/paho.golang/paho"
	"github.com/twmb/franz-go/pkg/kfake"

	"github.com/waysideos/wayside/services/site"
)

// mortal connects with a will and ends without a word.
func mortal(t *testing.T, addr, id string, delay, expiry uint32) (die func()) {
	t.Helper()
	conn := dial(t, addr)
	cl := paho.NewClient(paho.ClientConfig{Conn: conn})
	c := &paho.Connect{
		ClientID: id, KeepAlive: 30, Properties: &paho.ConnectProperties{SessionExpiryInterval: &expiry},
		WillMessage:    &paho.WillMessage{Topic: "alarm/" + id, Payload: []byte("gone"), QoS: 1},
		WillProperties: &paho.WillProperties{WillDelayInterval: &delay},
	}
	if _, err := cl.Connect(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	return func() { conn.Close() }
}

// A delayed will is sent after its delay or at the end of the session,
// whichever comes first, and not at all when the client is back in time.
func TestWillDelay(t *testing.T) {
	kafka := cluster(t)
	_, addr, _ := start(t, kafka.ListenAddrs())
	mortal(t, addr, "back", 1, 60)()
	d, present := resume(t, addr, "back", true)
	if !present {
		t.Error("the session is gone")
	}
	mortal(t, addr, "ended", 3600, 0)()   // its session ends at once
	mortal(t, addr, "delayed", 1, 3600)() // its delay is over first
	got := map[string]bool{}
	for _, r := range records(t, kafka.ListenAddrs(), "alarms", 2) {
		got[string(r.Key)] = true
	}
	if !got["alarm/ended"] || !got["alarm/delayed"] {
		t.Errorf("wills = %v, want those of ended and delayed", got)
	}
	d.send(pingreqType, nil)
	if typ, _ := d.read(); typ != pingrespType {
		t.Errorf("got packet %#x, want PINGRESP", typ)
	}
}

// The will of a client that was connected when the service ended is kept for
// the next start, which sends it unless the client is back.
func TestWillIsKept(t *testing.T) {
	kafka := cluster(t)
	_, addr, stop := start(t, kafka.ListenAddrs())
	mortal(t, addr, "w", 0, 3600)
	stop()
	c, _, _ := start(t, kafka.ListenAddrs())
	eventually(t, "the session is there", func() bool { return c.session("w") != nil })
	s := c.session("w")
	s.sendWilled() // as its timer does
	if r := records(t, kafka.ListenAddrs(), "alarms", 1)[0]; string(r.Key) != "alarm/w" {
		t.Errorf("will = %s, want alarm/w", r.Key)
	}
	s.sendWilled()
	eventually(t, "nothing is on its way", func() bool { return c.kafka.BufferedProduceRecords() == 0 })
	records(t, kafka.ListenAddrs(), "alarms", 1)
}

// While the Kafka broker is away at the start nobody hears that his session
// is gone.
func TestKafkaIsAwayAtTheStart(t *testing.T) {
	dir := t.TempDir()
	kafka := cluster(t, kfake.DataDir(dir))
	addrs := kafka.ListenAddrs()
	_, addr, stop := start(t, addrs)
	d, _ := resume(t, addr, "d", false)
	d.subscribe("alarm/#", 1)
	stop()
	kafka.Close()
	_, addr, _ = start(t, addrs)
	waiting := &device{t: t, conn: dial(t, addr)}
	time.AfterFunc(100*time.Millisecond, func() {
		_, port, _ := net.SplitHostPort(addrs[0])
		n, _ := strconv.Atoi(port)
		cluster(t, kfake.DataDir(dir), kfake.Ports(n))
	})
	waiting.conn.Close()
	if _, present := resume(t, addr, "d", false); !present {
		t.Error("the session is gone")
	}
}

// A session is its user's.
func TestSessionBelongsToItsUser(t *testing.T) {
	file := filepath.Join(t.TempDir(), "users")
	if err := os.WriteFile(file, []byte("a:1\nb:2\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	kafka := cluster(t)
	_, addr, _ := start(t, kafka.ListenAddrs(), func(c *Config) {
		c.Users = file
		c.ACL = []site.MQTTRule{{User: "a", Subscribe: []string{"#"}, Publish: []string{"#"}}}
	})
	in := func(user, password string) (code byte, present bool) {
		t.Helper()
		conn := dial(t, addr)
		cl := paho.NewClient(paho.ClientConfig{Conn: conn})
		expiry := uint32(60)
		c := &paho.Connect{
			ClientID: "same", KeepAlive: 30, Username: user, UsernameFlag: user != "", Password: []byte(password), PasswordFlag: user != "",
			Properties: &paho.ConnectProperties{SessionExpiryInterval: &expiry},
		}
		ack, err := cl.Connect(t.Context(), c)
		if ack == nil {
			t.Fatal(err)
		}
		return ack.ReasonCode, ack.SessionPresent
	}
	for _, tc := range []struct {
		user, password string
		code           byte
	}{{"", "", 0x86}, {"a", "2", 0x86}, {"c", "1", 0x86}, {"a", "1", 0}, {"b", "2", 0x86}} {
		if code, _ := in(tc.user, tc.password); code != tc.code {
			t.Errorf("user %q: reason %#x, want %#x", tc.user, code, tc.code)
		}
	}
	if code, present := in("a", "1"); code != 0 || !present {
		t.Errorf("its own user: reason %#x, session present %v", code, present)
	}
}

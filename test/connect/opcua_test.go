package connect

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/url"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/waysideos/wayside/services/connect/connecttest"
)

// asyncua is an OPC UA server by others.
func asyncua(t *testing.T, port, dir string) (stop func()) {
	t.Helper()
	cmd := exec.Command(python(t, "asyncua==2.1.0"), "testdata/python/opcua_server.py", port, dir)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	said, stopped := lines(out), false
	stop = func() {
		if !stopped {
			stopped = true
			io.WriteString(in, "stop\n")
			cmd.Wait()
		}
	}
	t.Cleanup(stop)
	for deadline := time.After(most); ; {
		select {
		case line, ok := <-said:
			if line == "ready" {
				return stop
			}
			if !ok {
				t.Fatal("asyncua ended at once")
			}
		case <-deadline:
			t.Fatal("asyncua is not ready")
		}
	}
}

// opcuaCertificates are of RSA, with the application's URI.
func opcuaCertificates(t *testing.T, names ...string) string {
	t.Helper()
	dir := t.TempDir()
	for i, name := range names {
		key, err := rsa.GenerateKey(rand.Reader, 2048)
		if err != nil {
			t.Fatal(err)
		}
		c := &x509.Certificate{
			SerialNumber: big.NewInt(int64(i + 1)), Subject: pkix.Name{CommonName: name},
			NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
			URIs: []*url.URL{{Scheme: "urn", Opaque: "wayside:test:" + name}}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
			KeyUsage:    x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment | x509.KeyUsageDataEncipherment | x509.KeyUsageContentCommitment,
			ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		}
		der, err := x509.CreateCertificate(rand.Reader, c, c, &key.PublicKey, key)
		if err != nil {
			t.Fatal(err)
		}
		keep(t, dir, name, der, key)
	}
	return dir
}

const opcuaProfile = `connect:
  opcua:
    - name: line
      endpoint: opc.tcp://127.0.0.1:%s/
      security: {cert: client.pem, key: client.key, trust: %s}
      user: wayside
      password: password
      interval: 200ms
      points:
        - {name: temp, node: "nsu=urn:wayside:test;s=Machine.Temp", unit: C, sampling: 50ms, queue: 1000}
        - {name: list, node: "ns=2;s=Machine.List"}
        - {name: bad, node: "ns=2;s=Machine.Bad"}
        - {name: none, node: "ns=2;s=Machine.None"}
        - {name: setpoint, node: "ns=2;s=Machine.Setpoint"}
      methods: [{name: multiply, object: "ns=2;s=Machine", method: "ns=2;s=Machine.Multiply"}]
      commands: {topic: orders}
`

type opcuaReading struct {
	Point, Quality, Detail string
	Value                  any
}

func opcuaReadings(rs []*kgo.Record) map[string][]opcuaReading {
	all := map[string][]opcuaReading{}
	for _, r := range rs {
		var v opcuaReading
		if json.Unmarshal(r.Value, &v) == nil {
			all[v.Point] = append(all[v.Point], v)
		}
	}
	return all
}

// TestOPCUA subscribes to asyncua's server with certificates and a login,
// writes and calls, misses nothing when the connection was lost, and goes on
// when the server was away.
func TestOPCUA(t *testing.T) {
	need(t)
	dir := opcuaCertificates(t, "server", "client", "other")
	write(t, filepath.Join(dir, "password"), "p4ss\n")
	_, port, _ := net.SplitHostPort(connecttest.FreeAddress(t))
	stop := asyncua(t, port, dir)
	cable := connecttest.NewCable(t, "127.0.0.1:"+port)
	cable.Plug()
	_, plug, _ := net.SplitHostPort(cable.Addr)
	broker := edge(t)
	c := connectors(t, "--site", profile(t, fmt.Sprintf(opcuaProfile, plug, "server.pem")), "--broker", broker.addr, "--secrets", dir, "--data", t.TempDir())

	got := opcuaReadings(records(t, broker.addr, "line", func(rs []*kgo.Record) bool {
		all := opcuaReadings(rs)
		return len(all["temp"]) >= 40 && len(all) == 5
	}))
	for i, r := range got["temp"][1:] {
		if before := got["temp"][i].Value.(float64); r.Value.(float64) < before+0.05 || r.Value.(float64) > before+0.15 {
			t.Errorf("temp goes from %v to %v: a value is missing or twice", before, r.Value)
		}
	}
	if bad := got["bad"][0]; bad.Quality != "bad" || !strings.Contains(bad.Detail, "BadSensorFailure") {
		t.Errorf("bad: %+v", bad)
	}
	if none := got["none"][0]; none.Quality != "bad" || none.Value != nil {
		t.Errorf("none: %+v", none)
	}
	if list := got["list"][0]; fmt.Sprint(list.Value) != "[1 2 3]" {
		t.Errorf("list: %+v", list)
	}
	opcuaCommands(t, broker.addr)

	// The connection is lost for two seconds, the server queues: for as long as
	// the connector's pauses are, which may have grown to some seconds.
	cable.Cut()
	time.Sleep(2 * time.Second)
	was := stored(t, broker.addr, "line")
	cable.Plug()
	temps := opcuaReadings(records(t, broker.addr, "line", atLeast(was+80)))["temp"]
	for i, r := range temps[1:] {
		if before := temps[i].Value.(float64); r.Value.(float64) > before+0.15 {
			t.Errorf("temp goes from %v to %v: what the server queued is missing", before, r.Value)
		}
	}
	if strings.Contains(c.out.String(), "has forgotten") {
		t.Error("the subscription was made anew")
	}

	stop()
	before := stored(t, broker.addr, "line")
	asyncua(t, port, dir)
	records(t, broker.addr, "line", atLeast(before+40))
}

func opcuaCommands(t *testing.T, broker string) {
	t.Helper()
	cl, err := kgo.NewClient(kgo.SeedBrokers(broker), kgo.AllowAutoTopicCreation())
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	readsCommands(t, broker, "line", "orders")
	for _, c := range []string{
		`{"id":"1","point":"setpoint","value":7}`, `{"id":"2","point":"setpoint","value":70000}`,
		`{"id":"3","point":"multiply","args":[6,7]}`, `{"id":"4","point":"multiply","args":[6]}`, `{"id":"5","point":"nothing","value":1}`,
	} {
		if err := cl.ProduceSync(t.Context(), &kgo.Record{Topic: "orders", Value: []byte(c)}).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	answers := map[string]string{}
	for _, r := range records(t, broker, "orders.answers", atLeast(5)) {
		var a struct {
			ID    string
			OK    bool
			Value any
			Error string
		}
		if err := json.Unmarshal(r.Value, &a); err != nil {
			t.Fatalf("answer %q: %v", r.Value, err)
		}
		answers[a.ID] = fmt.Sprint(a.OK, " ", a.Value)
	}
	for id, want := range map[string]string{"1": "true 7", "2": "false <nil>", "3": "true 42", "4": "false <nil>", "5": "false <nil>"} {
		if answers[id] != want {
			t.Errorf("command %s: got %q, want %q", id, answers[id], want)
		}
	}
}

// A server whose certificate is not on the list is not talked to.
func TestOPCUATrust(t *testing.T) {
	need(t)
	dir := opcuaCertificates(t, "server", "client", "other")
	write(t, filepath.Join(dir, "password"), "p4ss\n")
	_, port, _ := net.SplitHostPort(connecttest.FreeAddress(t))
	asyncua(t, port, dir)
	broker := edge(t)
	c := connectors(t, "--site", profile(t, fmt.Sprintf(opcuaProfile, port, "other.pem")), "--broker", broker.addr, "--secrets", dir)
	until(t, "the certificate to be refused", func() bool { return strings.Contains(c.out.String(), "is not trusted") })
	if strings.Contains(c.out.String(), "p4ss") {
		t.Error("the password is in the log")
	}
}

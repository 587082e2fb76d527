// Package connect runs connectors, as processes of their own, against what
// others wrote: one file a protocol. `make connectors` runs it.
package connect

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/waysideos/wayside/test/harness"
)

// most is how long anything may take before a test gives up.
const most = 60 * time.Second

// need skips the test unless connectors are asked for (`make connectors`
// does).
func need(t testing.TB) {
	t.Helper()
	if os.Getenv("WAYSIDE_CONNECT") == "" {
		t.Skip("runs other people's servers and clients: run make connectors")
	}
}

// tool is the path of a program that others wrote.
func tool(t testing.TB, name string) string {
	t.Helper()
	for _, dir := range append(filepath.SplitList(os.Getenv("PATH")), "/usr/sbin", "/sbin") {
		path := filepath.Join(dir, name)
		if fi, err := os.Stat(path); err == nil && fi.Mode()&0o111 != 0 {
			return path
		}
	}
	t.Fatalf("%s is not installed: run `wayside host setup --for test`", name)
	return ""
}

func TestMain(m *testing.M) { harness.Main(m) }

// process is a program that runs beside the test.
type process struct {
	t    testing.TB
	cmd  *exec.Cmd
	out  lockedBuffer
	addr string // of waysided: where it listens
	done chan struct{}
}

type lockedBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// start runs a program until the test ends; its output is shown if the test
// fails.
func start(t testing.TB, path string, args ...string) *process {
	t.Helper()
	p := &process{t: t, cmd: exec.Command(path, args...), done: make(chan struct{})}
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	p.cmd.Stdout, p.cmd.Stderr = &p.out, &p.out
	if err := p.cmd.Start(); err != nil {
		t.Fatalf("start %s: %v", path, err)
	}
	go func() { p.cmd.Wait(); close(p.done) }()
	t.Cleanup(func() {
		p.stop()
		if t.Failed() {
			text := p.out.String()
			t.Logf("%s %s said:\n%s", filepath.Base(path), strings.Join(args, " "), text[max(0, len(text)-4000):])
		}
	})
	return p
}

// daemon starts a service of the box and waits until it serves.
func daemon(t testing.TB, args ...string) *process {
	t.Helper()
	p := start(t, harness.Waysided(t), args...)
	until(t, "waysided "+args[0]+" to serve", func() bool {
		for line := range strings.Lines(p.out.String()) {
			if at, ok := strings.CutPrefix(line, "listening on "); ok && strings.HasSuffix(line, "\n") {
				p.addr = strings.TrimSpace(at)
			}
		}
		return p.addr != "" || p.ended()
	})
	if p.addr == "" {
		t.Fatalf("waysided %s ended at once:\n%s", args[0], p.out.String())
	}
	return p
}

func (p *process) ended() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// kill is kill -9.
func (p *process) kill() {
	_ = p.cmd.Process.Kill()
	<-p.done
}

// stop asks it to end.
func (p *process) stop() {
	if p.ended() {
		return
	}
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.done:
	case <-time.After(20 * time.Second):
		p.t.Errorf("%s does not end", p.cmd.Path)
		p.kill()
	}
}

// connectors starts the service that runs them; it may listen nowhere.
func connectors(t testing.TB, args ...string) *process {
	t.Helper()
	return start(t, harness.Waysided(t), append([]string{"connect"}, args...)...)
}

// edge starts the Kafka broker of the box on a folder of its own.
func edge(t testing.TB) *process {
	t.Helper()
	return daemon(t, "broker", "--data", t.TempDir(), "--listen", "127.0.0.1:0")
}

// profile writes a site profile, whose first lines it knows.
func profile(t testing.TB, text string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "site.yaml")
	write(t, file, "version: 1\nsite: test\n"+text)
	return file
}

func write(t testing.TB, file, text string) {
	t.Helper()
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// output runs a program to its end.
func output(t testing.TB, path string, args ...string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), path, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", filepath.Base(path), strings.Join(args, " "), err, out)
	}
	return string(out)
}

func until(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(most); !ok(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited %s for %s", most, what)
		}
	}
}

// records reads a topic from its start until enough says so.
func records(t testing.TB, broker, topic string, enough func([]*kgo.Record) bool) (rs []*kgo.Record) {
	t.Helper()
	cl, err := kgo.NewClient(kgo.SeedBrokers(broker), kgo.ConsumeTopics(topic), kgo.AllowAutoTopicCreation(),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.FetchMaxWait(200*time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	ctx, cancel := context.WithTimeout(t.Context(), most)
	defer cancel()
	for !enough(rs) {
		rs = append(rs, cl.PollFetches(ctx).Records()...)
		if ctx.Err() != nil {
			t.Fatalf("topic %s: %d records in %s are not enough", topic, len(rs), most)
		}
	}
	return rs
}

// atLeast is an enough of records.
func atLeast(n int) func([]*kgo.Record) bool {
	return func(rs []*kgo.Record) bool { return len(rs) >= n }
}

// stored is how many records a topic has.
func stored(t testing.TB, broker, topic string) (n int) {
	t.Helper()
	cl, err := kgo.NewClient(kgo.SeedBrokers(broker))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	ctx, cancel := context.WithTimeout(t.Context(), most)
	defer cancel()
	ends, err := kadm.NewClient(cl).ListEndOffsets(ctx, topic)
	if err == nil {
		err = ends.Error()
	}
	if err != nil {
		t.Fatal(err)
	}
	ends.Each(func(o kadm.ListedOffset) { n += int(o.Offset) })
	return n
}

// certificates makes a folder of an authority, a certificate for this machine
// and one for each client: ca.pem, server.pem, NAME.pem, and keys as .key.
func certificates(t testing.TB, clients ...string) (dir string) {
	t.Helper()
	dir = t.TempDir()
	make := func(name string, serial int64, parent *x509.Certificate, signer *ecdsa.PrivateKey) (*x509.Certificate, *ecdsa.PrivateKey) {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		c := &x509.Certificate{
			SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: name},
			NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
			DNSNames: []string{"localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
			KeyUsage: x509.KeyUsageDigitalSignature,
		}
		if parent == nil {
			parent, signer = c, key
			c.IsCA, c.BasicConstraintsValid, c.KeyUsage = true, true, x509.KeyUsageCertSign
		}
		der, err := x509.CreateCertificate(rand.Reader, c, parent, &key.PublicKey, signer)
		if err != nil {
			t.Fatal(err)
		}
		keep(t, dir, name, der, key)
		parsed, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		return parsed, key
	}
	ca, key := make("ca", 1, nil, nil)
	for i, name := range append([]string{"server"}, clients...) {
		make(name, int64(i+2), ca, key)
	}
	return dir
}

// keep writes a certificate and its key into NAME.pem and NAME.key.
func keep(t testing.TB, dir, name string, der []byte, key any) {
	t.Helper()
	raw, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, name+".pem"), string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})))
	write(t, filepath.Join(dir, name+".key"), string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: raw})))
}

// python is an interpreter with packages of exact versions, such as
// "paho-mqtt==2.1.0", kept from run to run.
func python(t testing.TB, packages ...string) string {
	t.Helper()
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	name := strings.NewReplacer("=", "", "/", "").Replace(strings.Join(packages, "+"))
	dir := filepath.Join(cache, "wayside", "python", name)
	bin := filepath.Join(dir, "bin", "python")
	if _, err := os.Stat(filepath.Join(dir, "ready")); err == nil {
		return bin
	}
	output(t, tool(t, "python3"), "-m", "venv", "--clear", dir)
	// pyftpdlib is to be had as source only, of Python alone.
	output(t, bin, append([]string{"-m", "pip", "install", "-q", "--only-binary", ":all:", "--no-binary", "pyftpdlib"}, packages...)...)
	write(t, filepath.Join(dir, "ready"), "")
	return bin
}

// lines are those of a program's output, as they come.
func lines(r io.Reader) <-chan string {
	out := make(chan string, 1000)
	go func() {
		defer close(out)
		for s := bufio.NewScanner(r); s.Scan(); {
			out <- s.Text()
		}
	}()
	return out
}

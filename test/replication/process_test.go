// Package replication carries records from a broker to a centre by the
// replicator as a process, over an uplink that fails, and compares every
// record: the centre is Apache Kafka, or our own broker.
package replication

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/waysideos/wayside/services/manifest"
	"github.com/waysideos/wayside/test/harness"
)

func TestMain(m *testing.M) { harness.Main(m) }

// service is one service of waysided as a process.
type service struct {
	t    *testing.T
	name string
	args []string
	dir  string
	cmd  *exec.Cmd
}

// newService makes a service without starting it; it ends with the test.
func newService(t *testing.T, name string, args ...string) *service {
	t.Helper()
	s := &service{t: t, name: name, dir: t.TempDir()}
	s.args = append([]string{name, "--run-dir", s.dir}, args...)
	t.Cleanup(func() {
		s.end(syscall.SIGTERM)
		if t.Failed() {
			log, _ := os.ReadFile(s.log())
			lines := bytes.Split(bytes.TrimSpace(log), []byte("\n"))
			t.Logf("the log of %s ends:\n%s", name, bytes.Join(lines[max(0, len(lines)-40):], []byte("\n")))
		}
	})
	return s
}

func (s *service) log() string { return filepath.Join(s.dir, "log") }

// start starts the service; a broker is waited for until it listens.
func (s *service) start() {
	s.t.Helper()
	s.cmd = exec.Command(harness.Waysided(s.t), s.args...)
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	log, err := os.OpenFile(s.log(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		s.t.Fatal(err)
	}
	defer log.Close()
	s.cmd.Stderr = log
	out, err := s.cmd.StdoutPipe()
	if err != nil {
		s.t.Fatal(err)
	}
	if err := s.cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	if s.name == "broker" && !bufio.NewScanner(out).Scan() {
		s.t.Fatalf("the broker ended: %v", s.cmd.Wait())
	}
}

// end ends the service by a signal, and waits.
func (s *service) end(sig os.Signal) {
	if s.cmd == nil {
		return
	}
	s.cmd.Process.Signal(sig)
	kill := time.AfterFunc(30*time.Second, func() { s.cmd.Process.Kill() })
	defer kill.Stop()
	_ = s.cmd.Wait()
	s.cmd = nil
}

// status is the service's own word.
func (s *service) status(ctx context.Context) (rep manifest.Report, err error) {
	return rep, s.ask(ctx, "/status", &rep)
}

// ask asks the service's socket, and decodes the answer into v.
func (s *service) ask(ctx context.Context, path string, v any) error {
	body, err := s.get(ctx, path)
	if err != nil {
		return err
	}
	return json.Unmarshal(body, v)
}

// get is what the service's socket answers.
func (s *service) get(ctx context.Context, path string) ([]byte, error) {
	client := http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", filepath.Join(s.dir, s.name, manifest.StatusSock))
		},
	}}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://box"+path, nil)
	if err != nil {
		return nil, err
	}
	resp, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	return io.ReadAll(resp.Body)
}

// startBroker starts a broker of ours on a new folder. Behind a proxy, it
// has a second listener that the proxy leads to.
func startBroker(t *testing.T, proxy *harness.Proxy) (s *service, addr string) {
	t.Helper()
	addr = harness.FreeAddr(t)
	profile := "version: 1\nsite: centre\n"
	if proxy != nil {
		behind := harness.FreeAddr(t)
		proxy.Target(behind)
		profile += fmt.Sprintf("broker:\n  listeners:\n    - {name: uplink, listen: %q, advertised: %q}\n", behind, proxy.Addr)
	}
	s = newService(t, "broker", "--data", t.TempDir(), "--listen", addr, "--site", writeFile(t, "site.yaml", profile))
	s.start()
	return s, addr
}

func writeFile(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

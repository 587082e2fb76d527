// Package clients runs what others wrote against our broker, as a process of
// its own on a disk: franz-go's own tests, and cases of ours by the Java
// clients, Streams, Connect, MirrorMaker 2, librdkafka and others. README.md
// is the table of what runs, at which version, and what does not and why.
package clients

import (
	"bufio"
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"

	"github.com/waysideos/wayside/test/harness"
)

// need skips the test unless clients are asked for (`make clients` does). The
// suites run side by side: they wait more than they work.
func need(t *testing.T) {
	t.Helper()
	if os.Getenv("WAYSIDE_CLIENTS") == "" {
		t.Skip("runs other people's clients: run make clients")
	}
	t.Parallel()
}

func TestMain(m *testing.M) { harness.Main(m) }

// broker is `waysided broker` on a folder of the test. With
// WAYSIDE_CLIENTS_CONTROL=1 it is Apache Kafka instead: what fails there too
// is not our broker's fault.
type broker struct {
	addr    string
	control *harness.Kafka

	t    *testing.T
	args []string
	log  string
	cmd  *exec.Cmd
}

// startBroker starts a broker with more flags, and stops it when the test ends.
func startBroker(t *testing.T, flags ...string) *broker {
	t.Helper()
	if os.Getenv("WAYSIDE_CLIENTS_CONTROL") != "" {
		k := harness.StartKafka(t)
		return &broker{t: t, addr: k.HostAddr, control: k}
	}
	dir := t.TempDir()
	b := &broker{t: t, addr: harness.FreeAddr(t), log: filepath.Join(dir, "log")}
	b.args = append([]string{"broker", "--data", filepath.Join(dir, "data"), "--listen", b.addr}, flags...)
	t.Cleanup(func() {
		b.end(syscall.SIGTERM)
		if t.Failed() {
			b.showLog()
		}
	})
	b.start()
	return b
}

// start returns when the broker has said where it listens.
func (b *broker) start() {
	b.t.Helper()
	b.cmd = exec.Command(harness.Waysided(b.t), b.args...)
	b.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	log, err := os.OpenFile(b.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		b.t.Fatal(err)
	}
	defer log.Close()
	b.cmd.Stderr = log
	out, err := b.cmd.StdoutPipe()
	if err != nil {
		b.t.Fatal(err)
	}
	if err := b.cmd.Start(); err != nil {
		b.t.Fatal(err)
	}
	if !bufio.NewScanner(out).Scan() {
		b.t.Fatalf("the broker ended: %v", b.cmd.Wait())
	}
}

// end has the process end by a signal; one that ignores it is killed.
func (b *broker) end(sig os.Signal) {
	if b.cmd == nil {
		return
	}
	b.cmd.Process.Signal(sig)
	kill := time.AfterFunc(20*time.Second, func() { b.cmd.Process.Kill() })
	defer kill.Stop()
	err := b.cmd.Wait()
	if exit := new(exec.ExitError); sig == syscall.SIGTERM && errors.As(err, &exit) {
		b.t.Errorf("the broker's end: %v", err)
	}
	b.cmd = nil
}

// restart ends the process by a signal and starts it again on the same
// address and data.
func (b *broker) restart(sig os.Signal) {
	b.t.Helper()
	if b.control != nil {
		b.control.Stop()
		b.control.Start()
		return
	}
	b.end(sig)
	b.start()
}

func (b *broker) showLog() {
	text, _ := os.ReadFile(b.log)
	lines := bytes.Split(bytes.TrimSpace(text), []byte("\n"))
	b.t.Logf("the broker's log ends:\n%s", bytes.Join(lines[max(0, len(lines)-30):], []byte("\n")))
}

// quicken has members of the consumer protocol speak ten times as often as
// they do otherwise: the cases wait for many rebalances. Apache Kafka would
// not let them.
func (b *broker) quicken() {
	b.t.Helper()
	if b.control != nil {
		return
	}
	cl := harness.Client(b.t, b.addr)
	defer cl.Close()
	interval := "500"
	res, err := kadm.NewClient(cl).AlterBrokerConfigs(b.t.Context(),
		[]kadm.AlterConfig{{Name: "group.consumer.heartbeat.interval.ms", Value: &interval}}, 1)
	if err != nil || len(res) != 1 || res[0].Err != nil {
		b.t.Fatalf("configure the broker: %v %+v", err, res)
	}
}

// start runs a helper program until the test ends; it must not outlive it.
func start(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatalf("start %s: %v", cmd.Path, err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
}

// source is a folder below testdata.
func source(t *testing.T, name string) string {
	t.Helper()
	return filepath.Join(harness.Source(t), "test", "clients", "testdata", name)
}

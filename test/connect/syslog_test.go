package connect

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/waysideos/wayside/services/connect/connecttest"
)

// TestSyslogRsyslog: rsyslog forwards what logger gives it, over UDP and TCP,
// in the old form and the new, and keeps what it cannot deliver.
func TestSyslogRsyslog(t *testing.T) {
	need(t)
	logger, rsyslogd := tool(t, "logger"), tool(t, "rsyslogd")
	dir := t.TempDir()
	udp, tcp := connecttest.FreeAddress(t), connecttest.FreeAddress(t)
	kafka := edge(t)
	in := fmt.Sprintf(`
connect:
  syslog:
    - {name: udp, listen: "%s"}
    - {name: tcp, listen: "%s", transport: tcp}
`, udp, tcp)
	data := t.TempDir()
	serve := func() *process {
		return connectors(t, "--broker", kafka.addr, "--data", data, "--secrets", dir,
			"--run-dir", t.TempDir(), "--site", profile(t, in))
	}
	box := serve()
	until(t, "the box to listen", func() bool { return takesDatagrams(t, udp) })
	socket := filepath.Join(dir, "log")
	conf := filepath.Join(dir, "rsyslog.conf")
	write(t, conf, fmt.Sprintf(`
global(workDirectory="%[1]s")
module(load="imuxsock" SysSock.Use="off")
input(type="imuxsock" Socket="%[2]s" CreatePath="on")
action(type="omfwd" target="127.0.0.1" port="%[3]s" protocol="udp" template="RSYSLOG_TraditionalForwardFormat")
action(type="omfwd" target="127.0.0.1" port="%[4]s" protocol="tcp" TCP_Framing="octet-counted" template="RSYSLOG_SyslogProtocol23Format"
       queue.type="LinkedList" action.resumeRetryCount="-1" action.resumeInterval="1")
`, dir, socket, port(t, udp), port(t, tcp)))
	start(t, rsyslogd, "-n", "-i", filepath.Join(dir, "pid"), "-f", conf)
	say := func(text string) {
		t.Helper()
		until(t, "rsyslog to take a message", func() bool {
			return exec.Command(logger, "--socket-errors=on", "-u", socket, "-p", "local4.err", "-t", "press", text).Run() == nil
		})
	}
	type line struct{ Facility, Severity, App, Message string }
	await := func(topic, text string) []*kgo.Record {
		t.Helper()
		return records(t, kafka.addr, topic, func(rs []*kgo.Record) bool {
			for _, r := range rs {
				var got line
				if err := json.Unmarshal(r.Value, &got); err == nil && cmp.Equal(line{"local4", "err", "press", text}, got) {
					return true
				}
			}
			return false
		})
	}
	say("door is open")
	await("udp", "door is open")
	await("tcp", "door is open")
	box.stop()
	say("while the box was away")
	serve()
	say("again")
	await("tcp", "again")

	for _, form := range []string{"--rfc3164", "--rfc5424"} {
		output(t, logger, form, "-n", "127.0.0.1", "-P", port(t, udp), "-d", "-p", "local4.err", "-t", "press", "by logger "+form)
		await("udp", "by logger "+form)
	}
}

// takesDatagrams is false while nobody listens at an address of this machine:
// an empty datagram comes back as an error.
func takesDatagrams(t testing.TB, addr string) bool {
	t.Helper()
	conn, err := net.Dial("udp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_, _ = conn.Write(nil)
	_ = conn.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
	_, err = conn.Read(make([]byte, 1))
	return errors.Is(err, os.ErrDeadlineExceeded)
}

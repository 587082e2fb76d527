package connect

import (
	"fmt"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/waysideos/wayside/services/connect/connecttest"
)

const sshdConfig = `Port %s
ListenAddress 127.0.0.1
HostKey %[2]s/host
AuthorizedKeysFile %[2]s/authorized
StrictModes no
UsePAM no
PidFile none
PasswordAuthentication no
Subsystem sftp internal-sftp
`

// sshd is OpenSSH's server on a folder of keys: host, and user's in user.
func sshd(t *testing.T) (port, dir string) {
	t.Helper()
	dir = t.TempDir()
	for _, name := range []string{"host", "user", "foreign"} {
		output(t, tool(t, "ssh-keygen"), "-q", "-t", "ed25519", "-N", "", "-f", filepath.Join(dir, name))
	}
	key, err := os.ReadFile(filepath.Join(dir, "user.pub"))
	if err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, "authorized"), string(key))
	_, port, _ = net.SplitHostPort(connecttest.FreeAddress(t))
	write(t, filepath.Join(dir, "sshd_config"), fmt.Sprintf(sshdConfig, port, dir))
	if os.Getuid() == 0 { // it insists on that folder
		if err := os.MkdirAll("/run/sshd", 0o755); err != nil {
			t.Fatal(err)
		}
	}
	start(t, tool(t, "sshd"), "-D", "-e", "-f", filepath.Join(dir, "sshd_config"))
	until(t, "sshd to listen", func() bool {
		c, err := net.Dial("tcp", "127.0.0.1:"+port)
		if err == nil {
			c.Close()
		}
		return err == nil
	})
	return port, dir
}

// TestSFTP pulls CSV files from OpenSSH, killed and started again in between,
// each line once, and refuses a server with another key.
func TestSFTP(t *testing.T) {
	need(t)
	port, dir := sshd(t)
	me, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	folder := t.TempDir()
	text := `connect:
  files:
    - {name: sales, folder: "sftp://%s@127.0.0.1:%s%s", key: user, host_key: %s, match: "*.csv", every: 100ms, settle: 300ms, format: csv, numbers: true, after: move, archive: done}
`
	broker := edge(t)
	run := func(hostKey string) *process {
		return connectors(t, "--site", profile(t, fmt.Sprintf(text, me.Username, port, folder, hostKey)), "--broker", broker.addr, "--secrets", dir)
	}
	refused := run("foreign.pub")
	until(t, "the host key to be refused", func() bool { return strings.Contains(refused.out.String(), "is not among the") })
	refused.stop()

	pulled(t, broker, folder, func() *process { return run("host.pub") })
}

// TestFTP pulls CSV files from pyftpdlib in the same way, in clear and with TLS.
func TestFTP(t *testing.T) {
	need(t)
	py := python(t, "pyftpdlib==2.2.0", "pyopenssl==25.3.0")
	secrets := certificates(t)
	write(t, filepath.Join(secrets, "word"), "till-pass-word\n")
	for _, scheme := range []string{"ftp", "ftps"} {
		t.Run(scheme, func(t *testing.T) {
			_, port, _ := net.SplitHostPort(connecttest.FreeAddress(t))
			folder, broker := t.TempDir(), edge(t)
			start(t, py, "testdata/python/ftp_server.py", scheme, port, folder, "till-pass-word", secrets)
			text := fmt.Sprintf(`connect:
  files:
    - {name: sales, folder: "%s://till@127.0.0.1:%s/", password: word, ca: ca.pem, match: "*.csv", every: 100ms, settle: 300ms, format: csv, numbers: true, after: move, archive: done}
`, scheme, port)
			if scheme == "ftp" {
				text = strings.Replace(text, "ca: ca.pem, ", "", 1)
			}
			var last *process
			pulled(t, broker, folder, func() *process {
				last = connectors(t, "--site", profile(t, text), "--broker", broker.addr, "--secrets", secrets)
				return last
			})
			if strings.Contains(last.out.String(), "till-pass-word") {
				t.Error("the password is in the log")
			}
		})
	}
}

// pulled writes files of CSV into a folder whose files run's connector reads,
// kills it in the middle, and wants each line once and all files moved.
func pulled(t *testing.T, broker *process, folder string, run func() *process) {
	t.Helper()
	total := 0
	for round := range 3 {
		c := run()
		for k := range 4 {
			csv := "id,amount\n"
			for range 500 {
				csv += fmt.Sprintf("%d,1.50\n", total)
				total++
			}
			write(t, filepath.Join(folder, fmt.Sprintf("day-%d-%d.csv", round, k)), csv)
		}
		records(t, broker.addr, "sales", atLeast(total-1000)) // in the middle, most likely
		c.kill()
	}
	run()
	seen := map[string]int{}
	for _, r := range records(t, broker.addr, "sales", func(rs []*kgo.Record) bool { return len(rs) >= total }) {
		seen[string(r.Value)]++
	}
	for i := range total {
		if n := seen[fmt.Sprintf(`{"id":%d,"amount":1.50}`, i)]; n != 1 {
			t.Fatalf("line %d came %d times", i, n)
		}
	}
	until(t, "all files to be moved", func() bool {
		moved, _ := filepath.Glob(filepath.Join(folder, "done", "*.csv"))
		return len(moved) == 12
	})
}

package main

import (
	"bytes"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/waysideos/wayside/services/connect/connecttest"
)

// A connector runs from the laptop, without a broker, until enough was seen.
func TestConnectTest(t *testing.T) {
	addr := connecttest.FreeAddress(t)
	file := filepath.Join(t.TempDir(), "site.yaml")
	profile := "version: 1\nsite: plant\nconnect: {http: [{name: gate, listen: \"" + addr + "\", posts: [{path: /in}]}]}\n"
	if err := os.WriteFile(file, []byte(profile), 0o600); err != nil {
		t.Fatal(err)
	}
	run := func(args ...string) (string, error) {
		root := newRootCmd()
		var out bytes.Buffer
		root.SetOut(&out)
		root.SetErr(&bytes.Buffer{})
		root.SetArgs(append([]string{"connect"}, append(args, "--profile", file)...))
		err := root.ExecuteContext(t.Context())
		return out.String(), err
	}
	if _, err := run("test", "other"); err == nil || !strings.Contains(err.Error(), "there are: gate") {
		t.Errorf("a name that is not there: %v", err)
	}
	if _, err := run("browse", "gate"); err == nil || !strings.Contains(err.Error(), "nothing to browse") {
		t.Errorf("browse: %v", err)
	}
	silent, err := net.Listen("tcp", "127.0.0.1:0") // takes connections, and says nothing
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	press := "    modbus: [{name: press, address: \"" + silent.Addr().String() + "\", timeout: 1m, points: [{name: x, address: \"holding:1\"}]}]\n"
	if err := os.WriteFile(file, []byte("version: 1\nsite: plant\nconnect:\n"+press), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := run("test", "press", "--timeout", "100ms"); err == nil || !strings.Contains(err.Error(), "press: the device did not answer within 100ms") {
		t.Errorf("a device that says nothing: %v", err)
	}
	if err := os.WriteFile(file, []byte(profile), 0o600); err != nil {
		t.Fatal(err)
	}
	stop := make(chan struct{})
	go func() {
		for {
			select {
			case <-stop:
				return
			default:
			}
			if resp, err := http.Post("http://"+addr+"/in", "text/plain", strings.NewReader("hello")); err == nil {
				resp.Body.Close()
			}
		}
	}()
	out, err := run("test", "gate", "--records", "2")
	close(stop)
	if err != nil || strings.Count(out, "  hello\n") != 2 || !strings.Contains(out, "gate  key in") {
		t.Errorf("got %v,\n%s", err, out)
	}
}

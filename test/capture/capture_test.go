// Package capture records the requests of real clients, from which FuzzRequest
// of services/broker/server starts.
package capture

import (
	"bytes"
	"context"
	"flag"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"

	"github.com/waysideos/wayside/services/broker"
	"github.com/waysideos/wayside/services/vfs"
	"github.com/waysideos/wayside/test/harness"
)

var update = flag.Bool("update", false, "rewrite the corpus of FuzzRequest from all clients that this machine has")

// TestCapture runs clients through a proxy. With -update it also runs those
// that `make clients` has fetched, and rewrites the corpus.
func TestCapture(t *testing.T) {
	p := startProxy(t)
	p.to = startBroker(t, p.addr)
	var ids [][]byte
	seen := func() {
		cl := harness.Client(t, p.to)
		defer cl.Close()
		topics, err := kadm.NewClient(cl).ListTopicsWithInternal(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range topics {
			ids = append(ids, bytes.Clone(d.ID[:]))
		}
	}
	for name, opt := range versions {
		if name != newest && !*update {
			continue
		}
		t.Run("franz-go "+name, func(t *testing.T) { (&franz{t: t, addr: p.addr, opt: opt}).all(seen) })
	}
	if *update {
		for name, cmd := range others(t, p.addr) {
			t.Run(name, func(t *testing.T) {
				run(t, cmd)
				seen()
			})
		}
	}
	if len(p.kept) < 40 {
		t.Errorf("captured %d keys and versions, want more", len(p.kept))
	}
	if *update {
		n, err := p.save(filepath.Join(harness.Source(t), "services", "broker", "server", "testdata", "fuzz", "FuzzRequest"), ids)
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("%d requests of %d keys and versions", n, len(p.kept))
	}
}

// startBroker serves in this process, and tells clients the proxy's address.
func startBroker(t *testing.T, advertised string) (addr string) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	b, err := broker.New(broker.Config{
		FS: vfs.NewCrashable(1), Listeners: []net.Listener{ln}, AutoCreate: true, Advertised: advertised,
		Log: slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn})),
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- b.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	<-b.Ready()
	return ln.Addr().String()
}

// others are the programs that test/clients has fetched and built, and kcat.
func others(t *testing.T, addr string) map[string]*exec.Cmd {
	t.Helper()
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	cmds := map[string]*exec.Cmd{
		"kcat": exec.Command("sh", "-c", `seq 20 | kcat -b $0 -P -t k && kcat -b $0 -C -t k -e -q && kcat -b $0 -L && kcat -b $0 -Q -t k:0:-1 && kcat -b $0 -G kcat k -e -q`, addr),
	}
	latest := func(project string) string {
		dirs, _ := filepath.Glob(filepath.Join(cache, "wayside", "test", "clients", project+"-*", "complete"))
		if len(dirs) == 0 {
			t.Logf("%s was never fetched: run make clients", project)
			return ""
		}
		slices.SortFunc(dirs, func(a, b string) int { return modified(a).Compare(modified(b)) })
		return filepath.Dir(dirs[len(dirs)-1])
	}
	if dir := latest("java"); dir != "" {
		path := filepath.Join(dir, "target", "classes") + ":" + filepath.Join(dir, "lib", "*")
		list, err := exec.Command("java", "-cp", path, "clients.Main", "--list").Output()
		if err != nil {
			t.Fatal(err)
		}
		cases := slices.DeleteFunc(strings.Fields(string(list)), func(s string) bool { return strings.HasPrefix(s, "security/") })
		cmds["java"] = exec.Command("java", append([]string{"-Xmx384m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-cp", path, "clients.Main", addr}, cases...)...)
	}
	if dir := latest("python"); dir != "" {
		for _, script := range []string{"librdkafka.py", "kafkapython.py"} {
			cmds[script] = exec.Command(filepath.Join(dir, "venv", "bin", "python"), filepath.Join(dir, script), addr)
		}
	}
	if dir := latest("node"); dir != "" {
		cmds["kafkajs"] = exec.Command("node", filepath.Join(dir, "kafkajs.mjs"), addr)
	}
	return cmds
}

func modified(path string) time.Time {
	fi, err := os.Stat(path)
	if err != nil {
		return time.Time{}
	}
	return fi.ModTime()
}

// run runs a client to its end. Whether its cases pass is not asked here; the
// broker is not killed where one asks for that.
func run(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	cmd.Stdin = strings.NewReader(strings.Repeat("done\n", 100))
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Logf("not captured: %v", err)
		return
	}
	late := time.AfterFunc(3*time.Minute, func() { cmd.Process.Kill() })
	defer late.Stop()
	err := cmd.Wait()
	t.Logf("%v: %d cases passed, %d failed", err, bytes.Count(out.Bytes(), []byte("@pass")), bytes.Count(out.Bytes(), []byte("@fail")))
}

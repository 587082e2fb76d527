package harness

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/waysideos/wayside/boards"
	"github.com/waysideos/wayside/qemu"
	"github.com/waysideos/wayside/qemu/qemutest"
	"github.com/waysideos/wayside/services/manifest"
)

// Board is the board that the virtual machine tests run on: that of
// environment WAYSIDE_BOARD, or qemu-x86_64.
var Board = cmp.Or(os.Getenv("WAYSIDE_BOARD"), "qemu-x86_64")

// BootTime is how long a box may take from power-on to ready. Emulated, on
// two busy cores, it takes a fraction of this.
const BootTime = 4 * time.Minute

// NeedVM skips the test unless virtual machines are asked for (`make vm`
// does): then whatever is missing fails instead of being skipped.
func NeedVM(t testing.TB) {
	t.Helper()
	if os.Getenv("WAYSIDE_VM") == "" {
		t.Skip("boots virtual machines: run make vm")
	}
	board := theBoard(t)
	if board.QEMU == nil {
		t.Fatalf("WAYSIDE_BOARD=%s: QEMU cannot play this board", Board)
	}
	if _, err := qemu.Find(t.Context(), board.QEMU.System); err != nil {
		t.Fatal(err)
	}
}

// Long says that the whole matrix is asked for, as `make test-all` does.
func Long() bool { return os.Getenv("WAYSIDE_LONG") != "" }

// HasTPM says that QEMU can give the board a TPM that its kernel knows.
func HasTPM(t testing.TB) bool { return theBoard(t).QEMU.TPM != "" }

// HasSecureBoot says that QEMU has firmware with Secure Boot for the board.
func HasSecureBoot(t testing.TB) bool { return theBoard(t).QEMU.SecureCode != "" }

// Arch is the test board's GOARCH.
func Arch(t testing.TB) string { return theBoard(t).Arch }

// System names the QEMU that plays the test board: qemu-system-<that>.
func System(t testing.TB) string { return theBoard(t).QEMU.System }

func theBoard(t testing.TB) boards.Board {
	t.Helper()
	board, err := boards.Get(Board)
	if err != nil {
		t.Fatalf("WAYSIDE_BOARD: %v", err)
	}
	return board
}

// Image is a finished image, as `wayside build --json` describes it.
type Image struct {
	Path     string        `json:"path"`
	Size     int64         `json:"size_bytes"`
	Stored   int64         `json:"stored_bytes"`
	RootHash string        `json:"root_hash"`
	Board    string        `json:"board"`
	Firmware qemu.Firmware `json:"firmware"`
	Seconds  float64       `json:"seconds"`
}

// Wayside returns the command's path, built once per test process.
var wayside = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "wayside-test-")
	if err != nil {
		return "", err
	}
	bin := filepath.Join(dir, "wayside")
	out, err := exec.Command("go", "build", "-o", bin, "github.com/waysideos/wayside/cmd/wayside").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("build wayside: %v\n%s", err, out)
	}
	return bin, nil
})

// Command is `wayside args...`, run from the source tree.
func Command(t testing.TB, args ...string) *exec.Cmd {
	t.Helper()
	bin, err := wayside()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(bin, args...)
	cmd.Dir = Source(t)
	return cmd
}

// Source is the root of the source tree.
func Source(t testing.TB) string {
	t.Helper()
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}").Output()
	if err != nil {
		t.Fatalf("find the source tree: %v", err)
	}
	return strings.TrimSpace(string(out))
}

// Build builds an image of the test board with a site profile ("" for none),
// once per profile and test process. The image must not be written to.
func Build(t testing.TB, profile string) Image {
	t.Helper()
	return BuildBoard(t, Board, profile)
}

// BuildBoard is Build for another board, with further arguments of `wayside
// build`.
func BuildBoard(t testing.TB, board, profile string, args ...string) Image {
	t.Helper()
	builds.Lock()
	defer builds.Unlock()
	key := strings.Join(append([]string{board, profile}, args...), "\n")
	img, ok := builds.done[key]
	if !ok {
		img = build(t, key, board, profile, args)
		builds.done[key] = img
	}
	return img
}

var builds = struct {
	sync.Mutex
	done map[string]Image
}{done: map[string]Image{}}

// build writes below the user's cache: a test's own folder would go away with
// the first test, and one in the system's would stay.
func build(t testing.TB, key, board, profile string, more []string) Image {
	t.Helper()
	dir := mkdir(t, filepath.Join(CacheDir(t), "images", fmt.Sprintf("%x", sha256.Sum256([]byte(key)))[:16]))
	args := append([]string{"build", "--json", "--board", board, "--out", dir}, more...)
	if profile != "" {
		file := filepath.Join(dir, "site.yaml")
		if err := os.WriteFile(file, []byte(profile), 0o644); err != nil {
			t.Fatal(err)
		}
		args = append(args, "--site", file)
	}
	cmd := Command(t, args...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("wayside %s: %v\n%s", strings.Join(args, " "), err, stderr.Bytes())
	}
	var img Image
	if err := json.Unmarshal(out, &img); err != nil {
		t.Fatalf("wayside build --json printed %q: %v", out, err)
	}
	return img
}

// CacheDir is where the tests keep what is costly to make.
func CacheDir(t testing.TB) string {
	t.Helper()
	dir, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	return filepath.Join(dir, "wayside", "test")
}

// Box is a virtual machine and how a host reaches its services.
type Box struct {
	*qemu.VM
	t testing.TB
}

// Boot switches a box on, with one processor, which is cheaper to emulate than
// two. mods change its configuration first. The transcript of its console is
// kept when the test fails.
func Boot(t testing.TB, img Image, mods ...func(*qemu.Config)) *Box {
	t.Helper()
	cfg := config(t, img)
	for _, mod := range mods {
		mod(&cfg)
	}
	return &Box{VM: qemutest.New(t, cfg), t: t}
}

// Restore gives the test a box of its own that is ready at once: booted and
// saved the first time an image is asked for, restored after that. For every
// test that is not about booting. It has all processors of the board.
func Restore(t testing.TB, img Image) *Box {
	t.Helper()
	cfg := config(t, img)
	AllProcessors(&cfg)
	ready := func(_ context.Context, vm *qemu.VM) error {
		(&Box{VM: vm, t: t}).WaitReady()
		return nil
	}
	b := &Box{VM: qemutest.Restore(t, filepath.Join(CacheDir(t), "snapshots"), cfg, ready), t: t}
	b.WaitReady()
	return b
}

// AllProcessors gives a box as many processors as its board has: for Boot.
func AllProcessors(c *qemu.Config) { c.SMP = 0 }

func config(t testing.TB, img Image) qemu.Config {
	t.Helper()
	board, err := boards.Get(img.Board)
	if err != nil {
		t.Fatal(err)
	}
	smp := 1
	if board.QEMU.Plays == boards.PlaysPi {
		smp = 0 // its machine has four and takes no other number
	}
	return qemu.Config{
		Board: board, Image: img.Path, Firmware: img.Firmware, SMP: smp,
		Forwards: []qemu.Forward{
			{Name: "kafka", Host: "127.0.0.1:0", Guest: 9092},
			{Name: "mqtt", Host: "127.0.0.1:0", Guest: 1883},
			{Name: "console", Host: "127.0.0.1:0", Guest: 8080},
		},
		Advertised: "kafka",
	}
}

// Expect waits for a line on the console and returns its match.
func (b *Box) Expect(within time.Duration, pattern string) []string {
	b.t.Helper()
	p := regexp.MustCompile(pattern)
	for end := time.Now().Add(within); ; {
		ctx, cancel := context.WithTimeout(b.t.Context(), min(lookEvery, time.Until(end)))
		match, err := b.VM.Expect(ctx, p)
		timedOut := ctx.Err() != nil && b.t.Context().Err() == nil
		cancel()
		switch {
		case err == nil:
			return match
		case timedOut && b.revive():
			end = time.Now().Add(within)
		case !timedOut || !time.Now().Before(end):
			b.t.Fatal(err)
		}
	}
}

// lookEvery is how often a wait for the console looks whether the emulated
// machine still can print.
const lookEvery = 5 * time.Second

// Eventually is the function of that name, for what the box does by itself
// once it has started: the deadline begins anew if the emulator stopped.
func (b *Box) Eventually(deadline time.Duration, what string, check func(context.Context) error) {
	b.t.Helper()
	eventually(b.t, deadline, what, check, b.revive)
}

// WaitReady waits until the box keeps its promise: every service is ready.
func (b *Box) WaitReady() {
	b.t.Helper()
	b.Eventually(BootTime, "the box is ready", func(ctx context.Context) error {
		if exit := b.Exit(); exit != nil {
			b.t.Fatalf("the box went off: %v\n%s", exit, b.Console().Tail(60))
		}
		_, err := b.get(ctx, "/healthz")
		return err
	})
}

// PowerOn switches the box on again and waits until it is ready.
func (b *Box) PowerOn() {
	b.t.Helper()
	if err := b.VM.PowerOn(b.t.Context()); err != nil {
		b.t.Fatal(err)
	}
	b.WaitReady()
}

// PowerOff presses the power button and waits until the box is off.
func (b *Box) PowerOff() {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.t.Context(), 2*time.Minute)
	defer cancel()
	if err := b.Shutdown(ctx); err != nil {
		b.t.Fatal(err)
	}
}

// Look is Status of a box that is up.
func (b *Box) Look() (s Status) {
	b.t.Helper()
	b.ask("the box says how it is", func(ctx context.Context) (err error) {
		s, err = b.Status(ctx)
		return err
	})
	return s
}

// ask is the function of that name, of a box; one that the emulator stopped is
// up again before it is asked anew.
func (b *Box) ask(what string, check func(context.Context) error) {
	b.t.Helper()
	ask(b.t, what, check, func() bool {
		again := b.revive()
		if again {
			b.WaitReady()
		}
		return again
	})
}

// get reads a path of the status server; any answer but 200 is an error.
func (b *Box) get(ctx context.Context, path string) ([]byte, error) {
	return get(ctx, b.Addr("console"), path)
}

func get(ctx context.Context, addr, path string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, "GET", "http://"+addr+path, nil)
	if err != nil {
		return nil, err
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(io.LimitReader(res.Body, 1<<20))
	if err == nil && res.StatusCode != http.StatusOK {
		err = fmt.Errorf("GET %s: %s: %s", path, res.Status, bytes.TrimSpace(body))
	}
	return body, err
}

// Get reads a path of the status server of a box that is up.
func (b *Box) Get(path string) (page string) {
	b.t.Helper()
	b.ask("the box shows "+path, func(ctx context.Context) error {
		body, err := b.get(ctx, path)
		page = string(body)
		return err
	})
	return page
}

// Status is what GET /status says.
type Status struct {
	Box manifest.Box `json:"box"`
	// Answers are what the services say of themselves.
	Answers []struct {
		Name   string           `json:"name"`
		Report *manifest.Report `json:"report"`
	} `json:"services"`
}

// Status reads the box's own word on itself.
func (b *Box) Status(ctx context.Context) (Status, error) {
	return b.StatusAt(ctx, b.Addr("console"))
}

// StatusAt is Status by way of another address of the status server.
func (b *Box) StatusAt(ctx context.Context, addr string) (Status, error) {
	var s Status
	body, err := get(ctx, addr, "/status")
	if err == nil {
		err = json.Unmarshal(body, &s)
	}
	return s, err
}

// Service returns one service of the status.
func (s Status) Service(name string) manifest.Service {
	for _, svc := range s.Box.Services {
		if svc.Name == name {
			return svc
		}
	}
	return manifest.Service{}
}

// Report is what a service says of itself, the zero Report if it does not.
func (s Status) Report(name string) manifest.Report {
	for _, a := range s.Answers {
		if a.Name == name && a.Report != nil {
			return *a.Report
		}
	}
	return manifest.Report{}
}

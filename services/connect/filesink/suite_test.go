package filesink

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/waysideos/wayside/services/connect"
	"github.com/waysideos/wayside/services/connect/connecttest"
	"github.com/waysideos/wayside/services/site"
	"github.com/waysideos/wayside/services/vfs"
)

// usb is a stick, and a client that writes to the topic.
type usb struct {
	t  *testing.T
	cl *kgo.Client

	mu      sync.Mutex
	disk    *vfs.Crashable
	plugged bool
}

func newUSB(t *testing.T) *usb { return &usb{t: t, disk: vfs.NewCrashable(3)} }

func (u *usb) target() (vfs.FS, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if !u.plugged {
		return nil, fmt.Errorf("%w is plugged in", errAway)
	}
	return u.disk, nil
}

func (u *usb) plug(in bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.plugged = in
	u.disk.SetHook(nil)
	if !in {
		u.disk.SetHook(func(vfs.Op, string) error { return syscall.EIO })
	}
}

func (u *usb) Start() { u.plug(true) }
func (u *usb) Stop()  { u.plug(false) }

func (u *usb) Join(b *connecttest.Broker) {
	var err error
	if u.cl, err = kgo.NewClient(kgo.SeedBrokers(b.Addr), kgo.AllowAutoTopicCreation(), kgo.MetadataMinAge(50*time.Millisecond)); err != nil {
		u.t.Fatal(err)
	}
	u.t.Cleanup(u.cl.Close)
	if _, err := kadm.NewClient(u.cl).CreateTopic(u.t.Context(), 1, -1, nil, "dev"); err != nil {
		u.t.Fatal(err)
	}
}

func (u *usb) Emit(value int64) error { return u.put(fmt.Sprintf(`{"value":%d}`, value)) }

func (u *usb) put(text string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	return u.cl.ProduceSync(ctx, &kgo.Record{Topic: "dev", Value: []byte(text)}).FirstErr()
}

func (u *usb) Do(f connecttest.Fault) bool {
	switch f {
	case connecttest.Malformed:
		return u.put("no object") == nil
	case connecttest.Slow:
		u.disk.SetHook(func(vfs.Op, string) error { time.Sleep(time.Second); return nil })
	default:
		u.disk.SetHook(nil)
	}
	return true
}

func (u *usb) Arrived(n int, most time.Duration) (all []int64) {
	for end := time.Now().Add(most); ; time.Sleep(20 * time.Millisecond) {
		all = nil
		for _, line := range lines(u.t, u.disk, `\.jsonl$`) {
			var v struct{ Value int64 }
			if err := json.Unmarshal([]byte(line), &v); err != nil {
				u.t.Fatalf("line %q: %v", line, err)
			}
			all = append(all, v.Value)
		}
		if len(all) >= n || time.Now().After(end) {
			return all
		}
	}
}

// lines are of all complete files, in the order of their names.
func lines(t *testing.T, fsys *vfs.Crashable, names string) (all []string) {
	t.Helper()
	files, err := complete(fsys, regexp.MustCompile(names), 5)
	if err != nil {
		return nil // it is not plugged in
	}
	for _, d := range files {
		text, err := tryRead(fsys, d.name)
		if errors.Is(err, vfs.ErrCrashed) {
			return nil // meanwhile
		}
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(text) {
			all = append(all, strings.TrimSuffix(line, "\n"))
		}
	}
	return all
}

func read(t *testing.T, fsys vfs.FS, name string) string {
	t.Helper()
	text, err := tryRead(fsys, name)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func tryRead(fsys vfs.FS, name string) (string, error) {
	f, err := fsys.Open(name)
	if err != nil {
		return "", err
	}
	defer f.Close()
	size, err := f.Size()
	if err != nil {
		return "", err
	}
	b := make([]byte, size)
	if _, err := f.ReadAt(b, 0); err != nil && err != io.EOF {
		return "", err
	}
	return string(b), nil
}

func TestSuite(t *testing.T) {
	var u *usb
	connecttest.Run(t, connecttest.Case{
		Protocol: "file_sink", Acknowledged: true, Once: true,
		New: func(t *testing.T, _ string) (string, connecttest.Device) {
			u = newUSB(t)
			return "name: dev\ntopics: [dev]\nstick: out\nformat: json\nrotate: {every: 200ms}\ncolumns: [{name: value, type: int64}]\n", u
		},
		Make:   func(p *site.Profile) (connect.Connector, error) { return newConnector(p.Connect.FileSink[0], u.target) },
		Change: "keep: {files: 100000}",
		Cannot: map[string]string{
			"times and quality": "it makes no records",
		},
	})
}

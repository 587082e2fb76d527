package connecttest

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/waysideos/wayside/services/connect"
	"github.com/waysideos/wayside/services/site"
	"github.com/waysideos/wayside/services/vfs"
)

// world is one test's box, broker, disk and device.
type world struct {
	*testing.T
	c       Case
	b       *Broker
	disk    *vfs.Crashable
	secrets string
	profile string
	dev     Device
	run     *Running
	logs    []*Log
}

// instance reads the entry as the box would.
func (w *world) instance(change string) connect.Instance {
	w.Helper()
	if w.c.Service != nil {
		return connect.Instance{
			Connector: w.c.Service(w.profile+change, w.b.Addr, w.secrets), Name: "dev", Protocol: w.c.Protocol, Records: site.DefaultRecords("dev"),
		}
	}
	text := "version: 1\nsite: box\nconnect:\n  " + w.c.Protocol + ":\n    -\n"
	for line := range strings.Lines(strings.TrimRight(w.profile, "\n") + "\n" + change) {
		text += "      " + line
	}
	p, err := site.Parse("case", []byte(text))
	if err != nil {
		w.Fatalf("the profile of the case:\n%v\n%s", err, text)
	}
	c, err := w.c.Make(p)
	if err != nil {
		w.Fatal(err)
	}
	return connect.NewInstance(p.Connect.Instances()[0], c)
}

// start runs the connector; change is a further line of its entry.
func (w *world) start(change string) {
	w.Helper()
	w.run = Start(w, w.b.Addr, w.disk, w.secrets, w.instance(change))
	w.logs = append(w.logs, w.run.Log)
}

// begin has the device and the connector live.
func (w *world) begin() {
	w.Helper()
	w.dev.Start()
	w.start("")
	w.up()
}

func (w *world) up() {
	w.Helper()
	Until(w, "the connector is up", func() bool { return w.run.State("dev").State == connect.Running })
}

// emit gives values from..to-1 to the device, and returns those that it may
// count on. A polled device shows each until it was seen.
func (w *world) emit(from, to int64) (sure []int64) {
	w.Helper()
	for v := from; v < to; v++ {
		before := w.run.State("dev")
		err := w.dev.Emit(v)
		if err == nil {
			sure = append(sure, v)
		}
		if w.c.Polled {
			Until(w, fmt.Sprintf("value %d is polled", v), func() bool {
				now := w.run.State("dev")
				return now.Records+now.Waiting > before.Records+before.Waiting
			})
		}
	}
	return sure
}

// emitAll is emit that tries until the device was heard.
func (w *world) emitAll(from, to int64) {
	w.Helper()
	for v := from; v < to; v++ {
		Until(w, fmt.Sprintf("value %d is taken", v), func() bool { return len(w.emit(v, v+1)) == 1 })
	}
}

// want waits until all values are among the records of the topic, in the order
// of their first coming.
func (w *world) want(values []int64) {
	w.Helper()
	var missing []int64
	var got []int64
	for n := max(1, len(values)); ; n = len(got) + 1 {
		got = w.arrived(n, wait/3)
		if missing = without(values, got); len(missing) == 0 || len(got) < n {
			break
		}
	}
	if len(missing) > 0 {
		w.Fatalf("%d of %d values are not in the topic, the first is %d; the topic has %d records", len(missing), len(values), missing[0], len(got))
	}
	w.inOrder(values, got)
}

// arrived are the first n values that the connector has brought; -1 is none.
func (w *world) arrived(n int, most time.Duration) (got []int64) {
	if far, sink := w.dev.(Far); sink {
		return far.Arrived(n, most)
	}
	for _, r := range w.b.ReadFor(w.c.Topic, n, most) {
		v, ok := w.c.Value(r)
		if !ok {
			v = -1
		}
		got = append(got, v)
	}
	return got
}

func (w *world) inOrder(values, got []int64) {
	w.Helper()
	seen, last := map[int64]int{}, int64(-1)
	for _, v := range got {
		seen[v]++
		if seen[v] == 1 && v >= 0 {
			if v < last {
				w.Fatalf("value %d comes after %d", v, last)
			}
			last = v
		}
	}
	for _, v := range values {
		if w.c.Once && seen[v] != 1 {
			w.Fatalf("value %d is there %d times, want once", v, seen[v])
		}
	}
}

func without(values, got []int64) []int64 {
	have := map[int64]bool{}
	for _, v := range got {
		have[v] = true
	}
	var missing []int64
	for _, v := range values {
		if !have[v] {
			missing = append(missing, v)
		}
	}
	return missing
}

func span(from, to int64) (all []int64) {
	for v := from; v < to; v++ {
		all = append(all, v)
	}
	return all
}

// noSecrets looks for what the secret files hold in all that was logged.
func (w *world) noSecrets() {
	files, err := os.ReadDir(w.secrets)
	if err != nil {
		w.Fatal(err)
	}
	for _, f := range files {
		data, err := os.ReadFile(filepath.Join(w.secrets, f.Name()))
		if err != nil {
			w.Fatal(err)
		}
		secret := strings.TrimSpace(string(data))
		if len(secret) < 4 || strings.Contains(secret, "BEGIN CERTIFICATE") {
			continue
		}
		for _, l := range w.logs {
			if strings.Contains(l.String(), secret) {
				w.Errorf("what is in %s was logged", f.Name())
			}
		}
	}
}

package connect_test

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/waysideos/wayside/services/connect"
	"github.com/waysideos/wayside/services/connect/connecttest"
	"github.com/waysideos/wayside/services/site"
	"github.com/waysideos/wayside/services/vfs"
)

// script is a connector that is a function.
type script func(ctx context.Context, box *connect.Box) error

func (s script) Run(ctx context.Context, box *connect.Box) error { return s(ctx, box) }

func instance(s script, change ...func(*connect.Instance)) connect.Instance {
	i := connect.Instance{Connector: s, Name: "dev", Protocol: "script", Records: site.DefaultRecords("dev")}
	i.Records.Key = "{point}"
	for _, f := range change {
		f(&i)
	}
	return i
}

// forever hands the box out and runs until it is stopped.
func forever(boxes chan<- *connect.Box) script {
	return func(ctx context.Context, box *connect.Box) error {
		box.Up("")
		boxes <- box
		<-ctx.Done()
		return nil
	}
}

func values(rs []*kgo.Record) []string {
	var all []string
	for _, r := range rs {
		all = append(all, string(r.Value))
	}
	return all
}

func numbers(from, to int) []string {
	var all []string
	for i := from; i < to; i++ {
		all = append(all, fmt.Sprint(i))
	}
	return all
}

func TestReadingsBecomeRecords(t *testing.T) {
	b := connecttest.NewBroker(t)
	boxes := make(chan *connect.Box, 1)
	connecttest.Start(t, b.Addr, nil, "", instance(forever(boxes), func(i *connect.Instance) {
		i.Records.Topic = "plant/{site}.{point}"
		i.Records.Headers = map[string]string{"line": "{unit}!"}
	}))
	box := <-boxes
	at := time.Date(2026, 11, 28, 14, 0, 0, 5e6, time.UTC)
	if err := box.Readings(connect.Reading{
		Point: "p 1", Address: "holding:1", Value: uint64(1<<64 - 1), Unit: "°C", DeviceTime: at, BoxTime: at.Add(time.Second),
	}); err != nil {
		t.Fatal(err)
	}
	r := b.Read("plant.box.p-1", 1)[0]
	want := `{"point":"p 1","value":18446744073709551615,"unit":"°C","quality":"good","time":"2026-11-28T14:00:00.005Z","box_time":"2026-11-28T14:00:01.005Z","address":"holding:1"}`
	if diff := cmp.Diff(want, string(r.Value)); diff != "" {
		t.Errorf("value (-want +got):\n%s", diff)
	}
	var headers []string
	for _, h := range r.Headers {
		headers = append(headers, h.Key+"="+string(h.Value))
	}
	wantHeaders := []string{"source=holding:1", "unit=°C", "quality=good", "device-time=2026-11-28T14:00:00.005Z", "box-time=2026-11-28T14:00:01.005Z", "line=°C!", "connector=dev"}
	if diff := cmp.Diff(wantHeaders, headers); diff != "" {
		t.Errorf("headers (-want +got):\n%s", diff)
	}
	if string(r.Key) != "p 1" || !r.Timestamp.Equal(at) {
		t.Errorf("key %q, time %v; want p 1, %v", r.Key, r.Timestamp, at)
	}
}

// A device cannot wait, the broker is away, the box restarts: all is there, in
// order.
func TestSpoolOverOutageAndRestart(t *testing.T) {
	b, disk := connecttest.NewBroker(t), vfs.NewCrashable(2)
	boxes := make(chan *connect.Box, 1)
	run := connecttest.Start(t, b.Addr, disk, "", instance(forever(boxes)))
	box := <-boxes
	spool := func(from, to int) {
		for _, v := range numbers(from, to) {
			if err := box.Spool(connect.Record{Value: []byte(v)}); err != nil {
				t.Fatal(err)
			}
		}
	}
	spool(0, 100)
	b.Read("dev", 100)
	b.Stop()
	spool(100, 1000)
	connecttest.Until(t, "records on disk", func() bool {
		names, err := disk.ReadDir("spool/dev")
		return err == nil && len(names) > 0
	})
	spool(1000, 1500)
	run.Stop()
	run = connecttest.Start(t, b.Addr, disk, "", instance(forever(boxes)))
	box = <-boxes
	spool(1500, 2000)
	b.Start()
	if diff := cmp.Diff(numbers(0, 2000), dedupe(values(b.Read("dev", 2000)))); diff != "" {
		t.Errorf("records (-want +got):\n%s", diff)
	}
	connecttest.Until(t, "nothing waits", func() bool { return run.State("dev").Waiting == 0 })
}

// dedupe leaves out what came twice in a row of repetitions: at least once.
func dedupe(all []string) []string {
	seen, out := map[string]bool{}, []string(nil)
	for _, v := range all {
		if !seen[v] {
			out = append(out, v)
		}
		seen[v] = true
	}
	return out
}

// A power cut while the broker is away loses nothing that waited for more
// than a moment.
func TestSpoolOverPowerCut(t *testing.T) {
	for seed := range uint64(3) {
		b, disk := connecttest.NewBroker(t), vfs.NewCrashable(seed)
		boxes := make(chan *connect.Box, 1)
		run := connecttest.Start(t, b.Addr, disk, "", instance(forever(boxes)))
		box := <-boxes
		b.Stop()
		for _, v := range numbers(0, 500) {
			_ = box.Spool(connect.Record{Value: []byte(v)})
		}
		connecttest.Until(t, "records on disk", func() bool { return run.State("dev").OnDisk >= 500 })
		after := disk.Crash()
		run.Stop()
		connecttest.Start(t, b.Addr, after, "", instance(forever(boxes)))
		<-boxes
		b.Start()
		if diff := cmp.Diff(numbers(0, 500), dedupe(values(b.Read("dev", 500)))); diff != "" {
			t.Errorf("seed %d: records (-want +got):\n%s", seed, diff)
		}
	}
}

// A spool that cannot be opened, for want of file descriptors, is read later
// and not given up.
func TestSpoolThatCannotBeOpened(t *testing.T) {
	b, disk := connecttest.NewBroker(t), vfs.NewCrashable(9)
	boxes := make(chan *connect.Box, 1)
	run := connecttest.Start(t, b.Addr, disk, "", instance(forever(boxes)))
	box := <-boxes
	b.Stop()
	for _, v := range numbers(0, 100) {
		if err := box.Spool(connect.Record{Value: []byte(v)}); err != nil {
			t.Fatal(err)
		}
	}
	connecttest.Until(t, "records on disk", func() bool { return run.State("dev").OnDisk >= 100 })
	run.Stop()
	refused := make(chan struct{})
	run = connecttest.Start(t, b.Addr, disk, "", instance(forever(boxes)))
	box = <-boxes
	var once sync.Once
	disk.SetHook(func(op vfs.Op, name string) error {
		if op != vfs.OpOpen || !strings.HasSuffix(name, ".spool") {
			return nil
		}
		once.Do(func() { close(refused) })
		return syscall.EMFILE
	})
	b.Start()
	if err := box.Spool(connect.Record{Value: []byte("100")}); err != nil { // it must not overtake
		t.Fatal(err)
	}
	<-refused
	disk.SetHook(nil)
	if diff := cmp.Diff(numbers(0, 101), dedupe(values(b.Read("dev", 101)))); diff != "" {
		t.Errorf("records (-want +got):\n%s", diff)
	}
	if s := run.State("dev"); s.Dropped != 0 {
		t.Errorf("%d records were dropped", s.Dropped)
	}
}

func TestPostIsDurableAndRefusalsAreDeadLetters(t *testing.T) {
	b := connecttest.NewBroker(t, site.Topic{Name: "small", Partitions: 1, Config: map[string]string{"max.message.bytes": "1000"}})
	boxes := make(chan *connect.Box, 1)
	connecttest.Start(t, b.Addr, nil, "", instance(forever(boxes)))
	box := <-boxes
	big := make([]byte, 5000)
	rand.Read(big) // or compression makes it small
	ctx := t.Context()
	if err := box.Send(ctx, connect.Record{Topic: "small", Value: []byte("fits")}, connect.Record{Topic: "small", Value: big},
		connect.Record{Topic: "bad topic", Value: []byte("b")}, connect.Record{Topic: "small", Value: make([]byte, 2<<20)}); err != nil {
		t.Fatal(err)
	}
	b.CutPower()
	b.Start()
	if got := values(b.Read("small", 1)); !cmp.Equal(got, []string{"fits"}) {
		t.Errorf("got %q, want fits", got)
	}
	dead := map[int]string{}
	for _, r := range b.Read("dead-letters.dev", 3) {
		dead[len(r.Value)] = header(r, "reason") + header(r, "truncated")
	}
	if dead[5000] == "" || dead[1] == "" || !strings.HasSuffix(dead[512<<10], "2097152") {
		t.Errorf("dead letters by size: %v", dead)
	}
}

func header(r *kgo.Record, key string) string {
	for _, h := range r.Headers {
		if h.Key == key {
			return string(h.Value)
		}
	}
	return ""
}

// Back-pressure: a connector whose records the broker does not take holds at
// its budget.
func TestPostBlocks(t *testing.T) {
	b := connecttest.NewBroker(t)
	boxes := make(chan *connect.Box, 1)
	run := connecttest.Start(t, b.Addr, nil, "", instance(forever(boxes)))
	box := <-boxes
	b.Stop()
	ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
	defer cancel()
	posted, failed := 0, make(chan error, 1000)
	for ctx.Err() == nil && posted < 1000 {
		box.Post(ctx, connect.Record{Value: make([]byte, 100<<10)}, func(err error) { failed <- err })
		posted++
	}
	if posted > 60 {
		t.Errorf("%d posts of 100 kB went through without a broker, want about 40", posted)
	}
	for range posted {
		if err := <-failed; err == nil {
			t.Error("a record is acknowledged without a broker")
		}
	}
	_ = run
}

func TestCommitIsExactlyOnce(t *testing.T) {
	b := connecttest.NewBroker(t)
	boxes := make(chan *connect.Box, 1)
	run := connecttest.Start(t, b.Addr, nil, "", instance(forever(boxes)))
	box := <-boxes
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if at, err := box.Position(ctx); at != nil || err != nil {
		t.Fatalf("first position is %q, %v; want none", at, err)
	}
	for i := range 3 {
		if err := box.Commit(ctx, fmt.Appendf(nil, "at %d", i), connect.Record{Value: fmt.Appendf(nil, "%d", i)}, connect.Record{Topic: "x y", Value: []byte("bad")}, connect.Dead("why", []byte("broken"), "there")); err != nil {
			t.Fatal(err)
		}
	}
	b.CutPower()
	b.Start()
	run.Stop()
	connecttest.Start(t, b.Addr, nil, "", instance(forever(boxes)))
	box = <-boxes
	at, err := box.Position(ctx)
	if string(at) != "at 2" || err != nil {
		t.Fatalf("position is %q, %v; want at 2", at, err)
	}
	if err := box.Commit(ctx, []byte("at 3"), connect.Record{Value: []byte("3")}); err != nil {
		t.Fatal(err)
	}
	if got := values(b.Read("dev", 4)); !cmp.Equal(got, numbers(0, 4)) {
		t.Errorf("got %q, want 0 to 3 once each", got)
	}
	letters := b.Read("dead-letters.dev", 6)
	if got := values(letters); !slices.Equal(got[:2], []string{"bad", "broken"}) || header(letters[1], "reason") != "why" || header(letters[1], "source") != "there" {
		t.Errorf("dead letters %q, headers %v", got, letters[1].Headers)
	}
}

func TestCommands(t *testing.T) {
	b := connecttest.NewBroker(t)
	b.Write(&kgo.Record{Topic: "cmd", Value: []byte(`{"id":"old","point":"p"}`)})
	var seen []string
	done := make(chan string, 10)
	device := script(func(ctx context.Context, box *connect.Box) error {
		for {
			select {
			case c := <-box.Commands():
				done <- c.ID
				if c.Point == "bad" {
					c.Answer(errors.New("no such point"))
					continue
				}
				c.AnswerValue(c.Value)
			case <-ctx.Done():
				return nil
			}
		}
	})
	with := func(i *connect.Instance) { i.Commands = &site.Commands{Topic: "cmd", Answers: "ans"} }
	run := connecttest.Start(t, b.Addr, nil, "", instance(device, with))
	connecttest.Until(t, "the group is there", func() bool { return strings.Contains(run.Log.String(), "commands are read") })
	for _, c := range []string{`{"id":"1","point":"p","value":12345678901234567890}`, `{"id":"2","point":"bad"}`, `{"id":"1","point":"p"}`, `no json`, `{"id":"3"}`} {
		b.Write(&kgo.Record{Topic: "cmd", Key: []byte("k"), Value: []byte(c)})
	}
	var got []string
	for _, r := range b.Read("ans", 5) {
		var a struct {
			ID    string
			OK    bool
			Error string
			Value json.RawMessage
		}
		if err := json.Unmarshal(r.Value, &a); err != nil || string(r.Key) != "k" {
			t.Errorf("answer %q with key %q: %v", r.Value, r.Key, err)
		}
		got = append(got, fmt.Sprintf("%s %v %s", a.ID, a.OK, a.Value))
	}
	if diff := cmp.Diff([]string{"1 true 12345678901234567890", "2 false ", "1 true 12345678901234567890", " false ", "3 true "}, got); diff != "" {
		t.Errorf("answers (-want +got):\n%s", diff)
	}
	run.Stop()
	for len(done) > 0 {
		seen = append(seen, <-done)
	}
	if diff := cmp.Diff([]string{"1", "2", "3"}, seen); diff != "" {
		t.Errorf("carried out (-want +got):\n%s", diff)
	}
	// What came while nobody was there is carried out, once.
	b.Write(&kgo.Record{Topic: "cmd", Value: []byte(`{"id":"4"}`)}, &kgo.Record{Topic: "cmd", Value: []byte(`{"id":"1"}`)})
	run = connecttest.Start(t, b.Addr, nil, "", instance(device, with))
	b.Read("ans", 7)
	if id := <-done; id != "4" || len(done) != 0 {
		t.Errorf("after the restart %q and %d more were carried out, want 4 only", id, len(done))
	}
	// The last answer may come again: Stop may be before its offset is kept.
	connecttest.Until(t, "both are counted", func() bool { return run.State("dev").Commands >= 2 })
}

// An answer that the broker will never take is a dead letter, and the next
// command is carried out.
func TestRefusedAnswer(t *testing.T) {
	b := connecttest.NewBroker(t)
	device := script(func(ctx context.Context, box *connect.Box) error {
		for {
			select {
			case c := <-box.Commands():
				c.AnswerValue(map[string]string{"big": strings.Repeat("x", 2<<20), "small": "x"}[c.Point])
			case <-ctx.Done():
				return nil
			}
		}
	})
	run := connecttest.Start(t, b.Addr, nil, "", instance(device, func(i *connect.Instance) { i.Commands = &site.Commands{Topic: "cmd", Answers: "ans"} }))
	connecttest.Until(t, "the group is there", func() bool { return strings.Contains(run.Log.String(), "commands are read") })
	b.Write(&kgo.Record{Topic: "cmd", Value: []byte(`{"id":"1","point":"big"}`)}, &kgo.Record{Topic: "cmd", Value: []byte(`{"id":"2","point":"small"}`)})
	if r := b.Read("ans", 1)[0]; !strings.Contains(string(r.Value), `"id":"2"`) {
		t.Errorf("answer is %.60q, want that of command 2", r.Value)
	}
	if r := b.Read("dead-letters.dev", 1)[0]; !strings.HasPrefix(string(r.Value), `{"id":"1"`) || !strings.HasPrefix(header(r, "reason"), "answer: ") {
		t.Errorf("dead letter %.60q, reason %q", r.Value, header(r, "reason"))
	}
}

func TestRunIsCalledAgain(t *testing.T) {
	b := connecttest.NewBroker(t)
	calls := make(chan int, 10)
	n := 0
	run := connecttest.Start(t, b.Addr, nil, "", instance(func(ctx context.Context, box *connect.Box) error {
		n++
		calls <- n
		switch n {
		case 1:
			return errors.New("device is gone")
		case 2:
			panic("index out of range")
		}
		box.Up("fine")
		<-ctx.Done()
		return nil
	}))
	<-calls
	connecttest.Until(t, "device is down", func() bool {
		s := run.State("dev")
		return s.State == connect.Down && s.Error == "device is gone"
	})
	<-calls
	connecttest.Until(t, "the fault is told", func() bool { return strings.Contains(run.State("dev").Error, "index out of range") })
	<-calls
	connecttest.Until(t, "device is up", func() bool { return run.State("dev").State == connect.Running })
	if s := run.State("dev"); s.Error != "" || s.Detail != "fine" || s.Restarts != 2 {
		t.Errorf("state is %+v", s)
	}
}

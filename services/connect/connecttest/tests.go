package connecttest

import (
	"context"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/waysideos/wayside/services/connect"
	"github.com/waysideos/wayside/services/site"
)

// order is the suite, by name; tests has what each does.
var order = []string{
	"start and stop", "restart", "device away at start", "device lost midway", "malformed answer", "slow device",
	"flood", "broker away", "broker loses power", "box loses power", "reconfiguration", "times and quality",
}

// Names are those of the suite's tests.
func Names() []string { return order }

var tests = map[string]func(w *world){
	"start and stop":       startAndStop,
	"restart":              restart,
	"device away at start": awayAtStart,
	"device lost midway":   lostMidway,
	"malformed answer":     malformed,
	"slow device":          slow,
	"flood":                flood,
	"broker away":          brokerAway,
	"broker loses power":   brokerPower,
	"box loses power":      boxPower,
	"reconfiguration":      reconfiguration,
	"times and quality":    timesAndQuality,
}

// startAndStop: nothing of a connector runs after it was stopped.
func startAndStop(w *world) {
	before := runtime.NumGoroutine()
	w.begin()
	w.emitAll(0, 3)
	w.want(span(0, 3))
	w.run.Stop()
	w.dev.Stop()
	w.noMoreThan(before + 2)
}

// noMoreThan waits until so many goroutines are left, and shows them if there
// are more for good.
func (w *world) noMoreThan(n int) {
	w.Helper()
	for end := time.Now().Add(wait); runtime.NumGoroutine() > n; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			stacks := make([]byte, 256<<10)
			w.Fatalf("%d goroutines are left, want %d:\n%s", runtime.NumGoroutine(), n, stacks[:runtime.Stack(stacks, true)])
		}
	}
}

// restart: it goes on where it was.
func restart(w *world) {
	w.dev.Start()
	for round := range int64(3) {
		w.start("")
		w.up()
		w.emitAll(round*10, round*10+10)
		w.run.Stop()
	}
	w.start("") // what the far end keeps until it is asked comes now
	w.want(span(0, 30))
}

func awayAtStart(w *world) {
	w.start("") // which waits until the frame is ready
	w.dev.Start()
	w.up()
	w.emitAll(0, 3)
	w.want(span(0, 3))
}

func lostMidway(w *world) {
	w.begin()
	w.emitAll(0, 3)
	w.dev.Stop()
	_ = w.dev.Emit(3) // nobody hears it, or later
	w.dev.Start()
	w.emitAll(4, 8)
	w.want(append(span(0, 3), span(4, 8)...))
}

// malformed: a bad answer costs at most itself.
func malformed(w *world) {
	w.begin()
	w.emitAll(0, 3)
	if !w.dev.Do(Malformed) {
		w.Fatal("the device sends nothing malformed: say so in Cannot")
	}
	_ = w.dev.Emit(3)
	Until(w, "the bad answer is told", func() bool {
		s := w.run.State("dev")
		return s.Dead > 0 || s.Error != "" || s.Restarts > 0
	})
	w.dev.Do(Well)
	w.emitAll(4, 8)
	w.want(append(span(0, 3), span(4, 8)...))
}

// slow: a device that does not answer holds up nothing but itself, and the box
// stops all the same.
func slow(w *world) {
	w.begin()
	if !w.dev.Do(Slow) {
		w.Fatal("the device is never slow: say so in Cannot")
	}
	go w.dev.Emit(1)
	time.Sleep(200 * time.Millisecond) // into the slow answer
	begin := time.Now()
	w.run.Stop()
	if took := time.Since(begin); took > 10*time.Second {
		w.Fatalf("stopping took %s while the device was slow", took)
	}
}

// flood: a device that says more than the box takes is held back, or the spool
// takes it; memory is bounded either way.
func flood(w *world) {
	const all = 20000
	senders := int64(max(w.c.Senders, 4))
	w.begin()
	var before, during runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	var mu sync.Mutex
	var sure []int64
	var wg sync.WaitGroup
	for d := range senders {
		wg.Go(func() {
			for v := d * all / senders; v < (d+1)*all/senders; v++ {
				if w.dev.Emit(v) == nil {
					mu.Lock()
					sure = append(sure, v)
					mu.Unlock()
				}
			}
		})
	}
	wg.Wait()
	runtime.GC()
	runtime.ReadMemStats(&during)
	if grown := int64(during.HeapAlloc) - int64(before.HeapAlloc); grown > 64<<20 {
		w.Errorf("memory has grown by %d MB", grown>>20)
	}
	if !w.c.Acknowledged {
		Until(w, "some of it is in the broker", func() bool { return w.run.State("dev").Records > 0 })
		return
	}
	have := map[int64]bool{}
	for _, v := range w.arrived(len(sure), wait) {
		have[v] = true
	}
	for _, v := range sure {
		if !have[v] {
			w.Fatalf("value %d was acknowledged and is not there", v)
		}
	}
}

// few is less for a polled device: each of its values takes a second to be
// seen while the broker is away.
func (w *world) few(n int64) int64 {
	if w.c.Polled {
		return 10
	}
	return n
}

// brokerAway: what the device cannot be told is spooled, in order; what it can
// be told is not acknowledged.
func brokerAway(w *world) {
	w.begin()
	w.emitAll(0, 5)
	w.want(span(0, 5))
	w.b.Stop()
	var sure []int64
	done := make(chan struct{})
	if w.c.Acknowledged {
		go func() { defer close(done); sure = w.emit(5, 8) }()
		time.Sleep(1500 * time.Millisecond) // while the broker is away
	} else {
		sure = w.emit(5, w.few(50))
		close(done)
	}
	w.b.Start()
	<-done
	w.emitAll(50, 55)
	w.want(append(append(span(0, 5), sure...), span(50, 55)...))
}

func brokerPower(w *world) {
	w.begin()
	w.emitAll(0, 10)
	if !w.c.Acknowledged {
		w.want(span(0, 10))
	}
	w.b.CutPower()
	w.b.Start()
	w.emitAll(10, 20)
	w.want(span(0, 20))
}

// boxPower: the power goes while the broker is away. What was acknowledged is
// there; what waited on disk is too.
func boxPower(w *world) {
	w.begin()
	w.emitAll(0, 5)
	if !w.c.Acknowledged {
		w.want(span(0, 5))
	}
	w.b.CutPower()
	var sure []int64
	if !w.c.Acknowledged {
		sure = w.emit(5, w.few(30))
		Until(w, "all that waits is on disk", func() bool {
			s := w.run.State("dev")
			return s.OnDisk >= int64(len(sure)) && s.Waiting == s.OnDisk
		})
	}
	after := w.disk.Crash()
	w.run.Stop()
	w.disk = after
	w.b.Start()
	w.start("")
	w.up()
	w.emitAll(30, 35)
	w.want(append(append(span(0, 5), sure...), span(30, 35)...))
}

// reconfiguration: a connector whose settings change while it runs goes on, one
// whose do not is not disturbed, and settings that are wrong change nothing.
func reconfiguration(w *world) {
	w.dev.Start()
	other := &bystander{}
	w.run = Start(w, w.b.Addr, w.disk, w.secrets, w.instance(""), other.instance())
	w.logs = append(w.logs, w.run.Log)
	w.up()
	w.emitAll(0, 5)
	wrong := w.instance(w.c.Change)
	wrong.Records.Format = "none"
	if err := w.run.Reconfigure([]connect.Instance{wrong, other.instance()}); err == nil {
		w.Error("a format that there is not was taken")
	}
	w.emitAll(5, 8)
	if err := w.run.Reconfigure([]connect.Instance{w.instance(w.c.Change), other.instance()}); err != nil {
		w.Fatal(err)
	}
	w.up()
	w.emitAll(8, 13)
	w.want(span(0, 13))
	if n := other.runs.Load(); n != 1 {
		w.Errorf("a connector that did not change was run %d times", n)
	}
}

// bystander is a connector that only runs.
type bystander struct{ runs atomic.Int64 }

func (b *bystander) Run(ctx context.Context, box *connect.Box) error {
	b.runs.Add(1)
	box.Up("")
	<-ctx.Done()
	return nil
}

func (b *bystander) instance() connect.Instance {
	return connect.Instance{
		Connector: b, Name: "bystander", Protocol: "none", Records: site.DefaultRecords("bystander"), Declared: &site.DiodeSend{Name: "bystander"},
	}
}

func timesAndQuality(w *world) {
	w.begin()
	w.emitAll(1, 2)
	r := w.b.Read(w.c.Topic, 1)[0]
	have := map[string]string{}
	for _, h := range r.Headers {
		have[h.Key] = string(h.Value)
	}
	if w.c.Service == nil && have["connector"] != "dev" {
		w.Errorf("header connector is %q, want dev", have["connector"])
	}
	if age := time.Since(r.Timestamp); age < -time.Minute || age > 10*time.Minute {
		w.Errorf("the record's time is %s old", age)
	}
	if !w.c.Readings {
		return
	}
	if _, err := time.Parse(time.RFC3339, have["box-time"]); err != nil || have["quality"] != connect.Good.String() || have["source"] == "" {
		w.Errorf("headers are %v; want box-time, quality good and source", have)
	}
}

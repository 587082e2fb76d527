package model

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"path"
	"strings"
	"sync"
	"syscall"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/waysideos/wayside/services/broker"
	"github.com/waysideos/wayside/services/vfs"
)

// violation is what ends a history: a promise that was not kept.
type violation struct{ text string }

// down ends an operation in the middle: the power is off.
type down struct{}

func failf(format string, args ...any) { panic(violation{fmt.Sprintf(format, args...)}) }

// world is a broker on a disk, with what goes wrong with it, and the reference
// that knows what it should say.
type world struct {
	reference
	rng  *rand.Rand // of the operation at hand
	skew time.Duration
	wrap func(*vfs.Crashable) vfs.FS // a disk that lies; nil: one that does not

	ln    *pipes
	stop  context.CancelFunc
	ended chan error
	conns map[string]*client
	trace []string
	fresh bool // the broker has just started: what acks=1 said may be gone

	mu        sync.Mutex
	fsys      *vfs.Crashable
	after     *vfs.Crashable // what a power cut has left; nil: there was none
	killed    bool           // the process is gone, the page cache is not
	countdown int            // operations on the disk until the power cut; -1: none
	failSync  string         // directory in which the next sync of a log or journal fails
	damaged   map[string]bool
	full      bool
	fullOnce  bool
}

func newWorld(seed uint64, wrap func(*vfs.Crashable) vfs.FS) *world {
	return &world{
		reference: newReference(), wrap: wrap, conns: map[string]*client{},
		fsys: vfs.NewCrashable(seed), countdown: -1, damaged: map[string]bool{},
	}
}

func (w *world) notef(format string, args ...any) {
	w.trace = append(w.trace, fmt.Sprintf(format, args...))
}

// hook decides about every operation on the disk.
func (w *world) hook(op vfs.Op, name string) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.after != nil || w.killed {
		return vfs.ErrCrashed
	}
	if w.countdown >= 0 && op != vfs.OpRead && op != vfs.OpOpen {
		if w.countdown == 0 {
			w.cut()
			return vfs.ErrCrashed
		}
		w.countdown--
	}
	dir := path.Dir(name)
	if op == vfs.OpSync && dir == w.failSync && (strings.HasSuffix(name, ".log") || strings.HasPrefix(name, "meta/journal")) {
		w.failSync = ""
		w.damaged[dir] = true
		return syscall.EIO
	}
	return nil
}

// cut pulls the plug. w.mu is held.
func (w *world) cut() {
	w.countdown = -1
	w.after = w.fsys.Crash()
}

func (w *world) dead() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.after != nil || w.killed
}

func (w *world) isDamaged(dir string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.damaged[dir]
}

// excused says that a partition may fail to take records now.
func (w *world) excused(p *part) bool { return w.dead() || w.full || w.isDamaged(p.dir()) }

// excusedState says the same of everything that is not records.
func (w *world) excusedState() bool { return w.dead() || w.full || w.isDamaged("meta") }

// boot starts a broker on what is on the disk, again if the power fails
// meanwhile.
func (w *world) boot() {
	for {
		w.mu.Lock()
		if w.after != nil {
			w.fsys, w.after = w.after, nil
			w.fsys.SetCapacity(0)
		}
		w.killed, w.failSync, w.damaged = false, "", map[string]bool{}
		w.fsys.SetHook(w.hook)
		var fsys vfs.FS = w.fsys
		if w.wrap != nil {
			fsys = w.wrap(w.fsys)
		}
		w.mu.Unlock()
		w.ln = newPipes()
		b, err := broker.New(broker.Config{
			FS: fsys, Listeners: []net.Listener{w.ln},
			Now:       func() time.Time { return time.Now().Add(w.skew) },
			Advertise: func(net.Conn) (string, int32) { return "model", 9092 },
			Limits:    broker.Limits{JournalBytes: 3000, IdleTimeout: 1e6 * time.Second},
		})
		if err != nil {
			failf("new broker: %v", err)
		}
		ctx, stop := context.WithCancel(context.Background())
		w.stop, w.ended = stop, make(chan error, 1)
		go func() {
			w.ended <- b.Run(ctx)
			close(w.ended)
		}()
		select {
		case <-b.Ready():
			if !w.dead() {
				return
			}
			w.halt()
		case err := <-w.ended:
			stop()
			if !w.dead() {
				failf("the broker does not start: %v", err)
			}
		}
		w.notef("  the power fails while the broker starts")
	}
}

// halt waits for the broker's end and returns what it says.
func (w *world) halt() error {
	w.stop()
	for name, c := range w.conns {
		c.nc.Close()
		delete(w.conns, name)
	}
	select {
	case err := <-w.ended:
		return err
	case <-time.After(patience):
		failf("the broker does not end")
		return nil
	}
}

// restart ends the broker, starts the next and looks at everything.
func (w *world) restart() {
	calm := !w.dead() && !w.full && len(w.damaged) == 0
	if err := w.halt(); err != nil && calm && !w.dead() {
		failf("the broker ends with: %v", err)
	}
	synctest.Wait()
	w.setFull(false)
	w.skewBack()
	w.boot()
	w.reopened()
}

func (w *world) skewBack() {
	if w.skew < 0 && w.rng != nil && w.rng.IntN(2) == 0 {
		w.skew = 0
	}
}

// setFull fills the disk but for a little, or makes room.
func (w *world) setFull(full bool) {
	w.full = full
	w.fsys.SetCapacity(0)
	if full {
		w.fullOnce = true
		w.fsys.SetCapacity(w.used() + int64(w.rng.IntN(3000)))
	}
}

// each goes over the files below a directory.
func (w *world) each(dir string, do func(name string, size int64)) {
	entries, err := w.fsys.ReadDir(dir)
	if err != nil {
		return
	}
	for _, e := range entries {
		if e.IsDir() {
			w.each(path.Join(dir, e.Name()), do)
		} else if info, err := e.Info(); err == nil {
			do(path.Join(dir, e.Name()), info.Size())
		}
	}
}

// used adds up what the files hold.
func (w *world) used() (n int64) {
	w.each(".", func(_ string, size int64) { n += size })
	return n
}

// files lists those below a directory.
func (w *world) files(dir string) string {
	var b strings.Builder
	w.each(dir, func(name string, size int64) { fmt.Fprintf(&b, "\n  %s %d", name, size) })
	return b.String()
}

// call asks on a connection of its own for each name. An error is a broken
// connection; what became of the request is not known.
func (w *world) call(name string, req kmsg.Request) (kmsg.Response, error) {
	c := w.conns[name]
	if c == nil {
		nc, err := w.ln.dial()
		if err != nil {
			return nil, err
		}
		c = &client{nc: nc}
		w.conns[name] = c
	}
	resp, err := c.ask(req)
	if err != nil {
		c.nc.Close()
		delete(w.conns, name)
	}
	return resp, err
}

// try asks; nil when the power has failed.
func (w *world) try(req kmsg.Request) kmsg.Response {
	resp, err := w.call("main", req)
	if err == nil {
		return resp
	}
	if !w.dead() || errors.Is(err, errLate) {
		failf("%s version %d: %v", kmsg.NameForKey(req.Key()), req.GetVersion(), err)
	}
	return nil
}

// must asks what changes nothing.
func (w *world) must(req kmsg.Request) kmsg.Response {
	resp := w.try(req)
	if resp == nil {
		panic(down{})
	}
	return resp
}

// sleep lets time pass for everybody.
func (w *world) sleep(d time.Duration) {
	w.catchUp()
	time.Sleep(d)
	synctest.Wait()
}

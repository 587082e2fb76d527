package stage

import "fmt"

// Variables for the tests, which cannot write a whole slot a thousand times.
var (
	// chunk is what one write takes, and all that is held of a download.
	chunk = 1 << 20
	// syncEvery bounds what a power cut costs, and how much of the page cache
	// waits for the disk.
	syncEvery = int64(16 << 20)
)

// slotWriter writes content into the slot in large pieces and syncs now and
// then. After an error of the disk it takes no more.
type slotWriter struct {
	slot   Slot
	at     int64 // of the slot; all before is written or in buf
	limit  int64
	synced func(at int64) error

	buf    []byte
	unsync int64
	err    error
}

func (w *slotWriter) Write(p []byte) (int, error) {
	if w.err == nil && w.at+int64(len(p)) > w.limit {
		return 0, fmt.Errorf("%w: more came than was asked for", ErrContent)
	}
	done := 0
	for len(p) > 0 && w.err == nil {
		if w.buf == nil {
			w.buf = make([]byte, 0, chunk)
		}
		n := min(len(p), chunk-len(w.buf))
		w.buf = append(w.buf, p[:n]...)
		p, done, w.at = p[n:], done+n, w.at+int64(n)
		if len(w.buf) == chunk {
			w.write()
		}
		if w.unsync >= syncEvery {
			w.sync()
		}
	}
	return done, w.err
}

func (w *slotWriter) write() {
	if _, err := w.slot.WriteAt(w.buf, w.at-int64(len(w.buf))); err != nil {
		w.err = fmt.Errorf("write to the inactive slot: %w", err)
		return
	}
	w.unsync += int64(len(w.buf))
	w.buf = w.buf[:0]
}

func (w *slotWriter) sync() {
	if w.err = w.slot.settle(); w.err == nil {
		w.unsync = 0
		w.err = w.synced(w.at)
	}
}

// flush puts what came so far on stable storage.
func (w *slotWriter) flush() error {
	if w.err == nil && len(w.buf) > 0 {
		w.write()
	}
	if w.err == nil && w.unsync > 0 {
		w.sync()
	}
	return w.err
}

package store

import (
	"fmt"

	"github.com/waysideos/wayside/services/broker/frame"
)

// exclusively lets the lock go while write brings the log's own files to the
// disk. Nobody else does that meanwhile (see awaitSaved). Readers go on, and so
// do appends, unless the log rolls.
func (l *Log) exclusively(write func() error) error {
	if l.private { // nobody may see the log yet
		return write()
	}
	l.saving = true
	l.mu.Unlock()
	err := write()
	l.mu.Lock()
	l.saving = false
	l.idle.Broadcast()
	return err
}

// awaitSaved waits until nobody is saving. Whoever is going to save calls it
// first, and looks at the log only then: the lock is let go meanwhile.
func (l *Log) awaitSaved() {
	for l.saving {
		l.idle.Wait()
	}
}

// awaitDurable is awaitSaved, and waits until all is durable that was
// appended, unless that will never be.
func (l *Log) awaitDurable() {
	for l.saving || l.err == nil && (l.synced < l.leo || l.fsyncing) {
		if l.saving {
			l.idle.Wait()
		} else {
			l.syncOnce()
		}
	}
}

// save makes c the checkpoint, once the steps before have been taken. What is
// written is as of now; the lock is let go meanwhile.
func (l *Log) save(c checkpoint, before ...func() error) error {
	k := l.remember(c)
	c.Kept = &k
	data, err := encodeCheckpoint(c)
	if err != nil {
		return err
	}
	err = l.exclusively(func() error {
		for _, step := range before {
			if err := step(); err != nil {
				return err
			}
		}
		return frame.WriteFile(l.fsys, checkpointName(l.dir), data)
	})
	if err != nil {
		return err
	}
	c.Kept = nil // kept in memory by other means
	l.saved = c
	return nil
}

// saveHere writes index and checkpoint for the log's end, which is durable.
func (l *Log) saveHere() error {
	x := l.act.files()
	if err := l.save(l.point(l.start, l.act.base, l.act.size), func() error { return x.write(l.fsys) }); err != nil {
		return fmt.Errorf("save %s: %w", l.dir, err)
	}
	return nil
}

// saveEnd is saveHere if that is not on the disk already.
func (l *Log) saveEnd() error {
	if l.saved.Offset == l.leo && l.saved.Pos == l.act.size {
		return nil
	}
	return l.saveHere()
}

// Unsaved is how many bytes would have to be read if the broker were killed
// now.
func (l *Log) Unsaved() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed || l.err != nil {
		return 0
	}
	if l.saved.Segment == l.act.base {
		return l.act.size - l.saved.Pos
	}
	return l.act.size
}

// Save writes a checkpoint at the log's end, so that nothing before it has to
// be read after a crash.
func (l *Log) Save() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed || l.err != nil || l.synced < l.leo || l.fsyncing || l.saving {
		return nil // the next round
	}
	l.tick()
	return l.saveEnd()
}

package trial

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/waysideos/wayside/init/slots"
	"github.com/waysideos/wayside/services/manifest"
	"github.com/waysideos/wayside/services/vfs"
)

// DefaultWindow is how long a trial may take to be called good.
const DefaultWindow = 10 * time.Minute

// maxGivenBack bounds the boots of a trial that may end on request without
// counting: a version that asks for one after the other is not good.
const maxGivenBack = 5

// Config is what a Keeper works with.
type Config struct {
	Store   slots.Loader
	State   vfs.FS // the state partition; nil if it could not be mounted
	Running Release
	Board   string
	Arch    string // GOARCH
	Level   int    // format level that the running release can write
	// Signed is set where the firmware starts nothing without a signature.
	Signed bool
	// Other opens the partition of the slot that does not run.
	Other func() (content io.ReaderAt, size int64, done func() error, err error)
	// ResetCause says how the boot before this one ended, "" if not known. It may
	// take its time, and is asked only where a trial has to be told of; nil: not
	// known.
	ResetCause func() string
	Tail       func() []string // last lines of the log
	Now        func() time.Time
	// Hopeless says why nobody will ever decide on a trial, "" while somebody
	// may; nil for never.
	Hopeless func() string
	Reboot   func(reason string) // starts an orderly end and returns at once
	// Install puts the boot loader that the running release carries on the boot
	// partition; nil where there is none.
	Install func() error
	Log     *slog.Logger
}

// Keeper holds the record and does what is asked of it. Its methods may be
// called by many goroutines.
type Keeper struct {
	cfg Config

	mu       sync.Mutex
	rec      *Record
	level    int
	trial    bool
	sinking  bool      // the trial was failed in this boot: no try is given back
	deadline time.Time // of the trial; zero before Run
	problems []string
}

// Open reads the record and decides what this boot is. Services start after
// it: what they may write depends on it. The error says that the running
// version must not go on: the loader has been told, start over.
func Open(cfg Config) (*Keeper, error) {
	k := &Keeper{cfg: cfg, rec: &Record{}, level: cfg.Level}
	if cfg.State != nil {
		var err error
		if k.rec, err = load(cfg.State); err != nil {
			k.problem(err)
		}
	}
	boot, err := cfg.Store.Look()
	if err != nil {
		k.problem(err)
		// Whether this is a trial is not known, so nothing new is written.
		k.level = k.oldLevel()
		return k, nil
	}
	s := see(k.rec, boot, cfg.Running)
	step, why := decide(s)
	if step != adopt {
		cfg.Log.Info("update: "+string(step), "because", why)
	}
	return k, k.take(step, boot)
}

// ErrSunk says that the running version had been failed and ran all the same.
var ErrSunk = errors.New("this version has failed its trial")

func (k *Keeper) take(s step, b *slots.Boot) error {
	switch s {
	case adopt:
		k.adopt(k.cfg.Running)
		k.installLoader()
	case committed:
		k.commit(nil)
	case restore:
		k.problem(k.cfg.Store.Settle(slots.Good))
		k.adopt(k.cfg.Running)
	case await:
		k.cfg.Log.Info("update: version " + k.rec.Pending.Version + " is tried at the next boot")
	case drop:
		k.rec.Pending = nil
		k.problem(k.save())
		k.problem(k.cfg.Store.Settle(slots.Keep))
	case failed:
		k.finish(k.outcome(b))
		if e := b.Running; e.Counted || k.stillBoots(b) {
			k.problem(k.cfg.Store.Settle(slots.Keep))
		}
	case sink:
		if err := k.cfg.Store.Settle(slots.Bad); err != nil {
			k.problem(err) // there is nothing better to run
			return nil
		}
		return ErrSunk
	case tryOn:
		k.begin(b)
	}
	return nil
}

// stillBoots says that the loader would go on to try what has failed.
func (k *Keeper) stillBoots(b *slots.Boot) bool {
	n := b.Next()
	return n != nil && b.Running != nil && n.File != b.Running.File && n.Counted
}

// adopt makes the running version the committed one. In the ordinary case the
// record says so already, and nothing is written.
func (k *Keeper) adopt(r Release) {
	floor := max(k.rec.Floor, r.Counter)
	if k.rec.Committed == r && k.rec.Level == k.cfg.Level && k.rec.Floor == floor {
		return
	}
	k.rec.Committed, k.rec.Level, k.rec.Floor = r, k.cfg.Level, floor
	if err := k.save(); err != nil {
		k.problem(err)
	}
}

// commit is the record's part of it; the loader knows.
func (k *Keeper) commit(checks []manifest.Check) error {
	p := k.rec.Pending
	o := manifest.Outcome{
		Version: k.cfg.Running.Version, Counter: k.cfg.Running.Counter, RootHash: k.cfg.Running.RootHash,
		Committed: true, Time: k.cfg.Now(), Checks: checks, Tries: 1,
	}
	floor := max(k.rec.Floor, k.cfg.Running.Counter)
	if p != nil {
		o.From, o.Tries = p.From.Version, max(1, len(p.Boots))
		if p.Downgrade {
			floor = k.cfg.Running.Counter
		}
		if p.BootLoader {
			k.rec.Loader = k.cfg.Running.RootHash
		}
	}
	k.rec.Committed, k.rec.Level, k.rec.Floor = k.cfg.Running, k.cfg.Level, floor
	k.rec.Pending, k.rec.Last = nil, &o
	k.rec.Failed = slices.DeleteFunc(k.rec.Failed, func(f manifest.Outcome) bool { return f.Version == o.Version })
	k.trial = false
	err := k.save()
	if k.problem(err); err == nil {
		k.level = k.cfg.Level // what the version before cannot read may be written now
		k.installLoader()
	}
	return err
}

// installLoader does what a committed release was published for besides. It is
// asked for in the record before and until it is done: a power cut leaves it to
// the next boot, and an error does too.
func (k *Keeper) installLoader() {
	if k.cfg.Install == nil || !same(k.rec.Loader, k.cfg.Running.RootHash) {
		return
	}
	if err := k.cfg.Install(); err != nil {
		k.problem(fmt.Errorf("the boot loader of version %s is not installed: %w", k.cfg.Running.Version, err))
		return
	}
	k.cfg.Log.Info("update: the boot loader of version " + k.cfg.Running.Version + " is installed")
	k.rec.Loader = ""
	k.problem(k.save())
}

// finish ends a trial that failed.
func (k *Keeper) finish(o manifest.Outcome) {
	k.rec.Pending, k.rec.Last = nil, &o
	short := o
	short.Log = nil // Last has it
	k.rec.Failed = slices.DeleteFunc(k.rec.Failed, func(f manifest.Outcome) bool { return f.Version == o.Version })
	k.rec.Failed = append(k.rec.Failed, short)
	k.rec.Failed = k.rec.Failed[max(0, len(k.rec.Failed)-maxFailed):]
	k.problem(k.save())
	k.cfg.Log.Error("update: version "+o.Version+" failed its trial", "check", o.Check, "reason", o.Reason, "tries", o.Tries)
}

func (k *Keeper) save() error {
	if k.cfg.State == nil {
		return errors.New("keep the update state: there is no state partition")
	}
	return save(k.cfg.State, k.rec)
}

func (k *Keeper) problem(err error) {
	if err != nil {
		k.cfg.Log.Warn("update", "err", err)
		k.problems = append(k.problems, err.Error())
	}
}

// Problems of this boot, in words.
func (k *Keeper) Problems() []string {
	k.mu.Lock()
	defer k.mu.Unlock()
	return slices.Clone(k.problems)
}

// oldLevel is what the version before a trial can read.
func (k *Keeper) oldLevel() int {
	if k.rec.Level == 0 { // of a box that never said: the first there was
		return min(1, k.cfg.Level)
	}
	return min(k.rec.Level, k.cfg.Level)
}

// Level is what services may write now: manifest.FormatLevelFile.
func (k *Keeper) Level() int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.level
}

// OnTrial says whether the running version is not committed yet.
func (k *Keeper) OnTrial() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.trial
}

// Writable says whether the other slot may be written: it is neither what the
// box would go back to nor what it is about to try.
func (k *Keeper) Writable() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return !k.trial && k.rec.Pending == nil
}

// refuse is an answer that asking again does not change.
func refuse(format string, args ...any) error { return slots.Refusal(fmt.Sprintf(format, args...)) }

package qemutest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/waysideos/wayside/qemu"
)

// lanes is how many machines of one snapshot can run at a time: each has its
// own ports and so its own snapshot. More would only share two cores.
const lanes = 2

// keepSnapshots is how many of the newest snapshots stay in the cache; one
// takes a few hundred megabytes.
const keepSnapshots = 2 * lanes

// pollEvery is the pace of everything here that can only be asked for.
const pollEvery = 50 * time.Millisecond

// Restore gives the test a machine that is ready at once. The first time for
// an image and configuration on this computer it is booted, ready says when
// it is, and it is saved below cache; after that it is restored in fractions
// of a second. When all lanes are in use, by other tests or other test
// processes, Restore waits for one.
//
// A restored guest goes on where it was saved: its clock stands behind, and
// what it drew from its random source every restored twin draws too.
func Restore(t testing.TB, cache string, cfg qemu.Config, ready func(context.Context, *qemu.VM) error) *qemu.VM {
	t.Helper()
	prepare(t, &cfg)
	key, err := qemu.SnapshotKey(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(cache, 0o700); err != nil {
		t.Fatal(err)
	}
	dir, err := takeLane(t, cache, key)
	if err != nil {
		t.Fatal(err)
	}
	vm, err := qemu.Restore(t.Context(), dir, key, cfg, Logger(t))
	var port *qemu.PortError
	if errors.Is(err, qemu.ErrNoSnapshot) || errors.As(err, &port) {
		t.Logf("booting a machine to save: %v", err)
		if err := save(t, dir, key, cfg, ready); err != nil {
			t.Fatalf("save a machine: %v", err)
		}
		prune(cache)
		vm, err = qemu.Restore(t.Context(), dir, key, cfg, Logger(t))
	}
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	os.Chtimes(dir, now, now) // prune goes by the last use
	closeAfter(t, vm)
	return vm
}

// takeLane holds a lane until the end of the test and returns its folder.
func takeLane(t testing.TB, cache, key string) (dir string, err error) {
	err = poll(t.Context(), func(context.Context) error {
		for lane := range lanes {
			path := filepath.Join(cache, fmt.Sprintf("%s-%d", key, lane))
			release, ok, err := qemu.TryLock(path + ".lock")
			if err != nil {
				return err
			}
			if ok {
				t.Cleanup(release)
				dir = path
				return nil
			}
		}
		return errors.New("all machines of this snapshot are in use")
	})
	return dir, err
}

// save boots a machine in a folder of its own and puts its snapshot in dir.
func save(t testing.TB, dir, key string, cfg qemu.Config, ready func(context.Context, *qemu.VM) error) (err error) {
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	cfg.Work = filepath.Join(cfg.Work, "saving")
	defer func() {
		if err == nil { // a failed test keeps it
			err = os.RemoveAll(cfg.Work)
		}
	}()
	vm, err := qemu.Start(t.Context(), cfg, Logger(t))
	if err != nil {
		return err
	}
	defer vm.Close()
	if err := ready(t.Context(), vm); err != nil {
		return fmt.Errorf("%w; the console ends with:\n%s", err, vm.Console().Tail(40))
	}
	return vm.Save(t.Context(), dir, key)
}

// prune removes the snapshots used longest ago. One in use is locked and
// stays, as does one whose lock cannot be had for any other reason.
func prune(cache string) {
	metas, _ := filepath.Glob(filepath.Join(cache, "*", "snapshot.json"))
	type used struct {
		dir  string
		time time.Time
	}
	var all []used
	for _, m := range metas {
		if st, err := os.Stat(filepath.Dir(m)); err == nil {
			all = append(all, used{filepath.Dir(m), st.ModTime()})
		}
	}
	slices.SortFunc(all, func(a, b used) int { return cmp.Compare(b.time.UnixNano(), a.time.UnixNano()) })
	for _, u := range all[min(keepSnapshots, len(all)):] {
		if release, ok, err := qemu.TryLock(u.dir + ".lock"); err == nil && ok {
			os.RemoveAll(u.dir)
			release()
		}
	}
}

// poll calls probe until it returns nil or ctx ends.
func poll(ctx context.Context, probe func(context.Context) error) error {
	ticker := time.NewTicker(pollEvery)
	defer ticker.Stop()
	for {
		err := probe(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", ctx.Err(), err)
		}
	}
}

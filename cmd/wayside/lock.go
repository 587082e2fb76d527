package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/waysideos/wayside/boards"
	"github.com/waysideos/wayside/image/debian"
)

// mirrorFlags says where Debian packages come from: flags, then environment,
// then the host's apt configuration.
type mirrorFlags struct{ main, security string }

func (m *mirrorFlags) add(cmd *cobra.Command) {
	cmd.Flags().StringVar(&m.main, "mirror", os.Getenv("WAYSIDE_MIRROR"),
		"`URL` of a Debian mirror (default: WAYSIDE_MIRROR, else the one the host's apt uses)")
	cmd.Flags().StringVar(&m.security, "security-mirror", os.Getenv("WAYSIDE_SECURITY_MIRROR"),
		"`URL` of a mirror of Debian's security archive (default: WAYSIDE_SECURITY_MIRROR, else apt's)")
}

// archive opens the mirror; it does not touch the network.
func (m mirrorFlags) archive(log *slog.Logger) (*debian.Archive, error) {
	mirror, err := debian.FindMirror(m.main, m.security, os.DirFS("/"))
	if err != nil {
		return nil, err
	}
	return debian.NewArchive(debian.Config{Mirror: mirror, Now: time.Now(), Log: log})
}

func newLockCmd() *cobra.Command {
	var mirror mirrorFlags
	var add []string
	var check, keep bool
	r := lockReport{}
	file := ""
	cmd := &cobra.Command{
		Use:   "lock",
		Short: "Renew the lock file of the Debian packages",
		Long: `Looks up the newest version of every Debian package that a board needs, or that
the lock file names already, verifies it down from the archive's signature, and
writes names, versions and hashes to the lock file. Nothing but what the lock
names is ever built in.`,
		Example: `  wayside lock                             renew the lock and say what changed
  wayside lock --keep                      a new board's packages, and no newer kernel
  wayside lock --check                     is every locked version still to be had?
  wayside lock --add arm64:ovmf            lock a package that no board asks for yet
  wayside lock --mirror http://mirror.example.org/debian \
    --security-mirror http://mirror.example.org/debian-security`,
		Args: flagsOnly,
		RunE: func(cmd *cobra.Command, _ []string) error {
			r.w = cmd.OutOrStdout()
			archive, err := mirror.archive(slog.New(slog.NewTextHandler(cmd.ErrOrStderr(), nil)))
			if err != nil {
				return err
			}
			old, err := readLock(file)
			if check && err == nil {
				return checkLock(cmd.Context(), archive, old, &r)
			}
			if errors.Is(err, errUnreadable) && !check {
				// The lock is compiled in: it must not need deleting to be repaired.
				fmt.Fprintf(cmd.ErrOrStderr(), "%v; it is made anew from what the boards name\n", err)
				err = nil
			}
			if err != nil {
				return err
			}
			return renewLock(cmd.Context(), archive, file, old, add, keep, &r)
		},
	}
	mirror.add(cmd)
	cmd.Flags().StringVar(&file, "file", filepath.FromSlash(boards.LockFile), "the lock `FILE`")
	cmd.Flags().StringSliceVar(&add, "add", nil, "lock this package too, as `ARCH:PACKAGE`")
	cmd.Flags().BoolVar(&keep, "keep", false, "leave what is locked as it is, and add what is missing")
	cmd.Flags().BoolVar(&check, "check", false, "change nothing; fail when a locked version has left the mirror")
	cmd.Flags().BoolVar(&r.json, "json", false, "print one JSON object a line")
	return cmd
}

var errUnreadable = errors.New("not a lock file of this tool")

// readLock returns an empty lock for a file that is not there yet.
func readLock(file string) (debian.Lock, error) {
	data, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		if _, err := os.Stat(filepath.Dir(file)); err != nil {
			return debian.Lock{}, fmt.Errorf("find the lock file %s: run in Wayside's source folder or give --file FILE", file)
		}
		return debian.Lock{}, nil
	}
	if err != nil {
		return debian.Lock{}, fmt.Errorf("read package lock: %v", err)
	}
	lock, err := debian.ParseLock(data)
	if err != nil {
		return debian.Lock{}, fmt.Errorf("%s: %w: %v", file, errUnreadable, err)
	}
	return lock, nil
}

// checkLock asks whether the archive still offers what is locked.
func checkLock(ctx context.Context, archive *debian.Archive, lock debian.Lock, r *lockReport) error {
	all := lock.All()
	names := map[string]bool{}
	for _, p := range all {
		names[p.Name] = true
	}
	var bad []error
	for _, arch := range slices.Sorted(maps.Keys(lock.Packages)) {
		entries, err := archive.Entries(ctx, arch, func(name string) bool { return names[name] })
		if err != nil {
			return err
		}
		for _, p := range all {
			if p.Arch != arch {
				continue
			}
			_, err := debian.Find(entries, p)
			if err != nil {
				bad = append(bad, err)
			}
			r.checked(p, err)
		}
	}
	if len(bad) > 0 {
		return fmt.Errorf("%d of %d locked packages are not in the archive as locked:\n%w", len(bad), len(all), errors.Join(bad...))
	}
	r.summary("current", fmt.Sprintf("%d locked packages are in the archive", len(all)))
	return nil
}

// renewLock resolves every request anew and writes the file if a package
// changed. With keep, what the old lock holds stays.
func renewLock(ctx context.Context, archive *debian.Archive, file string, old debian.Lock, add []string, keep bool, r *lockReport) error {
	requests, err := lockRequests(old, add)
	if err != nil {
		return err
	}
	var lock debian.Lock
	for _, arch := range slices.Sorted(maps.Keys(requests)) {
		part, err := archive.Resolve(ctx, slices.Sorted(maps.Keys(requests[arch])), arch)
		if err != nil {
			return err
		}
		lock = lock.Merge(part)
	}
	if keep {
		lock = lock.Merge(old)
	}
	changes := old.Changes(lock)
	for _, c := range changes {
		if err := c.Mismatch(); err != nil {
			return err
		}
		r.changed(c)
	}
	if len(changes) == 0 {
		found := "are the newest"
		if keep {
			found = "stay, none is missing"
		}
		r.summary("unchanged", fmt.Sprintf("%s: all %d packages %s", file, len(lock.All()), found))
		return nil
	}
	data, err := lock.Encode()
	if err != nil {
		return err
	}
	if err := replaceFile(file, data); err != nil {
		return fmt.Errorf("write package lock: %v", err)
	}
	r.summary("written", fmt.Sprintf("%s: %d of %d packages changed, archive of %s",
		file, len(changes), len(lock.All()), lock.Date.Format(time.RFC3339)))
	return nil
}

// lockRequests is the set of packages to lock, by architecture: what the boards
// name, what the lock holds already, what was added.
func lockRequests(old debian.Lock, add []string) (map[string]map[string]bool, error) {
	requests := map[string]map[string]bool{}
	request := func(arch string, names ...string) {
		if requests[arch] == nil {
			requests[arch] = map[string]bool{"ca-certificates": true}
		}
		for _, name := range names {
			requests[arch][name] = true
		}
	}
	all, err := boards.All()
	if err != nil {
		return nil, err
	}
	for _, b := range all {
		request(b.Arch, b.Packages.Kernel, b.Packages.Loader)
		request(b.Arch, b.Firmware.Packages...)
		request(b.Arch, b.Programs.Packages...)
		request(b.Arch, b.BootPackages()...)
		if b.QEMU != nil && b.QEMU.Firmware != "" {
			request(b.Arch, b.QEMU.Firmware)
		}
	}
	for _, p := range old.All() {
		request(p.Arch, p.Request)
	}
	for _, word := range add {
		arch, name, ok := strings.Cut(word, ":")
		if !ok || arch == "" || name == "" {
			return nil, fmt.Errorf("--add %q: give it as arch:package", word)
		}
		request(arch, name)
	}
	return requests, nil
}

func replaceFile(file string, data []byte) error {
	work := file + ".new"
	if err := os.WriteFile(work, data, 0o644); err != nil {
		return err
	}
	return os.Rename(work, file)
}

// lockReport prints what the command finds, for people or as JSON lines.
type lockReport struct {
	w    io.Writer
	json bool
}

// lockLine is one line of --json. State: "added", "changed", "dropped", "ok",
// "gone", "mismatch" of a package; "written", "unchanged", "current" at the end.
type lockLine struct {
	State   string `json:"state"`
	Arch    string `json:"arch,omitempty"`
	Request string `json:"request,omitempty"`
	Package string `json:"package,omitempty"`
	Old     string `json:"old,omitempty"` // version
	New     string `json:"new,omitempty"` // version
	Text    string `json:"text,omitempty"`
}

func (r *lockReport) print(l lockLine, text string) {
	if !r.json {
		fmt.Fprintln(r.w, text)
		return
	}
	data, _ := json.Marshal(l) // strings only: cannot fail
	fmt.Fprintf(r.w, "%s\n", data)
}

func (r *lockReport) changed(c debian.Change) {
	l := lockLine{State: "changed"}
	before, after := "-", "-"
	if c.New == nil {
		l.State = "dropped"
	} else {
		l.Arch, l.Request, l.Package, l.New = c.New.Arch, c.New.Request, c.New.Name, c.New.Version
		after = l.New
	}
	if c.Old == nil {
		l.State = "added"
	} else {
		l.Arch, l.Request, l.Old = c.Old.Arch, c.Old.Request, c.Old.Version
		before = l.Old
	}
	r.print(l, fmt.Sprintf("%-6s %-20s %s -> %s", l.Arch, l.Request, before, after))
}

func (r *lockReport) checked(p debian.LockedPackage, err error) {
	state := "ok"
	var gone *debian.GoneError
	switch {
	case errors.As(err, &gone):
		state = "gone"
	case err != nil:
		state = "mismatch"
	}
	r.print(lockLine{State: state, Arch: p.Arch, Request: p.Request, Package: p.Name, Old: p.Version},
		fmt.Sprintf("%-8s %-6s %-20s %s %s", state, p.Arch, p.Request, p.Name, p.Version))
}

func (r *lockReport) summary(state, text string) { r.print(lockLine{State: state, Text: text}, text) }

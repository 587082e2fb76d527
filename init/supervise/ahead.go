//go:build linux

package supervise

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"time"

	"github.com/waysideos/wayside/services/manifest"
)

// ahead is the first process of a service, which waits for the word to begin.
type ahead struct {
	proc  *process
	files []*os.File // the listeners that it was given
	word  *os.File   // see manifest.StartFD
}

// StartAhead starts the processes of units that say so, before Run and before
// there is anything for them to do: reading a program and setting itself up is
// most of a service's start, and needs nothing but account, limits and
// listeners. Directories, credentials and whatever the profile says are there
// before it hears the word. It may be called once; what fails is started by Run
// as if nothing had been.
func (s *Supervisor) StartAhead(ctx context.Context) error {
	if err := s.openNotify(); err != nil {
		return err
	}
	s.openCgroups()
	var all []error
	for _, l := range s.launch {
		if !l.unit.StartAhead {
			continue
		}
		if err := l.startAhead(ctx); err != nil {
			all = append(all, fmt.Errorf("start %s ahead: %w", l.unit.Name, err))
		}
	}
	return errors.Join(all...)
}

// Leave takes a service out, before Run. Those that come after it do not wait.
func (s *Supervisor) Leave(name string) {
	i := slices.IndexFunc(s.services, func(sv *service) bool { return sv.unit.Name == name })
	if i < 0 {
		return
	}
	open(s.services[i].settled)
	close(s.services[i].done)
	s.launch[i].ahead.end()
	s.services, s.launch = slices.Delete(s.services, i, i+1), slices.Delete(s.launch, i, i+1)
}

func (l *launcher) startAhead(ctx context.Context) error {
	who, err := lookup(l.unit.User, l.unit.Group, l.unit.SupplementaryGroups)
	if err != nil {
		return err
	}
	files, names, err := l.listeners(ctx)
	if err != nil {
		return err
	}
	r, w, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("make pipe for the word: %v", err)
	}
	defer r.Close()
	cmd := l.command(who, names, files)
	cmd.Env = append(cmd.Env, manifest.StartFD+"="+strconv.Itoa(3+len(files)))
	cmd.ExtraFiles = append(cmd.ExtraFiles, r)
	p, err := l.start(cmd)
	if err != nil {
		w.Close()
		return err
	}
	l.ahead = &ahead{p, files, w}
	return nil
}

// leaveMoved ends a process that waits for the word if its listeners were moved
// since. It holds them until it has ended, and the new ones cannot be made where
// both are of one port.
func (l *launcher) leaveMoved() {
	var files []*os.File
	for _, s := range l.sockets {
		files = append(files, s.made()...)
	}
	if l.ahead != nil && !slices.Equal(l.ahead.files, files) {
		l.ahead.end()
		l.ahead = nil
	}
}

// takeAhead returns the process that waits, if it has the listeners that the
// service is to have; one that has others is ended. nil is none.
func (l *launcher) takeAhead(files []*os.File) *ahead {
	a := l.ahead
	l.ahead = nil
	if a != nil && !slices.Equal(a.files, files) {
		a.end()
		return nil
	}
	return a
}

// begin lets the process begin. If it has ended meanwhile, its exit says so.
func (a *ahead) begin() *process {
	_, _ = a.word.Write([]byte{1})
	a.word.Close()
	return a.proc
}

// end has the process exit instead, and waits a moment until it has.
func (a *ahead) end() {
	if a == nil {
		return
	}
	a.word.Close()
	a.proc.finish()
	select {
	case <-a.proc.exit:
	case <-time.After(5 * time.Second):
	}
}

package qemu

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/waysideos/wayside/qemu/nbd"
)

// PowerCut kills QEMU at once and keeps the disk. What the guest wrote but
// never flushed is still there: the host has it. PowerCutDropping is the cut
// that loses it.
func (v *VM) PowerCut() error {
	proc, err := v.running()
	if err != nil {
		return err
	}
	return errors.Join(proc.kill("power cut"), v.disk.close())
}

// PowerCutDropping cuts the power of a DiskDropping machine: chance, by seed,
// decides which un-flushed sectors reached the platter.
func (v *VM) PowerCutDropping(seed uint64) (nbd.Stats, error) {
	proc, err := v.running()
	if err != nil {
		return nbd.Stats{}, err
	}
	if v.disk == nil {
		return nbd.Stats{}, errors.New("cut the power dropping writes: the disk is not a DiskDropping one")
	}
	stats, err := v.disk.disk.Cut(seed) // first: QEMU must not get another write in
	err = errors.Join(err, proc.kill("power cut"))
	<-v.disk.done
	return stats, err
}

// NextWrite returns a channel that is closed when the n-th write from now has
// reached a DiskDropping disk, nil for another: a power cut just then finds
// something to drop.
func (v *VM) NextWrite(n int) <-chan struct{} {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.disk == nil {
		return nil
	}
	return v.disk.disk.NextWrite(n)
}

// Reset presses the reset button.
func (v *VM) Reset(ctx context.Context) error {
	return v.QMP(ctx, "system_reset", nil, nil)
}

// buttonEvery is how often Shutdown presses the power button: a guest that is
// still booting does not hear the first press.
const buttonEvery = 5 * time.Second

// Shutdown presses the power button and waits until the guest has switched
// itself off. If ctx ends first, QEMU is told to quit and the error says that
// the shutdown was not clean. The machine is off on return.
func (v *VM) Shutdown(ctx context.Context) error {
	proc, err := v.running()
	if err != nil {
		return err
	}
	proc.ask("shut down")
	for {
		if err := proc.ctrl.execute(ctx, "system_powerdown", nil, nil); err != nil && !errors.Is(err, errControlClosed) {
			return errors.Join(err, v.quit(proc))
		}
		timer := time.NewTimer(buttonEvery)
		select {
		case <-proc.done:
			timer.Stop()
			return v.disk.close()
		case <-ctx.Done():
			timer.Stop()
			return errors.Join(fmt.Errorf("shut down: %w; the guest did not switch itself off", ctx.Err()), v.quit(proc))
		case <-timer.C:
		}
	}
}

// quit ends QEMU without asking the guest. QEMU writes back what it holds.
func (v *VM) quit(proc *process) error {
	proc.ask("quit")
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	proc.ctrl.execute(ctx, "quit", nil, nil) // an answer is not sure to come
	select {
	case <-proc.done:
		return v.disk.close()
	case <-ctx.Done():
		return errors.Join(proc.kill("quit"), v.disk.close())
	}
}

// Reboot shuts the guest down and switches the machine on again.
func (v *VM) Reboot(ctx context.Context) error {
	if err := v.Shutdown(ctx); err != nil {
		return err
	}
	return v.PowerOn(ctx)
}

// diskServer is the dropping disk of one power-on.
type diskServer struct {
	disk *nbd.Disk
	done chan struct{} // closed when its connection has ended
}

func serveDisk(c Config) (*diskServer, *os.File, error) {
	disk, err := nbd.Open(c.diskPath(), nbd.Options{FlushDelay: c.FlushDelay, Lies: c.DiskLies})
	if err != nil {
		return nil, nil, err
	}
	conn, theirs, err := socketPair()
	if err != nil {
		disk.Close()
		return nil, nil, fmt.Errorf("make the disk's socket: %v", err)
	}
	s := &diskServer{disk: disk, done: make(chan struct{})}
	go func() {
		defer close(s.done)
		nbd.ServeConn(conn, disk)
	}()
	return s, theirs, nil
}

// close writes back and waits for the server; a nil disk is fine.
func (s *diskServer) close() error {
	if s == nil {
		return nil
	}
	err := s.disk.Close()
	<-s.done
	return err
}

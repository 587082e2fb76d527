package connect_test

import (
	"context"
	"strings"
	"syscall"
	"testing"

	"github.com/waysideos/wayside/services/connect"
	"github.com/waysideos/wayside/services/connect/connecttest"
	"github.com/waysideos/wayside/services/site"
	"github.com/waysideos/wayside/services/vfs"
)

// broken are ways in which the folder of one connector cannot be used; each
// returns what mends it.
var broken = map[string]func(t *testing.T, disk *vfs.Crashable) (mend func()){
	"a file is where the spool goes": func(t *testing.T, disk *vfs.Crashable) func() { return fileAt(t, disk, "spool/dev") },
	"a file is where dead letters go": func(t *testing.T, disk *vfs.Crashable) func() {
		return fileAt(t, disk, "aside/dev")
	},
	"the disk refuses it": func(t *testing.T, disk *vfs.Crashable) func() {
		disk.SetHook(func(op vfs.Op, name string) error {
			if op == vfs.OpMkdir && name == "spool/dev" {
				return syscall.EIO
			}
			return nil
		})
		return func() { disk.SetHook(nil) }
	},
}

func fileAt(t *testing.T, disk *vfs.Crashable, name string) (remove func()) {
	t.Helper()
	if err := disk.MkdirAll(name[:strings.Index(name, "/")]); err != nil {
		t.Fatal(err)
	}
	f, err := disk.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	f.Close()
	return func() {
		if err := disk.Remove(name); err != nil {
			t.Error(err)
		}
	}
}

// A connector whose folder cannot be used says so and is tried again; the
// others run, and know nothing of it.
func TestOneSpoolThatCannotBe(t *testing.T) {
	for name, breakIt := range broken {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b, disk := connecttest.NewBroker(t), vfs.NewCrashable(4)
			mend := breakIt(t, disk)
			boxes, others := make(chan *connect.Box, 1), make(chan *connect.Box, 1)
			other := instance(forever(others), func(i *connect.Instance) {
				i.Name, i.Records, i.Declared = "other", site.DefaultRecords("other"), &site.DiodeSend{Name: "other"}
			})
			run := connecttest.Start(t, b.Addr, disk, "", other)
			box := <-others
			if err := run.Reconfigure([]connect.Instance{instance(forever(boxes)), other}); err != nil {
				t.Fatal(err)
			}
			connecttest.Until(t, "the connector says what is wrong", func() bool {
				s := run.State("dev")
				return s.State == connect.Down && strings.Contains(s.Error, "not started, records cannot be kept on disk: ")
			})
			if err := box.Send(context.Background(), connect.Record{Value: []byte("of the other")}); err != nil {
				t.Error(err)
			}
			if s := run.State("other"); s.State != connect.Running || s.Restarts != 0 {
				t.Errorf("the other connector is %+v, want that it runs", s)
			}
			if rep := run.Status(); !rep.OK || run.Healthy() != nil {
				t.Errorf("status is %+v, health %v; want both well", rep, run.Healthy())
			}
			mend()
			box = <-boxes
			if err := box.Spool(connect.Record{Value: []byte("of the mended")}); err != nil {
				t.Error(err)
			}
			b.Read("dev", 1)
			if s := run.State("dev"); s.State != connect.Running || s.Error != "" {
				t.Errorf("the mended connector is %+v, want that it is up", s)
			}
		})
	}
}

// A connector that cannot start stops with the service, and by the same error.
func TestStopWhileASpoolCannotBe(t *testing.T) {
	b, disk := connecttest.NewBroker(t), vfs.NewCrashable(4)
	fileAt(t, disk, "spool/dev")
	run := connecttest.Start(t, b.Addr, disk, "", instance(forever(nil)))
	connecttest.Until(t, "it is tried", func() bool { return run.State("dev").State == connect.Down })
	run.Stop()
	if s := run.State("dev"); s.State != connect.Stopped || s.Error == "" {
		t.Errorf("state is %+v, want stopped, with the error", s)
	}
}

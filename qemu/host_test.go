package qemu

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestCheckVersion(t *testing.T) {
	for out, want := range map[string]string{
		"QEMU emulator version 10.0.2 (Debian 1:10.0.2+ds-2~bpo12+1)\nCopyright": "10.0.2",
		"QEMU emulator version 11.0":                     "11.0",
		"QEMU emulator version 10.1.0-rc2 (v10.1.0-rc2)": "10.1.0",
		"QEMU emulator version 7.2.22 (Debian 1:7.2)":    "",
		"QEMU emulator version 9.2.4":                    "",
		"hello":                                          "",
	} {
		got, err := checkVersion(out)
		if got != want || (err == nil) != (want != "") {
			t.Errorf("%q: got %q (%v), want %q", out, got, err, want)
		}
	}
}

func TestFindSaysWhatToType(t *testing.T) {
	_, err := Find(t.Context(), "no-such-machine")
	if !errors.Is(err, ErrNotFound) || !strings.Contains(err.Error(), "wayside host setup") {
		t.Errorf("missing QEMU: got error %v, want ErrNotFound and what to type", err)
	}
}

func TestChoosePorts(t *testing.T) {
	asked := []Forward{{Name: "a", Host: "127.0.0.1:0"}, {Name: "b", Host: "127.0.0.1:0"}, {Name: "c", Host: "127.0.0.1:7"}}
	got, err := choosePorts(asked)
	if err != nil {
		t.Fatal(err)
	}
	if got[0].Host == got[1].Host || strings.HasSuffix(got[0].Host, ":0") || got[2].Host != "127.0.0.1:7" {
		t.Errorf("ports: got %v", got)
	}
	if asked[0].Host != "127.0.0.1:0" {
		t.Error("the caller's forwards were changed")
	}
	if _, err := choosePorts([]Forward{{Name: "a", Host: "9092"}}); err == nil {
		t.Error("host without a port: got no error")
	}
}

func TestCheckPorts(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	err = CheckPorts([]Forward{{Name: "a", Host: "127.0.0.1:0"}, {Name: "b", Host: l.Addr().String()}})
	var port *PortError
	if !errors.As(err, &port) || port.Name != "b" {
		t.Errorf("got error %v, want a PortError for b", err)
	}
}

func TestCopySparse(t *testing.T) {
	dir := t.TempDir()
	from, to := filepath.Join(dir, "from"), filepath.Join(dir, "to")
	data := make([]byte, 300<<10+7)
	copy(data[100<<10:], "middle")
	copy(data[len(data)-3:], "end")
	if err := os.WriteFile(from, data, 0o600); err != nil {
		t.Fatal(err)
	}
	const size = 1 << 20
	if err := copySparse(to, from, size); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(to)
	if err != nil {
		t.Fatal(err)
	}
	if want := string(data) + string(make([]byte, size-len(data))); string(got) != want {
		t.Error("the copy is not the original and zeros behind it")
	}
	if err := copySparse(to, filepath.Join(dir, "missing"), 0); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("missing original: got error %v, want ErrNotExist", err)
	}
}

func TestMakeWorkRemovesWhatTheDeadLeft(t *testing.T) {
	parent := filepath.Join(t.TempDir(), "parent")
	mine, remove, err := MakeWork(parent)
	if err != nil {
		t.Fatal(err)
	}
	// What a killed process leaves: a folder and a lock that nobody holds.
	dead := filepath.Join(parent, "vm-dead")
	for _, err := range []error{os.Mkdir(dead, 0o700), os.WriteFile(dead+".lock", nil, 0o600)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	other, removeOther, err := MakeWork(parent)
	if err != nil {
		t.Fatal(err)
	}
	for dir, want := range map[string]bool{mine: true, other: true, dead: false} {
		if _, err := os.Stat(dir); (err == nil) != want {
			t.Errorf("%s: there = %v, want %v", filepath.Base(dir), err == nil, want)
		}
	}
	if err := errors.Join(remove(), removeOther()); err != nil {
		t.Error(err)
	}
	if left, err := os.ReadDir(parent); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("left behind: %v (%v)", left, err)
	}
}

package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/waysideos/wayside/image/flash"
	"github.com/waysideos/wayside/services/site"
)

func TestJudgeDisk(t *testing.T) {
	stick := blockDisk{Device: "/dev/sdb", Model: "Ultra", Size: 32 << 30, Sector: 512, Removable: true}
	with := func(change func(*blockDisk)) blockDisk { d := stick; change(&d); return d }
	mounted := with(func(d *blockDisk) { d.Uses = []string{"/media/usb on sdb1"} })
	inside := with(func(d *blockDisk) { d.Removable = false })
	system := with(func(d *blockDisk) { d.Removable, d.System, d.Uses = false, true, []string{"/ on sda2"} })
	for name, c := range map[string]struct {
		disk  blockDisk
		force string
		want  string // part of the refusal; "" for none
	}{
		"a stick":            {disk: stick},
		"too small":          {disk: with(func(d *blockDisk) { d.Size = 1 << 20 }), want: "the image needs"},
		"read-only":          {disk: with(func(d *blockDisk) { d.ReadOnly = true }), want: "read-only"},
		"large sectors":      {disk: with(func(d *blockDisk) { d.Sector = 4096 }), want: "4096"},
		"mounted":            {disk: mounted, want: `--force "destroy /dev/sdb: Ultra, 32768.0 MiB, /media/usb on sdb1"`},
		"mounted, told":      {disk: mounted, force: mounted.words()},
		"mounted since":      {disk: mounted, force: stick.words(), want: "other words"},
		"inside":             {disk: inside, want: "not removable"},
		"inside, told":       {disk: inside, force: inside.words()},
		"inside, half told":  {disk: inside, force: "destroy /dev/sdb", want: "other words"},
		"the system":         {disk: system, want: "this computer runs from it"},
		"the system, told":   {disk: system, force: system.words(), want: "start it from another medium"},
		"too small, told":    {disk: with(func(d *blockDisk) { d.Size = 1 }), force: "x", want: "the image needs"},
		"words for no cause": {disk: stick, force: "x", want: "other words"},
	} {
		err := c.disk.judge(1<<30, c.force)
		switch {
		case c.want == "" && err != nil:
			t.Errorf("%s: %v", name, err)
		case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)):
			t.Errorf("%s: got %v, want it refused with %q", name, err, c.want)
		}
	}
}

// An image is not written where a mistake in the arguments points.
func TestFlashRefuses(t *testing.T) {
	dir := t.TempDir()
	img, secrets, empty := filepath.Join(dir, "a.img"), filepath.Join(dir, "secrets"), filepath.Join(dir, "empty")
	for _, d := range []string{secrets, empty} {
		if err := os.Mkdir(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for name, text := range map[string]string{
		"a.img": "no image", "b.img": "no image", "bad.yaml": "version: 1\nsite: Shop 42\n",
		"install.yaml": "version: 1\ndisk: biggest\n", "secrets/large": strings.Repeat("x", site.MaxSecretSize+1),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{img, filepath.Join(dir, "b.img")}, "no disk but a file"},
		{[]string{img, dir}, "no disk"},
		{[]string{img, filepath.Join(dir, "none")}, "no such file"},
		{[]string{img, "/dev/null"}, "no disk"},
		{[]string{"--list"}, "unknown flag"},
	} {
		out, err := runFlash(t, c.args...)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("flash %q: got %v, want %q\n%s", c.args, err, c.want, out)
		}
	}
	for _, c := range []struct {
		o    flashOptions
		want string
	}{
		{flashOptions{site: filepath.Join(dir, "bad.yaml")}, "bad.yaml:2:"},
		{flashOptions{install: filepath.Join(dir, "install.yaml")}, "smallest"},
		{flashOptions{secrets: secrets}, "secret large"},
		{flashOptions{secrets: empty}, "no files"},
		{flashOptions{unverified: true}, "GPT"},
	} {
		if _, err := c.o.open(t.Context(), img, newProgress(&bytes.Buffer{})); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: got %v, want %q", c.o, err, c.want)
		}
	}
}

func runFlash(t *testing.T, args ...string) (string, error) {
	t.Helper()
	cmd := newRootCmd()
	var out bytes.Buffer
	cmd.SetOut(&out)
	cmd.SetErr(&out)
	cmd.SetArgs(append([]string{"flash"}, args...))
	err := cmd.ExecuteContext(t.Context())
	return out.String(), err
}

func TestFlashListIsJSON(t *testing.T) {
	out, err := runFlash(t, "--json")
	if err != nil {
		t.Skipf("no list of disks here: %v", err)
	}
	var disks []blockDisk
	if err := json.Unmarshal([]byte(out), &disks); err != nil {
		t.Errorf("%q: %v", out, err)
	}
}

func TestFlashLine(t *testing.T) {
	var out bytes.Buffer
	l := newFlashLine(&out)
	for _, p := range []flash.Progress{{Step: "write", Done: 1, Total: 2 << 20}, {Step: "write", Done: 2 << 20, Total: 2 << 20}, {Step: "verify", Done: 1, Total: 2 << 20}} {
		l.update(p)
	}
	l.end()
	if got, want := out.String(), "  write      2.0 MiB\n  verify     2.0 MiB\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if err := friendly(errors.Join(t.Context().Err())); err != nil {
		t.Errorf("no error became %v", err)
	}
}

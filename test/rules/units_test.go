package rules

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/waysideos/wayside/init/profile"
	"github.com/waysideos/wayside/services/manifest"
)

const baseRoot = "../../overlays/base/rootfs"

// TestUnits holds together what a service of the box is spread over: its unit
// file, its user and group, its command, and the console's right to ask it.
func TestUnits(t *testing.T) {
	units, _, err := manifest.ReadDir(os.DirFS(baseRoot), "usr/lib/wayside/units")
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(units, func(u manifest.Unit) bool { return u.Name == "console" })
	if i < 0 {
		t.Fatal("there is no console.service")
	}
	console := units[i]
	users, groups := accounts(t, "etc/passwd"), accounts(t, "etc/group")
	program := build(t)
	for _, u := range units {
		if !slices.Contains(users, u.User) || u.User == "root" {
			t.Errorf("%s: want a user of its own in etc/passwd, got User=%s", u.File, u.User)
		}
		for _, g := range append([]string{u.User}, u.SupplementaryGroups...) {
			if !slices.Contains(groups, g) {
				t.Errorf("%s: group %q is not in etc/group", u.File, g)
			}
		}
		if u.Name != console.Name && !slices.Contains(console.SupplementaryGroups, u.User) {
			t.Errorf("%s: SupplementaryGroups lacks %q: the status page may not ask %s", console.File, u.User, u.Name)
		}
		if !slices.Equal(u.RuntimeDirectory, []string{u.Name}) || u.RuntimeDirectoryMode != 0o750 {
			t.Errorf("%s: want RuntimeDirectory=%s with RuntimeDirectoryMode=0750, where the status page asks", u.File, u.Name)
		}
		if i := slices.Index(u.ExecStart, "--format-level"); u.Name == "broker" && (i < 0 || u.ExecStart[i+1] != manifest.FormatLevelFile) {
			t.Errorf("%s: want --format-level %s: else a version on trial writes what the one before cannot read", u.File, manifest.FormatLevelFile)
		}
		checkSecrets(t, u)
		checkCommand(t, program, u)
	}
}

// checkSecrets holds that a unit that names a folder of secrets may read that
// one, and no other.
func checkSecrets(t *testing.T, u manifest.Unit) {
	t.Helper()
	i := slices.Index(u.ExecStart, "--secrets")
	named := ""
	if i >= 0 {
		named = u.ExecStart[i+1]
	}
	if i >= 0 && !slices.ContainsFunc(profile.Readers, func(r profile.Reader) bool { return r.Dir == named }) {
		t.Errorf("%s: --secrets %s: init makes no such folder", u.File, named)
	}
	for _, r := range profile.Readers {
		reads := u.User == r.User || slices.Contains(append(u.SupplementaryGroups, u.User), r.Group)
		if reads != (named == r.Dir) {
			t.Errorf("%s: it names %q; may it read %s: %v", u.File, named, r.Dir, reads)
		}
	}
}

// checkCommand runs the service's help, by its first word and by its name.
func checkCommand(t *testing.T, program string, u manifest.Unit) {
	t.Helper()
	if len(u.ExecStart) < 2 || u.ExecStart[0] != "/usr/bin/waysided" {
		t.Errorf("%s: want ExecStart=/usr/bin/waysided NAME ..., got %q", u.File, u.ExecStart)
		return
	}
	name := u.ExecStart[1]
	for _, args := range [][]string{{"waysided", name, "--help"}, {name, "--help"}} {
		cmd := exec.Command(program)
		cmd.Args = args
		out, err := cmd.CombinedOutput()
		if err != nil || !strings.Contains(string(out), "waysided "+name+" [flags]") {
			t.Errorf("%s: %q is not that service's help (%v): it must be in both lists of cmd/waysided/root.go", u.File, args, err)
		}
	}
}

func build(t *testing.T) string {
	t.Helper()
	program := filepath.Join(t.TempDir(), "waysided")
	if out, err := exec.Command("go", "build", "-o", program, "../../cmd/waysided").CombinedOutput(); err != nil {
		t.Fatalf("build waysided: %v\n%s", err, out)
	}
	return program
}

// accounts are the names in a file such as passwd.
func accounts(t *testing.T, file string) []string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(baseRoot, file))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for line := range strings.Lines(string(text)) {
		name, _, _ := strings.Cut(line, ":")
		names = append(names, name)
	}
	return names
}

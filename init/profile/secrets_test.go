package profile

import (
	"bytes"
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
	"testing"
	"testing/fstest"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/waysideos/wayside/image/layout"
	"github.com/waysideos/wayside/services/site"
	"github.com/waysideos/wayside/services/vfs"
)

// secretWord is in every secret of these tests and may be in no message.
const secretWord = "hunter2"

type set = map[string][]byte

var (
	oldSet = set{"server.pem": []byte("old certificate " + secretWord), "users": []byte("till:old " + secretWord)}
	newSet = set{"server.pem": []byte("new certificate " + secretWord), "jwks.json": []byte("new keys " + secretWord)}
)

// onBoot is a boot partition with files in the folder.
func onBoot(files set) fstest.MapFS {
	m := fstest.MapFS{layout.ESPSite: {Data: []byte(good)}}
	for name, data := range files {
		m[layout.ESPSecrets+"/"+name] = &fstest.MapFile{Data: data}
	}
	return m
}

// bootSecrets loads with the given boot partition and says what a person sees.
func bootSecrets(t *testing.T, state vfs.FS, boot fs.FS) (files set, problems []string) {
	t.Helper()
	var log bytes.Buffer
	files, problems = LoadSecrets(SecretsConfig{
		State: state, Log: slog.New(slog.NewTextHandler(&log, nil)),
		Boot: func() (map[string][]byte, error) { return ReadSecrets(boot) },
	})
	if said := log.String() + strings.Join(problems, "\n"); strings.Contains(said, secretWord) {
		t.Errorf("a secret is in what is said: %s", said)
	}
	return files, problems
}

func expectSet(t *testing.T, want set, files set, problems []string) {
	t.Helper()
	// Not cmp: byte by byte it takes seconds for the largest set.
	if !maps.EqualFunc(want, files, bytes.Equal) {
		t.Errorf("files in force: got %d, %.300q, want %d, %.300q", len(files), files, len(want), want)
	}
	if len(problems) > 0 {
		t.Errorf("got problems %q, want none", problems)
	}
}

func TestLifeOfSecrets(t *testing.T) {
	state := vfs.NewCrashable(1)
	for _, step := range []struct {
		name string
		boot set
		want set
	}{
		{"nothing yet", nil, nil},
		{"first", oldSet, oldSet},
		{"the folder was deleted", nil, oldSet},
		{"replaced as a whole", newSet, newSet},
		{"hidden files only", set{".DS_Store": []byte("x"), "._users": []byte("x")}, newSet},
		{"back, hidden files beside", set{"server.pem": oldSet["server.pem"], "users": oldSet["users"], "._users": make([]byte, MaxSecretSize+1)}, oldSet},
	} {
		t.Run(step.name, func(t *testing.T) {
			files, problems := bootSecrets(t, state, onBoot(step.boot))
			expectSet(t, step.want, files, problems)
		})
		state = state.Crash()
	}
}

func TestUnchangedSecretsAreNotWritten(t *testing.T) {
	state := vfs.NewCrashable(1)
	bootSecrets(t, state, onBoot(oldSet))
	state.SetHook(func(op vfs.Op, name string) error {
		if op != vfs.OpOpen && op != vfs.OpRead {
			return fmt.Errorf("%v %s", op, name)
		}
		return nil
	})
	files, problems := bootSecrets(t, state, onBoot(oldSet))
	expectSet(t, oldSet, files, problems)
}

func TestSecretsWithoutState(t *testing.T) {
	files, problems := bootSecrets(t, nil, onBoot(oldSet))
	expectSet(t, oldSet, files, problems)
	files, problems = bootSecrets(t, nil, onBoot(nil))
	expectSet(t, nil, files, problems)
}

// A full or broken state partition costs the next start, not this one.
func TestSecretsThatCannotBeKept(t *testing.T) {
	for _, op := range []vfs.Op{vfs.OpMkdir, vfs.OpCreate, vfs.OpWrite, vfs.OpSync, vfs.OpRename, vfs.OpSyncDir} {
		state := vfs.NewCrashable(1)
		state.SetHook(func(at vfs.Op, _ string) error {
			if at == op {
				return errors.New("no space")
			}
			return nil
		})
		files, problems := bootSecrets(t, state, onBoot(oldSet))
		expectSet(t, oldSet, files, nil)
		if got := strings.Join(problems, "\n"); !strings.Contains(got, "keep the site secrets: ") {
			t.Errorf("%v: got problems %q, want that they cannot be kept", op, problems)
		}
	}
}

// A power cut while a new set is kept leaves a whole one, never a certificate
// of one and a key of the other.
func TestPowerCutWhileKeepingSecrets(t *testing.T) {
	outcome := map[string]int{}
	for seed := range uint64(300) {
		disk := vfs.NewCrashable(seed)
		bootSecrets(t, disk, onBoot(oldSet))
		disk = disk.Crash()
		ops, stop := 0, int(seed%14)
		disk.SetHook(func(vfs.Op, string) error {
			if ops++; ops > stop {
				return errors.New("the power is gone")
			}
			return nil
		})
		bootSecrets(t, disk, onBoot(newSet))
		disk.SetHook(nil)
		files, problems := bootSecrets(t, disk.Crash(), onBoot(nil))
		if len(problems) > 0 {
			t.Fatalf("seed %d: got problems %q, want none", seed, problems)
		}
		switch {
		case cmp.Equal(files, oldSet):
			outcome["old"]++
		case cmp.Equal(files, newSet):
			outcome["new"]++
		default:
			t.Fatalf("seed %d: got %q, want the old set or the new one", seed, slices.Collect(maps.Keys(files)))
		}
	}
	if outcome["old"] == 0 || outcome["new"] == 0 {
		t.Errorf("got only %v: the cuts did not fall on both sides", outcome)
	}
}

// full is a set of the most and largest files, that many more and larger.
func full(more, larger int) set {
	s := set{}
	for i := range MaxSecrets + more {
		s[fmt.Sprintf("%0*d", maxSecretName, i)] = bytes.Repeat([]byte("x"), MaxSecretSize+larger)
	}
	return s
}

func TestLargestSet(t *testing.T) {
	state := vfs.NewCrashable(1)
	bootSecrets(t, state, onBoot(full(0, 0)))
	files, problems := bootSecrets(t, state, onBoot(nil))
	expectSet(t, full(0, 0), files, problems)
}

// Whatever lies in the folder, the last good set stays in force.
func TestHostileSecrets(t *testing.T) {
	many := set{}
	for i := range 10_000 {
		many[fmt.Sprint(i)] = []byte(secretWord)
	}
	manyHidden := set{}
	for i := range 10_000 {
		manyHidden["."+fmt.Sprint(i)] = nil
	}
	with := func(name string, file *fstest.MapFile) fs.FS {
		m := onBoot(newSet)
		m[layout.ESPSecrets+"/"+name] = file
		return m
	}
	for name, c := range map[string]struct {
		boot fs.FS
		want string
	}{
		"10,000 files":        {onBoot(many), "wayside/secrets: more than 256 entries"},
		"10,000 hidden files": {onBoot(manyHidden), "wayside/secrets: more than 256 entries"},
		"a file too many":     {onBoot(full(1, 0)), "65 files, the most is 64"},
		"too large":           {onBoot(full(0, 1)), "has more than 65536 bytes"},
		"endless":             {named{"endless", 0}, "wayside/secrets/endless: has more than 65536 bytes"},
		"empty":               {with("users", &fstest.MapFile{}), "wayside/secrets/users: is empty"},
		"folder":              {with("ca/ca.pem", &fstest.MapFile{Data: []byte("x")}), `"ca" is not an ordinary file`},
		"link":                {with("key.pem", &fstest.MapFile{Data: []byte("../../etc/passwd"), Mode: fs.ModeSymlink}), `"key.pem" is not an ordinary file`},
		"pipe":                {named{"pipe", fs.ModeNamedPipe}, `"pipe" is not an ordinary file`},
		"device":              {named{"sda", fs.ModeDevice}, `"sda" is not an ordinary file`},
		"not a folder":        {fstest.MapFS{layout.ESPSecrets: {Data: []byte(secretWord)}}, "wayside/secrets: want a folder"},
		"path":                {named{"a/../../../etc/passwd", 0}, `file name "a/../../../etc/passwd"`},
		"absolute":            {named{"/etc/passwd", 0}, `file name "/etc/passwd"`},
		"backslash":           {named{`a\b`, 0}, `file name "a\\b"`},
		"escapes":             {named{"a\x1b[2J\nb", 0}, `file name "a\x1b[2J\nb"`},
		"nameless":            {named{"", 0}, `file name ""`},
		"no text":             {named{"\xff\x00", 0}, `file name "\xff\x00"`},
		"long":                {named{strings.Repeat("n", 5000), 0}, `file name "` + strings.Repeat("n", maxSecretName) + `"`},
		"unreadable file":     {broken{onBoot(newSet), "server.pem"}, "wayside/secrets/server.pem: bad sector"},
		"vanished file":       {broken{onBoot(newSet), "gone"}, "file does not exist"},
		"unreadable folder":   {broken{onBoot(newSet), ""}, "bad sector"},
		"panic":               {nil, "panic: "},
	} {
		t.Run(name, func(t *testing.T) {
			state := vfs.NewCrashable(1)
			bootSecrets(t, state, onBoot(oldSet))
			files, problems := bootSecrets(t, state, c.boot)
			expectSet(t, oldSet, files, nil)
			if len(problems) != 1 || !strings.HasPrefix(problems[0], "site secrets rejected: ") || !strings.Contains(problems[0], c.want) {
				t.Errorf("got problems %.300q, want one with %q", problems, c.want)
			}
			if len(problems) > 0 && len(problems[0]) > 300 {
				t.Errorf("got a message of %d bytes, want one for a line of the console", len(problems[0]))
			}
			if files, problems := bootSecrets(t, nil, c.boot); len(files) > 0 || len(problems) != 1 {
				t.Errorf("without a last set: got %d files and problems %.300q, want none and one", len(files), problems)
			}
		})
	}
}

// named is a boot partition whose folder holds one file without an end.
type named struct {
	name string
	mode fs.FileMode
}

func (n named) Open(name string) (fs.File, error) {
	return &namedFile{n, name == layout.ESPSecrets}, nil
}

type namedFile struct {
	named
	listing bool
}

func (f *namedFile) ReadDir(int) ([]fs.DirEntry, error) {
	if !f.listing {
		return nil, io.EOF
	}
	f.listing = false
	return []fs.DirEntry{f}, nil
}
func (f *namedFile) Name() string               { return f.name }
func (f *namedFile) IsDir() bool                { return false }
func (f *namedFile) Type() fs.FileMode          { return f.mode }
func (f *namedFile) Info() (fs.FileInfo, error) { return nil, errors.New("not asked for") }
func (f *namedFile) Stat() (fs.FileInfo, error) { return nil, errors.New("not asked for") }
func (f *namedFile) Read(p []byte) (int, error) { return len(p), nil }
func (f *namedFile) Close() error               { return nil }

// broken is a boot partition of which one file, or the folder, cannot be read.
// The file "gone" is listed and not there.
type broken struct {
	fstest.MapFS
	file string
}

func (b broken) Open(name string) (fs.File, error) {
	switch {
	case b.file == "gone" && name != layout.ESPSecrets:
		return nil, fs.ErrNotExist
	case name == filepath.Join(layout.ESPSecrets, b.file):
		return nil, errors.New("bad sector")
	}
	return b.MapFS.Open(name)
}

// The same on a real file system, where a link leads to a file that is there.
func TestReadSecretsFromDisk(t *testing.T) {
	dir := t.TempDir()
	folder := filepath.Join(dir, layout.ESPSecrets)
	must(t, os.MkdirAll(folder, 0o700))
	must(t, os.WriteFile(filepath.Join(folder, "users"), oldSet["users"], 0o600))
	files, err := ReadSecrets(os.DirFS(dir))
	if err != nil || !cmp.Equal(files, set{"users": oldSet["users"]}) {
		t.Fatalf("got %d files, %v, want users", len(files), err)
	}
	must(t, os.Symlink("/etc/passwd", filepath.Join(folder, "link")))
	if files, err := ReadSecrets(os.DirFS(dir)); err == nil || files != nil {
		t.Errorf("got %d files, %v, want the link refused", len(files), err)
	}
}

func TestBootPartitionThatHangsOverSecrets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		state := vfs.NewCrashable(1)
		bootSecrets(t, state, onBoot(oldSet))
		end := make(chan struct{})
		begin := time.Now()
		files, problems := LoadSecrets(SecretsConfig{
			State: state, Log: slog.New(slog.DiscardHandler),
			Boot: func() (map[string][]byte, error) { <-end; return newSet, nil },
		})
		expectSet(t, oldSet, files, nil)
		if len(problems) != 1 || time.Since(begin) != patience {
			t.Errorf("got problems %q after %v, want one after %v", problems, time.Since(begin), patience)
		}
		close(end)
		synctest.Wait()
	})
}

// What the state partition holds may be damaged: that is said, and none of it.
func TestDamagedKeptSecrets(t *testing.T) {
	for _, text := range []string{
		"", "null", secretWord, `{"version":2}`, `{"version":"` + secretWord + `"}`,
		`{"version":1,"files":{"../x":"AAAA"}}`, `{"version":1,"files":{"x":""}}`, `{"version":1,"files":{"x":"` + secretWord + `!"}}`,
	} {
		state := vfs.NewCrashable(1)
		must(t, vfs.WriteWhole(state, keptSecrets, []byte(text)))
		files, problems := bootSecrets(t, state, onBoot(nil))
		if len(files) > 0 || len(problems) != 1 || !strings.Contains(problems[0], "the last good site secrets are refused: ") {
			t.Errorf("%q: got %d files and problems %q, want none and one", text, len(files), problems)
		}
		files, problems = bootSecrets(t, state, onBoot(newSet))
		expectSet(t, newSet, files, problems)
	}
}

// FuzzKeptSecrets holds that what the state partition may hold after damage
// is a set within the bounds, or none.
func FuzzKeptSecrets(f *testing.F) {
	text, err := json.Marshal(kept{keptVersion, oldSet})
	if err != nil {
		f.Fatal(err)
	}
	for _, seed := range []string{
		string(text), "", "null", secretWord, `{"version":2}`, `{"version":1}`, `{"version":"` + secretWord + `"}`,
		`{"version":1,"files":{"../x":"AAAA"}}`, `{"version":1,"files":{"x":""}}`, `{"version":1,"files":{"x":"` + secretWord + `!"}}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		files, err := parseKept(text)
		if err != nil && files != nil {
			t.Errorf("got %d files and error %q", len(files), err)
		}
		if len(files) > MaxSecrets {
			t.Errorf("got %d files", len(files))
		}
		for name, data := range files {
			if !site.SecretName(name) || filepath.Base(name) != name || len(data) == 0 || len(data) > MaxSecretSize {
				t.Errorf("got file %q of %d bytes", name, len(data))
			}
		}
	})
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

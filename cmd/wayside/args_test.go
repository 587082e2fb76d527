package main

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// runCommand is the command line with nothing of this machine's around it:
// keys, cache and mirror lie in a folder of the test.
func runCommand(t *testing.T, args ...string) (stdout string, err error) {
	t.Helper()
	home := t.TempDir()
	t.Setenv("HOME", home)
	t.Setenv("XDG_CONFIG_HOME", "")
	t.Setenv("XDG_CACHE_HOME", "")
	cmd := newRootCmd()
	var out bytes.Buffer
	cmd.SetArgs(args)
	cmd.SetOut(&out)
	cmd.SetErr(io.Discard)
	err = cmd.ExecuteContext(t.Context())
	return out.String(), err
}

// TestMistakes wants every mistake on the command line named before anything
// is fetched, compiled or booted.
func TestMistakes(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, []byte("no image"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ args, want string }{
		{"biuld", `unknown command "biuld"`},
		{"keys int", `unknown command "int" for "wayside keys"`},
		{"host chek", `unknown command "chek" for "wayside host"`},
		{"site chek", `unknown command "chek" for "wayside site"`},
		{"build --bord x", "unknown flag: --bord; see wayside build --help"},
		{"build shop.yaml", `want flags only, got ["shop.yaml"]; see wayside build --help`},
		{"build --board nope -o " + dir, `no board "nope": the boards are `},
		{"build --site " + dir + "/nope.yaml -o " + dir, "read site profile: open"},
		{"build --version ../x -o " + dir, `release version "../x"`},
		{"build --epoch -1 -o " + dir, "release epoch -1"},
		{"build --enroll-keys=nope -o " + dir, `--enroll-keys=nope: it is one of ["manual" "if-safe" "force"]`},
		{"build --lock nope.json -o " + dir, "read package lock: open nope.json"},
		{"build -o " + file, "give -o DIR"},
		{"run --port-base 99999", "--port-base 99999: it is 0 for any free ports, or 1 to 65533"},
		{"run --port-base -5", "--port-base -5:"},
		{"run --timeout 0s", "--timeout 0s:"},
		{"run --memory -1", "--memory -1:"},
		{"inspect", "want one IMAGE or more, got []; see wayside inspect --help"},
		{"inspect " + file + " gone.img", "open gone.img"},
		{"inspect " + dir, "it is a folder"},
		{"inspect " + file, "disk of 8 bytes is too small"},
		{"inspect --cert nope.crt " + file, "read the signer's certificate: open nope.crt"},
		{"site check", "want one FILE or more, got []"},
		{"host check --for tests", `--for "tests": it is run or test`},
	} {
		t.Run(tt.args, func(t *testing.T) {
			_, err := runCommand(t, strings.Fields(tt.args)...)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got error %v, want %q", err, tt.want)
			}
		})
	}
}

func TestAGroupAloneShowsItsHelp(t *testing.T) {
	for _, name := range []string{"keys", "host", "site"} {
		out, err := runCommand(t, name)
		if err != nil || !strings.Contains(out, "Available Commands:") {
			t.Errorf("wayside %s: got %q, %v, want its help", name, out, err)
		}
	}
}

// TestCompletion asks as the scripts of wayside completion do.
func TestCompletion(t *testing.T) {
	for _, tt := range []struct{ args, want string }{
		{"build --board ", "raspberry-pi\n"},
		{"publish --board ", "raspberry-pi\n"},
		{"build --encryption ", "tpm\n"},
		{"build --enroll-keys=", "if-safe\n"},
		{"host check --for ", "test\n"},
		{"keys rotate ", "timestamp\n"},
	} {
		if out, err := runCommand(t, append([]string{"__complete"}, strings.Split(tt.args, " ")...)...); err != nil || !strings.Contains(out, tt.want) {
			t.Errorf("%s: got %q, %v, want %q among it", tt.args, out, err, tt.want)
		}
	}
}

func TestSourceDir(t *testing.T) {
	dir := t.TempDir()
	if _, err := sourceDir(t.Context(), dir); err == nil || !strings.Contains(err.Error(), dir+" is not in module "+modulePath) {
		t.Errorf("got error %v, want one that names the folder and the module", err)
	}
	t.Setenv("PATH", t.TempDir())
	if _, err := sourceDir(t.Context(), ""); err == nil || !strings.Contains(err.Error(), "install Go") {
		t.Errorf("got error %v, want one that says to install Go", err)
	}
}

package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/waysideos/wayside/services/site"
)

func TestSiteCheck(t *testing.T) {
	dir := t.TempDir()
	good := filepath.Join(dir, "good.yaml")
	bad := filepath.Join(dir, "bad.yaml")
	gone := filepath.Join(dir, "gone.yaml")
	writeSite(t, good, "version: 1\nsite: shop\n")
	writeSite(t, bad, "version: 1\nsiet: shop\n")
	badLines := bad + ":1:1: site: is missing\n" + bad + ":2:1: siet: unknown field (did you mean \"site\"?)\n"
	tests := []struct {
		name        string
		args        []string
		wrong       bool
		stdout, err string
	}{
		{"good", []string{"check", good}, false, good + ": ok, site shop\n", ""},
		{"bad", []string{"check", bad}, true, "", badLines},
		{"both", []string{"check", bad, good}, true, good + ": ok, site shop\n", badLines},
		{"gone", []string{"check", gone}, true, "", gone + ":1:1: cannot be read: no such file or directory\n"},
		{"good json", []string{"check", "--json", good}, false, "[]\n", ""},
		{"show bad", []string{"show", bad}, true, "", badLines},
		{"examples", []string{"check", "--json", "../../examples/shop.yaml", "../../examples/plant.yaml"}, false, "[]\n", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			stdout, stderr, err := runSite(tt.args...)
			var code exitCode
			if wrong := errors.As(err, &code) && code == 1; wrong != tt.wrong || (err != nil) != tt.wrong {
				t.Errorf("got error %v, want exit status 1: %v", err, tt.wrong)
			}
			if stdout != tt.stdout || stderr != tt.err {
				t.Errorf("got stdout %q, stderr %q\nwant %q, %q", stdout, stderr, tt.stdout, tt.err)
			}
		})
	}
}

func TestSiteCheckJSON(t *testing.T) {
	file := filepath.Join(t.TempDir(), "bad.yaml")
	writeSite(t, file, "version: 1\nsite: shop\nbrokr: {}\n")
	stdout, stderr, err := runSite("check", "--json", file)
	var got []site.FieldError
	if jerr := json.Unmarshal([]byte(stdout), &got); jerr != nil || err == nil || stderr != "" {
		t.Fatalf("got %q, %q, %v (%v)", stdout, stderr, err, jerr)
	}
	want := site.FieldError{File: file, Line: 3, Column: 1, Field: "brokr", Reason: "unknown field", Hint: "broker"}
	if len(got) != 1 || got[0] != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

func TestSiteShow(t *testing.T) {
	file := filepath.Join(t.TempDir(), "good.yaml")
	writeSite(t, file, "version: 1\nsite: shop\n")
	stdout, _, err := runSite("show", file)
	if err != nil || !strings.Contains(stdout, `listen: :9092`) {
		t.Errorf("got %q (%v), want the default broker.listen in it", stdout, err)
	}
	if _, err := site.Parse("shown", []byte(stdout)); err != nil {
		t.Errorf("what show prints is refused: %v", err)
	}
}

func runSite(args ...string) (stdout, stderr string, err error) {
	var out, errOut bytes.Buffer
	cmd := newSiteCmd()
	cmd.SilenceUsage, cmd.SilenceErrors = true, true
	cmd.SetOut(&out)
	cmd.SetErr(&errOut)
	cmd.SetArgs(args)
	err = cmd.Execute()
	return out.String(), errOut.String(), err
}

func writeSite(t *testing.T, file, text string) {
	t.Helper()
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

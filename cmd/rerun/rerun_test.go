package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
)

// said is what go test -json says of tests: "pkg Test pass|fail|stopped" each.
func said(tests ...string) string {
	var b strings.Builder
	packages := map[string]string{}
	for _, t := range tests {
		var pkg, name, how string
		fmt.Sscan(t, &pkg, &name, &how)
		if how == "stopped" {
			fmt.Fprintf(&b, `{"Action":"output","Package":%q,"Test":"%s/part","Output":"EMULATOR FAULT: QEMU\n"}`+"\n", pkg, name)
			how = "fail"
		}
		fmt.Fprintf(&b, `{"Action":"output","Package":%q,"Test":%q,"Output":"--- %s: %s\n"}`+"\n", pkg, name, strings.ToUpper(how), name)
		fmt.Fprintf(&b, `{"Action":%q,"Package":%q,"Test":%q}`+"\n", how, pkg, name)
		if packages[pkg] != "fail" {
			packages[pkg] = how
		}
	}
	for pkg, how := range packages {
		fmt.Fprintf(&b, `{"Action":%q,"Package":%q}`+"\n", how, pkg)
	}
	return b.String()
}

func TestRerun(t *testing.T) {
	for _, c := range []struct {
		name    string
		first   string
		second  string // "" if nothing may run again
		again   string // what runs again
		succeed bool
	}{
		{"all pass", said("a TestA pass", "b TestB pass"), "", "", true},
		{"one fails", said("a TestA pass", "b TestB fail"), "", "", false},
		{"one was stopped", said("a TestA pass", "b TestB stopped"), said("b TestB pass"), "-run ^TestB$ b", true},
		{"one was stopped, and fails then", said("b TestB stopped"), said("b TestB fail"), "-run ^TestB$ b", false},
		{"one was stopped, and is again", said("b TestB stopped"), said("b TestB stopped"), "-run ^TestB$ b", false},
		{"one was stopped, another failed", said("a TestA fail", "b TestB stopped"), "", "", false},
		{"one was stopped, another of the package failed", said("b TestA fail", "b TestB stopped"), "", "", false},
		{"three were stopped", said("a TestA stopped", "b TestB stopped", "b TestC stopped"), "", "", false},
		{"one was stopped, a package does not build", said("b TestB stopped") + `{"Action":"fail","Package":"c"}` + "\n", "", "", false},
		{"a package does not build", `{"Action":"build-output","ImportPath":"c","Output":"x.go:1\n"}` + "\n" + `{"Action":"fail","Package":"c"}` + "\n", "", "", false},
		{"what passed was stopped and went on", strings.Replace(said("b TestB stopped"), `"fail"`, `"pass"`, -1), "", "", true},
	} {
		var again []string
		runs := 0
		err := run(t.Context(), []string{"-v", "--", "./a", "./b"}, io.Discard, func(_ context.Context, args []string, to io.Writer) error {
			text := c.first
			if runs++; runs > 1 {
				text, again = c.second, append(again, strings.Join(args[1:], " "))
			}
			// As a pipe gives it: not in lines.
			for len(text) > 0 {
				n := min(7, len(text))
				io.WriteString(to, text[:n])
				text = text[n:]
			}
			if all := c.first; runs == 1 && strings.Contains(all, `"fail"`) || runs > 1 && strings.Contains(c.second, `"fail"`) {
				return errors.New("exit status 1")
			}
			return nil
		})
		if (err == nil) != c.succeed || strings.Join(again, ", ") != c.again {
			t.Errorf("%s: got %v and again %q; want success %v and %q", c.name, err, again, c.succeed, c.again)
		}
	}
}

// TestPrinted prints each package in one piece, and lines that are no events.
func TestPrinted(t *testing.T) {
	var b strings.Builder
	r := newReader(&b)
	io.WriteString(r, `{"Action":"output","Package":"a","Output":"a1\n"}
{"Action":"output","Package":"b","Output":"b1\n"}
go: downloading something
{"Action":"output","Package":"a","Output":"a2\n"}
{"Action":"pass","Package":"a"}
{"Action":"output","Package":"b","Output":"b2\n"}
and an end`)
	r.flush()
	if got, want := b.String(), "go: downloading something\na1\na2\nb1\nb2\nand an end"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

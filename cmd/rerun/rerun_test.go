package main

import (
	"context"
	"fmt"
	"io"
	"os/exec"
	"strings"
	"testing"
)

// said is what go test -json says of tests: "pkg Test pass|fail|stopped|revived"
// each, parts before what they are of. A package ends unless one of its tests
// hangs: "pkg Test hang".
func said(tests ...string) string {
	var b strings.Builder
	packages, hang := map[string]string{}, map[string]bool{}
	for _, t := range tests {
		var pkg, name, how string
		fmt.Sscan(t, &pkg, &name, &how)
		switch how {
		case "stopped", "revived":
			fmt.Fprintf(&b, `{"Action":"output","Package":%q,"Test":%q,"Output":"EMULATOR FAULT: QEMU\n"}`+"\n", pkg, name)
			how = map[string]string{"stopped": "fail", "revived": "pass"}[how]
		case "hang":
			fmt.Fprintf(&b, `{"Action":"output","Package":%q,"Test":%q,"Output":"panic: test timed out after 45m0s\n"}`+"\n", pkg, name)
			packages[pkg], hang[pkg] = "fail", true
			continue
		}
		fmt.Fprintf(&b, `{"Action":"output","Package":%q,"Test":%q,"Output":"--- %s: %s\n"}`+"\n", pkg, name, strings.ToUpper(how), name)
		fmt.Fprintf(&b, `{"Action":%q,"Package":%q,"Test":%q}`+"\n", how, pkg, name)
		if packages[pkg] != "fail" {
			packages[pkg] = how
		}
	}
	for pkg, how := range packages {
		if how == "fail" && !hang[pkg] {
			fmt.Fprintf(&b, `{"Action":"output","Package":%q,"Output":"FAIL\n"}`+"\n", pkg)
		}
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
		{"two were stopped, a third went on", said("a TestA revived", "b TestB stopped", "b TestC stopped"), "", "", false},
		{"a part was stopped", said("b TestB/one stopped", "b TestB fail"), said("b TestB pass"), "-run ^TestB$ b", true},
		{"a part was stopped, another failed", said("b TestB/one stopped", "b TestB/on fail", "b TestB fail"), "", "", false},
		{"parts fail of what was stopped", said("b TestB/one fail", "b TestB/two fail", "b TestB stopped"), said("b TestB pass"), "-run ^TestB$ b", true},
		{"a part went on, and the test fails", said("b TestB/one revived", "b TestB fail"), said("b TestB pass"), "-run ^TestB$ b", true},
		{"one was stopped, the next hangs until the package's deadline", said("b TestB stopped", "b TestC hang"), "", "", false},
		{"one was stopped, a package does not build", said("b TestB stopped") + `{"Action":"fail","Package":"c"}` + "\n", "", "", false},
		{"a package does not build", `{"Action":"build-output","ImportPath":"c","Output":"x.go:1\n"}` + "\n" + `{"Action":"fail","Package":"c"}` + "\n", "", "", false},
		{"what passed was stopped and went on", said("b TestB revived"), "", "", true},
	} {
		var again []string
		runs := 0
		err := run(t.Context(), []string{"-v", "--", "./a", "./b"}, io.Discard, func(_ context.Context, args []string, to io.Writer) error {
			text := c.first
			if runs++; runs > 1 {
				text, again = c.second, append(again, strings.Join(args[1:], " "))
			}
			failed := strings.Contains(text, `"fail"`)
			// As a pipe gives it: not in lines.
			for len(text) > 0 {
				n := min(7, len(text))
				io.WriteString(to, text[:n])
				text = text[n:]
			}
			if failed {
				return exec.Command("sh", "-c", "exit 1").Run()
			}
			return nil
		})
		if (err == nil) != c.succeed || strings.Join(again, ", ") != c.again {
			t.Errorf("%s: got %v and again %q; want success %v and %q", c.name, err, again, c.succeed, c.again)
		}
	}
}

// TestKilled runs nothing again when go was ended before it had told of all.
func TestKilled(t *testing.T) {
	runs := 0
	err := run(t.Context(), []string{"-v", "--", "./a", "./b"}, io.Discard, func(_ context.Context, _ []string, to io.Writer) error {
		if runs++; runs > 1 {
			return nil
		}
		io.WriteString(to, said("b TestB stopped"))
		return exec.Command("sh", "-c", "kill -9 $$").Run()
	})
	if err == nil || runs > 1 {
		t.Errorf("got %v after %d runs, want an error after one", err, runs)
	}
}

// TestPrinted prints each test that ends at once, each package in one piece, and
// lines that are no events.
func TestPrinted(t *testing.T) {
	var b strings.Builder
	r := newReader(&b)
	io.WriteString(r, `{"Action":"output","Package":"a","Output":"a1\n"}
{"Action":"output","Package":"b","Output":"b1\n"}
go: downloading something
{"Action":"output","Package":"a","Output":"a2\n"}
{"Action":"pass","Package":"x/b","Test":"TestB/part","Elapsed":1}
{"Action":"fail","Package":"x/b","Test":"TestB","Elapsed":11.6}
{"Action":"pass","Package":"a"}
{"Action":"output","Package":"b","Output":"b2\n"}
and an end`)
	r.flush()
	if got, want := b.String(), "go: downloading something\nfail: TestB of b, 12 s\na1\na2\nb1\nb2\nand an end"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

package slots

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParseEntry(t *testing.T) {
	for file, want := range map[string]string{
		"wayside-1.efi":        "wayside-1.efi -1 0",
		"wayside-1+3.efi":      "wayside-1.efi 3 0",
		"wayside-1+3-0.efi":    "wayside-1.efi 3 0",
		"wayside-1+2-1.EFI":    "wayside-1.EFI 2 1",
		"w-2+deb13+0-3.efi":    "w-2+deb13.efi 0 3",
		"w-2+deb13.efi":        "w-2+deb13.efi -1 0",
		"w+1-.efi":             "w+1-.efi -1 0",
		"w+99999999999.efi":    "w+99999999999.efi -1 0",
		"w+.efi":               "w+.efi -1 0",
		"wayside-1+3.efi.part": "",
		"readme":               "",
	} {
		got := ""
		if e, is := parseEntry(file); is {
			left := -1
			if e.Counted {
				left = e.Left
				// An older release wrote no -0.
				if again := counted(e.Base, e.Left, e.Done); !strings.EqualFold(again, file) && !strings.EqualFold(strings.Replace(again, "-0.efi", ".efi", 1), file) {
					t.Errorf("%s is written as %s", file, again)
				}
			}
			got = fmt.Sprintf("%s %d %d", e.Base, left, e.Done)
		}
		if got != want {
			t.Errorf("%s: got %q, want %q", file, got, want)
		}
	}
}

// From the examples of the Version Format Specification, lowest first.
func TestCompareVersions(t *testing.T) {
	order := []string{"~1", "", "ab", "abb", "abc", "0001", "002", "12", "122", "122.9", "123~rc1", "123", "123-a", "123-a.1",
		"123-a1", "123-a1.1", "123-3", "123-3.1", "123^patch1", "123^1", "123.a-1", "123.1-1", "123a-1", "124"}
	for i, a := range order {
		for j, b := range order {
			got := compareVersions(a, b)
			if want := i - j; (got < 0) != (want < 0) || (got > 0) != (want > 0) {
				t.Errorf("%q and %q: got %d, want the sign of %d", a, b, got, want)
			}
		}
	}
	if compareVersions("001", "1") != 0 || compareVersions("1_0", "1.0") == 0 {
		t.Error("leading zeros count, or foreign signs do not")
	}
}

// entry makes one of "FILE", "FILE:ORDER" or "FILE!" for a broken one.
func entry(word string) Entry {
	word, broken := strings.CutSuffix(word, "!")
	file, ver, _ := strings.Cut(word, ":")
	e, _ := parseEntry(file)
	e.Size = 100
	e.Image = Image{SortKey: "wayside", Order: ver, Version: strings.TrimSuffix(strings.TrimPrefix(e.Base, prefix), suffix)}
	if broken {
		e.Broken = "is no kernel image"
	}
	return e
}

func bootOf(running string, words ...string) *Boot {
	b := &Boot{Free: 50}
	for _, w := range words {
		b.Entries = append(b.Entries, entry(w))
	}
	b.sort()
	for i := range b.Entries {
		if b.Entries[i].File == running {
			b.Running = &b.Entries[i]
		}
	}
	return b
}

func show(plan []op) (out []string) {
	for _, o := range plan {
		out = append(out, strings.TrimSpace(fmt.Sprint(o.kind, " ", o.file, " ", o.to)))
	}
	return out
}

func TestPlanTry(t *testing.T) {
	for _, tc := range []struct {
		name string
		boot *Boot
		next string
		room int64
		want []string
		err  string
	}{
		{"upgrade", bootOf("wayside-1.efi", "wayside-1.efi:10"), "wayside-2+3-0.efi:20", 50, []string{"create wayside-2+3-0.efi"}, ""},
		{"over the one before", bootOf("wayside-2.efi", "wayside-1.efi:10", "wayside-2.efi:20"), "wayside-3+3-0.efi:30", 150,
			[]string{"remove wayside-1.efi", "create wayside-3+3-0.efi"}, ""},
		{"over a failed one", bootOf("wayside-1.efi", "wayside-1.efi:10", "wayside-3+0-3.efi:30"), "wayside-2+3-0.efi:20", 50,
			[]string{"remove wayside-3+0-3.efi", "create wayside-2+3-0.efi"}, ""},
		{"over what was cut short", bootOf("wayside-1.efi", "wayside-1.efi:10", "wayside-2+3-0.efi!"), "wayside-2+3-0.efi:20", 50,
			[]string{"remove wayside-2+3-0.efi", "create wayside-2+3-0.efi"}, ""},
		{"downgrade", bootOf("wayside-2.efi", "wayside-2.efi:20"), "wayside-1+3-0.efi:10", 50,
			[]string{"create wayside-1+3-0.efi", "rename wayside-2.efi wayside-2+0-0.efi"}, ""},
		{"equal counter, lower name", bootOf("wayside-b.efi", "wayside-b.efi:20"), "wayside-a+3-0.efi:20", 50,
			[]string{"create wayside-a+3-0.efi", "rename wayside-b.efi wayside-b+0-0.efi"}, ""},
		{"foreign files stay", bootOf("wayside-1.efi", "wayside-1.efi:10", "arch.efi:1"), "wayside-2+3-0.efi:20", 50, []string{"create wayside-2+3-0.efi"}, ""},
		{"full of foreign files", bootOf("wayside-1.efi", "wayside-1.efi:10", "arch.efi:1"), "wayside-2+3-0.efi:20", 60, nil, "arch.efi (100 bytes)"},
		{"a foreign one would start", bootOf("wayside-1.efi", "wayside-1.efi:10", "arch.efi:99"), "wayside-2+3-0.efi:20", 50, nil, "remove it"},
		{"a foreign one would start after a failed downgrade", bootOf("wayside-2.efi", "wayside-2.efi:20", "arch.efi:1"), "wayside-1+3-0.efi:10", 50, nil, "before version 2: remove it"},
		{"on trial itself", bootOf("wayside-1+2-1.efi", "wayside-1+2-1.efi:10"), "wayside-2+3-0.efi:20", 50, nil, "itself on trial"},
		{"the running one", bootOf("wayside-1.efi", "wayside-1.efi:10"), "wayside-1+3-0.efi:20", 50, nil, "the one that runs"},
		{"nobody knows what runs", bootOf("", "wayside-1.efi:10"), "wayside-2+3-0.efi:20", 50, nil, ErrNotKnown.Error()},
	} {
		plan, err := planTry(tc.boot, entry(tc.next), tc.room)
		if tc.err != "" {
			if err == nil || !strings.Contains(err.Error(), tc.err) {
				t.Errorf("%s: got %v, want an error with %q", tc.name, err, tc.err)
			}
			continue
		}
		if diff := cmp.Diff(tc.want, show(plan)); err != nil || diff != "" {
			t.Errorf("%s: %v (-want +got):\n%s", tc.name, err, diff)
		}
	}
}

func TestPlanSettle(t *testing.T) {
	for _, tc := range []struct {
		name    string
		boot    *Boot
		verdict Verdict
		want    []string
		err     error
	}{
		{"commit", bootOf("wayside-2+2-1.efi", "wayside-1.efi:1", "wayside-2+2-1.efi:2"), Good, []string{"rename wayside-2+2-1.efi wayside-2.efi"}, nil},
		{"commit again", bootOf("wayside-2.efi", "wayside-1.efi:1", "wayside-2.efi:2"), Good, nil, nil},
		{"commit over a leftover", bootOf("wayside-2+2-1.efi", "wayside-2.efi!", "wayside-2+2-1.efi:2"), Good, []string{"remove wayside-2.efi", "rename wayside-2+2-1.efi wayside-2.efi"}, nil},
		{"fail", bootOf("wayside-2+2-1.efi", "wayside-1.efi:1", "wayside-2+2-1.efi:2"), Bad, []string{"rename wayside-2+2-1.efi wayside-2+0-1.efi"}, nil},
		{"fail with nothing else", bootOf("wayside-2+2-1.efi", "wayside-1.efi!", "wayside-2+2-1.efi:2", "arch.efi:1"), Bad, nil, ErrNoOther},
		{"give back", bootOf("wayside-2+1-2.efi", "wayside-2+1-2.efi:2"), Again, []string{"rename wayside-2+1-2.efi wayside-2+2-1.efi"}, nil},
		{"give the first back", bootOf("wayside-2+2-1.efi", "wayside-2+2-1.efi:2"), Again, []string{"rename wayside-2+2-1.efi wayside-2+3-0.efi"}, nil},
		{"give back what was never counted", bootOf("wayside-2.efi", "wayside-2.efi:2"), Again, nil, nil},
		{"cancel", bootOf("wayside-1.efi", "wayside-1.efi:1", "wayside-2+3-0.efi:2"), Keep, []string{"remove wayside-2+3-0.efi"}, nil},
		{"cancel a downgrade", bootOf("wayside-2+0-0.efi", "wayside-2+0-0.efi:2", "wayside-1+3-0.efi:1"), Keep, []string{"rename wayside-2+0-0.efi wayside-2.efi", "remove wayside-1+3-0.efi"}, nil},
		{"nobody knows what runs", bootOf("", "wayside-2+2-1.efi:2"), Good, nil, ErrNotKnown},
	} {
		plan, err := planSettle(tc.boot, tc.verdict)
		if diff := cmp.Diff(tc.want, show(plan)); err != tc.err || diff != "" {
			t.Errorf("%s: %v, want %v (-want +got):\n%s", tc.name, err, tc.err, diff)
		}
	}
}

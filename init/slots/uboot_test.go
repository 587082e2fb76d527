package slots

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/waysideos/wayside/image/layout"
)

// slotBoot is a boot partition with both kernel images, or without those named.
func slotBoot(running int, r layout.BootRecord, broken ...int) *Boot {
	var found [2]*Entry
	for i, name := range layout.ESPSlots {
		found[i] = &Entry{File: name, Base: name, Image: Image{Version: fmt.Sprint(i)}}
	}
	for _, i := range broken {
		found[i].Broken = "is no kernel image"
	}
	b := &Boot{Entries: slotEntries(found, r)}
	for i := range b.Entries {
		if running >= 0 && b.Entries[i].File == layout.ESPSlots[running] {
			b.Running = &b.Entries[i]
		}
	}
	return b
}

// The order must be that of image/uboot/boot.cmd.
func TestSlotEntries(t *testing.T) {
	for _, c := range []struct {
		name   string
		r      layout.BootRecord
		broken []int
		want   string
	}{
		{"fresh", layout.BootRecord{Trial: layout.NoTrial}, nil, "a b"},
		{"the other is good", layout.BootRecord{Good: 1, Trial: layout.NoTrial}, nil, "b a"},
		{"on trial", layout.BootRecord{Trial: 1, Left: 2, Done: 1}, nil, "b+2-1 a"},
		{"out of tries", layout.BootRecord{Trial: 1, Done: 3}, nil, "a b+0-3"},
		{"on trial and good", layout.BootRecord{Good: 1, Trial: 1, Left: 3}, nil, "b a"},
		{"a broken trial", layout.BootRecord{Trial: 1, Left: 3}, []int{1}, "a b+3-0!"},
	} {
		var got []string
		for _, e := range slotBoot(-1, c.r, c.broken...).Entries {
			word := strings.TrimSuffix(strings.TrimPrefix(e.File, prefix), suffix)
			if e.Counted {
				word += fmt.Sprintf("+%d-%d", e.Left, e.Done)
			}
			if e.Broken != "" {
				word += "!"
			}
			got = append(got, word)
		}
		if strings.Join(got, " ") != c.want {
			t.Errorf("%s: got %q, want %q", c.name, got, c.want)
		}
	}
}

// What a release carries under a loader's name is looked at before it replaces
// the only one there is.
func TestLoaderFileIsOfItsKind(t *testing.T) {
	for _, tc := range []struct {
		name, content string
		want          bool
	}{
		{"boot.scr", "\x27\x05\x19\x56 script", true},
		{"boot.scr", "echo hello", false},
		{"u-boot.bin", "code U-Boot 2025.01 more", true},
		{"u-boot.bin", "MZ", false},
		{"EFI/BOOT/BOOTX64.EFI", "MZ", true},
		{"EFI/BOOT/BOOTX64.EFI", "", false},
	} {
		if got := (LoaderFile{Path: tc.name, Content: []byte(tc.content)}).sound(); got != tc.want {
			t.Errorf("%s with %q: got %v, want %v", tc.name, tc.content, got, tc.want)
		}
	}
}

func TestPlanRecord(t *testing.T) {
	onTrial := layout.BootRecord{Sequence: 5, Trial: 1, Left: 1, Done: 2}
	for _, c := range []struct {
		name    string
		running int
		r       layout.BootRecord
		broken  []int
		verdict Verdict
		want    layout.BootRecord
		err     error
	}{
		{"commit", 1, onTrial, nil, Good, layout.BootRecord{Sequence: 5, Good: 1, Trial: layout.NoTrial}, nil},
		{"fail", 1, onTrial, nil, Bad, layout.BootRecord{Sequence: 5, Trial: 1, Done: 2}, nil},
		{"fail before it was counted", 1, layout.BootRecord{Trial: 1, Left: 3}, nil, Bad, layout.BootRecord{Trial: 1, Done: 1}, nil},
		{"fail with nothing to go back to", 1, onTrial, []int{0}, Bad, onTrial, ErrNoOther},
		{"give back", 1, onTrial, nil, Again, layout.BootRecord{Sequence: 5, Trial: 1, Left: 2, Done: 1}, nil},
		{"give back what is not on trial", 0, onTrial, nil, Again, onTrial, nil},
		{"cancel", 0, onTrial, nil, Keep, layout.BootRecord{Sequence: 5, Trial: layout.NoTrial}, nil},
		{"the good one could not be started", 1, layout.BootRecord{Trial: layout.NoTrial}, []int{0}, Good, layout.BootRecord{Good: 1, Trial: layout.NoTrial}, nil},
		{"nobody knows what runs", -1, onTrial, nil, Good, onTrial, ErrNotKnown},
	} {
		got, err := planRecord(slotBoot(c.running, c.r, c.broken...), c.r, c.verdict)
		if diff := cmp.Diff(c.want, got); !errors.Is(err, c.err) || diff != "" {
			t.Errorf("%s: %v, want %v (-want +got):\n%s", c.name, err, c.err, diff)
		}
	}
}

package slots

import (
	"cmp"
	"slices"
	"strconv"
	"strings"
)

const (
	suffix = ".efi"
	prefix = "wayside-" // of what is ours: layout.UKIName
	// tries is how many boots the loader gives a version that nobody called
	// good.
	tries = 3
)

// Entry is a kernel image on the boot partition as systemd-boot sees it.
type Entry struct {
	File    string // name below EFI/Linux, "wayside-1.2.0+2-1.efi"
	Base    string // without the boot counter, "wayside-1.2.0.efi"
	Counted bool
	Left    int // tries that the loader still gives, if counted
	Done    int // tries used, if counted
	Size    int64
	Image   Image
	// Broken says why the loader passes over the file; "" if it does not.
	Broken string
}

// Ours says whether the entry may be removed and renamed by us.
func (e Entry) Ours() bool { return strings.HasPrefix(e.Base, prefix) }

// parseEntry reads a file's name as systemd-boot does (boot.c,
// boot_entry_parse_tries; Automatic Boot Assessment): a counter is what stands
// between the last "+" and the suffix, "LEFT" or "LEFT-DONE".
func parseEntry(file string) (Entry, bool) {
	stem, found := cutSuffixFold(file, suffix)
	if !found {
		return Entry{}, false
	}
	e := Entry{File: file, Base: file}
	plus := strings.LastIndexByte(stem, '+')
	if plus < 0 {
		return e, true
	}
	left, done, both := strings.Cut(stem[plus+1:], "-")
	l, okLeft := number(left)
	d, okDone := number(done)
	if !okLeft || both && !okDone {
		return e, true
	}
	e.Base, e.Counted, e.Left, e.Done = stem[:plus]+file[len(stem):], true, l, d
	return e, true
}

func cutSuffixFold(s, suffix string) (string, bool) {
	if len(s) < len(suffix) || !strings.EqualFold(s[len(s)-len(suffix):], suffix) {
		return s, false
	}
	return s[:len(s)-len(suffix)], true
}

func number(s string) (int, bool) {
	n, err := strconv.ParseUint(s, 10, 31)
	return int(n), err == nil
}

// counted is a base name with a counter, always of both numbers: as the loader
// counts, the name keeps its length. Firmware then writes the new name over the
// old one, into the one sector that holds it, and no power cut leaves both.
func counted(base string, left, done int) string {
	stem, _ := cutSuffixFold(base, suffix)
	return stem + "+" + strconv.Itoa(left) + "-" + strconv.Itoa(done) + base[len(stem):]
}

// order sorts entries as systemd-boot 257 does (boot.c, boot_entry_compare);
// the loader starts the first one. Those that it passes over are left out.
func order(entries []Entry) []Entry {
	out := slices.DeleteFunc(slices.Clone(entries), func(e Entry) bool { return e.Broken != "" })
	slices.SortStableFunc(out, compareEntries)
	return out
}

func compareEntries(a, b Entry) int {
	byTries := 0
	if a.Counted && b.Counted {
		byTries = cmp.Or(-cmp.Compare(a.Left, b.Left), cmp.Compare(a.Done, b.Done))
	}
	return cmp.Or(
		first(!a.bad(), !b.bad()),
		first(a.Image.SortKey != "", b.Image.SortKey != ""),
		strings.Compare(a.Image.SortKey, b.Image.SortKey),
		-compareVersions(a.Image.Order, b.Image.Order),
		-compareVersions(strings.ToLower(a.Base), strings.ToLower(b.Base)),
		byTries,
	)
}

// bad says that the loader has no tries left for it: it comes after all others.
func (e Entry) bad() bool { return e.Counted && e.Left == 0 }

// first orders what holds before what does not.
func first(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return -1
	}
	return 1
}

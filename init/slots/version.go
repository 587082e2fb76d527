package slots

import (
	"cmp"
	"strings"
)

// compareVersions is the UAPI group's Version Format Specification, as
// systemd's strverscmp_improved has it: the loader orders by it.
func compareVersions(a, b string) int {
	for {
		a, b = strings.TrimLeftFunc(a, notInVersions), strings.TrimLeftFunc(b, notInVersions)
		if c := cutBoth(&a, &b, '~'); c != 0 {
			return c
		}
		if a == "" || b == "" {
			return cmp.Compare(len(a), len(b))
		}
		for _, sign := range []byte("-^.") {
			if c := cutBoth(&a, &b, sign); c != 0 {
				return c
			}
		}
		if c := cutSegments(&a, &b); c != 0 {
			return c
		}
	}
}

// cutBoth takes a sign off both; whoever has it alone is the older.
func cutBoth(a, b *string, sign byte) int {
	inA, inB := *a != "" && (*a)[0] == sign, *b != "" && (*b)[0] == sign
	switch {
	case inA && inB:
		*a, *b = (*a)[1:], (*b)[1:]
	case inA:
		return -1
	case inB:
		return 1
	}
	return 0
}

// cutSegments compares the leading digits, or else the leading letters, and
// takes them off. Digits are newer than none.
func cutSegments(a, b *string) int {
	if leading(*a, isDigit) == "" && leading(*b, isDigit) == "" {
		x, y := leading(*a, isAlpha), leading(*b, isAlpha)
		*a, *b = (*a)[len(x):], (*b)[len(y):]
		return strings.Compare(x, y) // of equal beginnings the longer is newer
	}
	x, y := leading(*a, isDigit), leading(*b, isDigit)
	*a, *b = (*a)[len(x):], (*b)[len(y):]
	if x == "" || y == "" {
		return cmp.Compare(len(x), len(y))
	}
	x, y = strings.TrimLeft(x, "0"), strings.TrimLeft(y, "0")
	return cmp.Or(cmp.Compare(len(x), len(y)), strings.Compare(x, y))
}

func leading(s string, is func(byte) bool) string {
	n := 0
	for n < len(s) && is(s[n]) {
		n++
	}
	return s[:n]
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }
func isAlpha(c byte) bool { return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' }

func notInVersions(r rune) bool {
	return r > 0x7f || !isDigit(byte(r)) && !isAlpha(byte(r)) && !strings.ContainsRune("~-^.", r)
}

package site

import (
	"reflect"
	"slices"
	"strings"
)

// field is one field of a struct, as its yaml tag has it.
type field struct {
	index  int
	needed bool
}

func fieldsOf(t reflect.Type) map[string]field {
	fields := make(map[string]field, t.NumField())
	for i := range t.NumField() {
		name, opt, _ := strings.Cut(t.Field(i).Tag.Get("yaml"), ",")
		fields[name] = field{index: i, needed: opt != "omitempty"}
	}
	return fields
}

func join(path, name string) string {
	name = shorten(name)
	if path == "" {
		return name
	}
	return path + "." + name
}

func sortedList(words []string) string {
	slices.Sort(words)
	return strings.Join(words, ", ")
}

// nearest returns the word that is at most a third of its length in edits
// away from got, or "".
func nearest(got string, words []string) string {
	words = slices.Sorted(slices.Values(words))
	best, bestDist := "", 1+max(1, len(got)/3)
	if len(got) > 64 {
		return ""
	}
	for _, w := range words {
		if d := distance(strings.ToLower(got), strings.ToLower(w)); d < bestDist {
			best, bestDist = w, d
		}
	}
	return best
}

// distance is the number of letters to insert, drop, change or swap with
// their neighbour (optimal string alignment).
func distance(a, b string) int {
	prev2 := make([]int, len(b)+1)
	prev := make([]int, len(b)+1)
	for j := range prev {
		prev[j] = j
	}
	for i := 1; i <= len(a); i++ {
		cur := make([]int, len(b)+1)
		cur[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			cur[j] = min(prev[j]+1, cur[j-1]+1, prev[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				cur[j] = min(cur[j], prev2[j-2]+1)
			}
		}
		prev2, prev = prev, cur
	}
	return prev[len(b)]
}

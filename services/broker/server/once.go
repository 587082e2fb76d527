package server

import "slices"

// once drops repetitions, in place. What is asked for twice is answered once,
// or a request of some kilobytes would have an answer of a gigabyte. A nil
// slice, which often means all, stays nil.
func once[T any, K comparable](all []T, key func(*T) K) []T {
	if len(all) < 2 {
		return all
	}
	seen := make(map[K]bool, len(all))
	return slices.DeleteFunc(all, func(v T) bool {
		k := key(&v)
		had := seen[k]
		seen[k] = true
		return had
	})
}

// toldOf remembers which partitions an answer has told of: a topic may be named
// more than once, with other partitions each time.
type toldOf map[toldPart]bool

type toldPart struct {
	topic string
	num   int32
}

func (s toldOf) first(topic string, num int32) bool {
	p := toldPart{topic, num}
	had := s[p]
	s[p] = true
	return !had
}

// itself is the key of what is its own name.
func itself[T comparable](v *T) T { return *v }

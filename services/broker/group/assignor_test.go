package group

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/waysideos/wayside/services/broker/meta"
)

func topicOf(n byte, partitions int32) topic { return topic{meta.ID{n}, partitions} }

// counts is how many partitions of each topic everybody has.
func counts(out map[string]slots) map[string]map[byte]int {
	got := map[string]map[byte]int{}
	for id, s := range out {
		got[id] = map[byte]int{}
		for at := range s {
			got[id][at.topic[0]]++
		}
	}
	return got
}

func TestAssignors(t *testing.T) {
	a, b := topicOf(1, 3), topicOf(2, 3)
	both := []topic{a, b}
	for name, tt := range map[string]struct {
		assignor string
		subs     []subscriber
		want     map[string]map[byte]int
	}{
		"nobody":          {"uniform", nil, map[string]map[byte]int{}},
		"nothing":         {"uniform", []subscriber{{id: "x"}}, map[string]map[byte]int{"x": {}}},
		"one":             {"uniform", []subscriber{{id: "x", topics: both}}, map[string]map[byte]int{"x": {1: 3, 2: 3}}},
		"range of two":    {"range", []subscriber{{id: "y", topics: both}, {id: "x", topics: both}}, map[string]map[byte]int{"x": {1: 2, 2: 2}, "y": {1: 1, 2: 1}}},
		"range by name":   {"range", []subscriber{{id: "x", instance: "2", topics: both}, {id: "y", instance: "1", topics: both}}, map[string]map[byte]int{"y": {1: 2, 2: 2}, "x": {1: 1, 2: 1}}},
		"range of unlike": {"range", []subscriber{{id: "x", topics: both}, {id: "y", topics: []topic{b}}}, map[string]map[byte]int{"x": {1: 3, 2: 2}, "y": {2: 1}}},
		"uniform unlike":  {"uniform", []subscriber{{id: "x", topics: both}, {id: "y", topics: []topic{b}}}, map[string]map[byte]int{"x": {1: 3}, "y": {2: 3}}},
		"more than parts": {"uniform", []subscriber{{id: "x", topics: []topic{topicOf(3, 1)}}, {id: "y", topics: []topic{topicOf(3, 1)}}}, map[string]map[byte]int{"x": {3: 1}, "y": {}}},
	} {
		if diff := cmp.Diff(tt.want, counts(assignors[tt.assignor](tt.subs))); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

// TestAssignorsAtRandom: every partition has exactly one owner who subscribes
// to it; uniform is even where it can be, and moves no more than it must when
// one member comes or goes.
func TestAssignorsAtRandom(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for round := range 300 {
		alike := round%2 == 0
		all := make([]topic, 1+rng.IntN(6))
		for i := range all {
			all[i] = topicOf(byte(i+1), int32(1+rng.IntN(12)))
		}
		var subs []subscriber
		for i := range 1 + rng.IntN(8) {
			s := subscriber{id: fmt.Sprint("m", i)}
			for _, t := range all {
				if alike || rng.IntN(2) == 0 {
					s.topics = append(s.topics, t)
				}
			}
			subs = append(subs, s)
		}
		var before map[string]slots
		for step := range 3 {
			for name, assign := range assignors {
				out := assign(subs)
				checkWhole(t, name, subs, out)
				if name != "uniform" {
					continue
				}
				if alike {
					checkEven(t, out)
				}
				if moved := moves(before, out); alike && step > 0 && moved > most(out)+most(before) {
					t.Errorf("%d partitions moved, at most %d would do: %v to %v", moved, most(out)+most(before), counts(before), counts(out))
				}
				before = out
			}
			for i := range subs {
				subs[i].had = before[subs[i].id]
			}
			if step == 0 {
				subs = append(subs, subscriber{id: "new", topics: subs[0].topics})
			} else if len(subs) > 1 {
				subs = subs[1:]
			}
		}
	}
}

func checkWhole(t *testing.T, name string, subs []subscriber, out map[string]slots) {
	t.Helper()
	wanted, owner := slots{}, map[slot]string{}
	may := map[string]slots{}
	for _, s := range subs {
		may[s.id] = slots{}
		for _, tp := range s.topics {
			for p := range tp.partitions {
				wanted[slot{tp.id, p}], may[s.id][slot{tp.id, p}] = 0, 0
			}
		}
	}
	for id, has := range out {
		for at := range has {
			if other, taken := owner[at]; taken {
				t.Errorf("%s: %v is with %s and %s", name, at, id, other)
			}
			if _, ok := may[id][at]; !ok {
				t.Errorf("%s: %s has %v and does not subscribe to it", name, id, at)
			}
			owner[at] = id
		}
	}
	if len(owner) != len(wanted) || len(out) != len(subs) {
		t.Errorf("%s: %d of %d partitions are with %d of %d members", name, len(owner), len(wanted), len(out), len(subs))
	}
}

func checkEven(t *testing.T, out map[string]slots) {
	t.Helper()
	least, most := 1<<30, 0
	for _, has := range out {
		least, most = min(least, len(has)), max(most, len(has))
	}
	if most-least > 1 {
		t.Errorf("from %d to %d partitions: %v", least, most, counts(out))
	}
}

func moves(before, after map[string]slots) (n int) {
	for id, has := range after {
		for at := range has {
			for other, had := range before {
				if _, ok := had[at]; ok && other != id {
					n++
				}
			}
		}
	}
	return n
}

func most(out map[string]slots) (n int) {
	for _, has := range out {
		n = max(n, len(has))
	}
	return n
}

// TestBalanceIsBounded: a hostile mix of subscriptions does not hold everybody
// else up for long.
func TestBalanceIsBounded(t *testing.T) {
	var subs []subscriber
	for i := range 300 {
		s := subscriber{id: fmt.Sprint(i)}
		for n := range byte(100) {
			if i == 0 || n%byte(i%7+2) == 0 {
				s.topics = append(s.topics, topicOf(n+1, 50))
			}
		}
		subs = append(subs, s)
	}
	checkWhole(t, "uniform", subs, uniform(subs))
}

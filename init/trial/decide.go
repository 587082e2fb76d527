package trial

import (
	"strings"

	"github.com/waysideos/wayside/init/slots"
)

// tri is a condition of a rule: any, or one of two.
type tri int

const (
	either tri = iota
	yes
	no
)

func (t tri) fits(is bool) bool { return t == either || (t == yes) == is }

// seat is where the pending version's kernel image stands with the loader.
type seat string

const (
	anywhere seat = ""
	absent   seat = "absent"
	next     seat = "next"   // will be started next
	behind   seat = "behind" // has tries left, or needs none, but another goes first
	out      seat = "out"    // no tries left
)

// situation is what a boot finds.
type situation struct {
	told    bool // the loader's words say which entry runs
	counted bool // the running entry has a boot counter
	known   bool // what runs is the version that was committed last
	refused bool // what runs is a version that failed
	pending bool // a version is pending
	runs    bool // and it is the one that runs
	verdict bool // and was failed
	traces  bool // and has been seen by init before
	seat    seat // and its kernel image is there
}

func see(r *Record, b *slots.Boot, running Release) situation {
	s := situation{
		told: b.Running != nil, counted: b.Running != nil && b.Running.Counted,
		known: same(r.Committed.RootHash, running.RootHash), pending: r.Pending != nil,
	}
	for _, f := range r.Failed {
		s.refused = s.refused || same(f.RootHash, running.RootHash)
	}
	if r.Pending == nil {
		return s
	}
	s.runs, s.verdict, s.traces = same(r.Pending.RootHash, running.RootHash), r.Pending.Verdict != nil, len(r.Pending.Boots) > 0
	switch e := b.Find(r.Pending.RootHash); {
	case e == nil || e.Broken != "":
		s.seat = absent
	case e.Counted && e.Left == 0:
		s.seat = out
	case b.Next() != nil && b.Next().File == e.File:
		s.seat = next
	default:
		s.seat = behind
	}
	return s
}

func same(a, b string) bool { return a != "" && strings.EqualFold(a, b) }

// step is what follows from a situation.
type step string

const (
	rest      step = "rest"      // nothing to do: the loader's words are not known
	adopt     step = "adopt"     // the running version is the committed one
	tryOn     step = "try"       // a trial runs: the window begins
	committed step = "committed" // the loader was told, the record was not
	restore   step = "restore"   // take back the mark that let a lower version go first
	await     step = "await"     // the pending version comes at the next boot
	drop      step = "drop"      // the activation was cut short: as if never asked
	failed    step = "failed"    // the trial is over
	sink      step = "sink"      // it was failed, and must not run: tell the loader, start over
)

// rules is the state machine: the first that fits a situation decides.
var rules = []struct {
	told, counted, known, refused, pending, runs, verdict, traces tri
	seat                                                          seat
	step                                                          step
	why                                                           string
}{
	{told: no, step: rest, why: "a kernel that was started without the loader"},
	{pending: yes, runs: yes, counted: no, step: committed, why: "power went between the loader's rename and the record"},
	{pending: yes, runs: yes, verdict: yes, step: sink, why: "power went between the record and the loader's rename"},
	{pending: yes, runs: yes, step: tryOn, why: "the trial's boot"},
	{pending: yes, verdict: yes, step: failed, why: "it said so itself, or init for it"},
	{pending: yes, seat: out, step: failed, why: "the loader gave up on it"},
	{pending: yes, seat: absent, traces: yes, step: failed, why: "it ran, and its kernel image is gone"},
	{pending: yes, seat: absent, step: drop, why: "power went before its kernel image was there"},
	{pending: yes, seat: next, step: await, why: "activated; this boot was of the old version by somebody's choice, or it was not started anew yet"},
	{pending: yes, seat: behind, traces: yes, step: failed, why: "it ran, and no longer comes first"},
	{pending: yes, seat: behind, step: drop, why: "power went before the running version stepped back for it"},
	{counted: yes, refused: yes, step: sink, why: "failed, and started all the same"},
	{counted: yes, known: yes, step: restore, why: "it stepped back for a lower version, whose trial is over"},
	{counted: yes, step: tryOn, why: "a trial of which the state partition knows nothing"},
	{counted: no, step: adopt, why: "every ordinary boot"},
}

func decide(s situation) (step, string) {
	for _, r := range rules {
		if r.told.fits(s.told) && r.counted.fits(s.counted) && r.known.fits(s.known) && r.refused.fits(s.refused) &&
			r.pending.fits(s.pending) && r.runs.fits(s.runs) && r.verdict.fits(s.verdict) && r.traces.fits(s.traces) &&
			(r.seat == anywhere || r.seat == s.seat) {
			return r.step, r.why
		}
	}
	return rest, "no rule"
}

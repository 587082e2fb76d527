package update

import (
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/waysideos/wayside/image/layout"
	"github.com/waysideos/wayside/init/disktest"
	"github.com/waysideos/wayside/init/fat"
)

var (
	seed = flag.Uint64("seed", uint64(time.Now().UnixNano()), "decides what power cuts leave")
	deep = flag.Int("seeds", 2, "power cuts at each write; but for the first, the power goes once more while the box recovers")
)

// scenario is one update and what must come of it.
type scenario struct {
	name    string
	old     *release
	new     *release
	uboot   bool
	crowded bool
	permit  bool // to go back
}

func scenarios(t testing.TB) []scenario {
	var out []scenario
	for _, does := range []conduct{works, panics, stops, unhealthy, unstarted, rebooting} {
		for _, where := range []struct {
			name           string
			uboot, crowded bool
		}{{"systemd-boot", false, false}, {"systemd-boot, crowded", false, true}, {"U-Boot", true, false}} {
			name := fmt.Sprintf("%s/%s", does, where.name)
			out = append(out,
				scenario{"up/" + name, makeRelease(t, "1.0", 10, 1, works), makeRelease(t, "2.0-with-a-name-that-takes-several-slots", 20, 2, does), where.uboot, where.crowded, false},
				scenario{"down/" + name, makeRelease(t, "2.0", 20, 1, works), makeRelease(t, "1.0", 10, 1, does), where.uboot, where.crowded, true},
			)
		}
	}
	return out
}

// TestPowerCuts cuts the power at every write and flush of a whole update, and
// of what comes after: the slot, the kernel image, the names, the record, the
// loader's counting, the commit or the way back.
func TestPowerCuts(t *testing.T) {
	t.Logf("seed %d", *seed)
	total := 0
	for _, s := range scenarios(t) {
		t.Run(s.name, func(t *testing.T) {
			cases, cuts := 0, 0
			base := shipped(t, s.old, s.uboot, s.crowded, s.new)
			for cut := 1; ; cut++ {
				done := false
				for n := range *deep {
					rng := rand.New(rand.NewPCG(*seed, uint64(cut*1000+n)))
					if done = s.run(t, base.another(), cut, rng, n > 0); t.Failed() {
						return
					}
					if done {
						break
					}
					cases++
				}
				if done {
					break
				}
				cuts = cut
			}
			t.Logf("%d writes and flushes, %d cases", cuts, cases)
			total += cases
		})
	}
	t.Logf("%d power cuts, each ends on the old version or the new one", total)
}

// run cuts at one event, and perhaps once more while the box recovers. It says
// whether the update was over before the event came.
func (s scenario) run(t *testing.T, b *box, cut int, rng *rand.Rand, twice bool) (over bool) {
	t.Helper()
	b.powered(&disktest.Meter{CutAt: cut})
	err := b.update(s.new, s.permit)
	if !b.meter.Cut() {
		b.powered(nil)
		if why := s.judge(t, b, err); why != "" {
			t.Errorf("without a power cut: %s\n%s", why, strings.Join(b.story, "\n"))
		}
		return true
	}
	b.say("power cut at event %d", cut)
	b = b.after(rng)
	if twice {
		m := &disktest.Meter{CutAt: 1 + rng.IntN(30)}
		b.powered(m)
		if b.settle(); m.Cut() {
			b.say("power cut at event %d of the recovery", m.CutAt)
			b = b.after(rng)
		}
		b.powered(nil)
	}
	if why := s.judge(t, b, b.settle()); why != "" {
		t.Errorf("cut at event %d (seed %d): %s\n%s", cut, *seed, why, strings.Join(b.story, "\n"))
	}
	return false
}

// judge looks at a box that has come to rest.
func (s scenario) judge(t *testing.T, b *box, err error) string {
	if err != nil {
		return err.Error()
	}
	said := b.keeper.Slots()
	isNew := b.runs == s.new
	good := s.new.does == works || s.new.does == rebooting
	switch {
	case !isNew && b.runs != s.old:
		return "runs " + b.runs.version
	case isNew && !good:
		return "the bad version was committed"
	case isNew && (said.Last == nil || !said.Last.Committed || said.Last.Version != s.new.version):
		return fmt.Sprintf("runs the new version and says %+v", said.Last)
	case isNew && said.Floor != s.new.counter:
		return fmt.Sprintf("floor %d with the new version committed", said.Floor)
	case !isNew && said.Floor != s.old.counter:
		return fmt.Sprintf("floor %d with the old version", said.Floor)
	case !isNew && good && len(said.Failed) != 0:
		return fmt.Sprintf("a good version is called failed for one power cut: %+v", said.Failed)
	case !isNew && len(said.Failed) == 1 && (said.Failed[0].Reason == "" || said.Failed[0].Version != s.new.version || said.Last == nil):
		return fmt.Sprintf("failed without a reason: %+v", said.Failed)
	case !isNew && b.level > s.old.level:
		return fmt.Sprintf("services wrote format level %d, the old version reads %d", b.level, s.old.level)
	case len(said.Problems) != 0:
		return fmt.Sprintf("problems %q", said.Problems)
	}
	if why := sound(b); why != "" {
		return why
	}
	// It takes the next update as if nothing had been.
	next := makeRelease(t, "3.0", 30, 2, works)
	b.all[next.hash()] = next
	if err := b.update(next, false); err != nil {
		return "the next update: " + err.Error()
	}
	if b.runs != next {
		return "the next update ends on " + b.runs.version
	}
	return sound(b)
}

// sound has the boot partition checked.
func sound(b *box) string {
	v, err := fat.Open(b.esp, b.esp.Size)
	if err != nil {
		return err.Error()
	}
	twins, err := v.Twins(layout.ESPUKIDir)
	if err == nil && len(twins) > 0 {
		return "" // told apart at the next change
	}
	if _, e := v.Reclaim(); e != nil || err != nil {
		return errors.Join(err, e).Error()
	}
	return ""
}

// TestLyingDisks is the control: where flushes do nothing, some power cut must
// leave a box that does not start, or the other tests would not notice a
// missing flush.
func TestLyingDisks(t *testing.T) {
	for _, uboot := range []bool{false, true} {
		t.Run(fmt.Sprintf("U-Boot=%v", uboot), func(t *testing.T) { lieToOne(t, uboot) })
	}
}

func lieToOne(t *testing.T, uboot bool) {
	s := scenarios(t)[0]
	base := shipped(t, s.old, uboot, false, s.new)
	broken := 0
	for cut := 1; cut < 400; cut++ {
		b := base.another().lying()
		b.powered(&disktest.Meter{CutAt: cut})
		b.update(s.new, false)
		if !b.meter.Cut() {
			break
		}
		b = b.after(rand.New(rand.NewPCG(7, uint64(cut))))
		if s.judge(t, b, b.settle()) != "" {
			broken++
		}
	}
	if broken == 0 {
		t.Error("nothing breaks on disks that never flush")
	}
	t.Logf("%d power cuts of lying disks noticed", broken)
}

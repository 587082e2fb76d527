package qemu

import (
	"os"
	"strings"
	"testing"
)

// TestDeadTimer goes by the console of a machine that was seen to stop so, and
// by ones that only look alike.
func TestDeadTimer(t *testing.T) {
	b, err := os.ReadFile("testdata/dead-timer.txt")
	if err != nil {
		t.Fatal(err)
	}
	seen := string(b)
	second := strings.LastIndex(seen, stallReport)
	otherwise := func(old, new string) string {
		t.Helper()
		if !strings.Contains(seen[second:], old) {
			t.Fatalf("the second report does not hold %q", old)
		}
		return seen[:second] + strings.ReplaceAll(seen[second:], old, new)
	}
	for _, c := range []struct {
		name    string
		console string
		want    bool
	}{
		{"seen", seen, true},
		{"seen, CRLF", strings.ReplaceAll(seen, "\n", "\r\n"), true},
		{"one report", seen[:second], false},
		{"the second not yet whole", seen[:strings.LastIndex(seen, "timer-softirq=")], false},
		{"late: a timer was seen to in between", otherwise("timer-softirq=5", "timer-softirq=6"), false},
		{"late: RCU was seen to in between", otherwise("softirq=14/14", "softirq=14/15"), false},
		{"a tick came", otherwise("(0 ticks this GP)", "(1 ticks this GP)"), false},
		{"a program runs there", otherwise("PID: 0 Comm: swapper/1", "PID: 71 Comm: waysided"), false},
		{"it runs in the kernel", otherwise("pv_native_safe_halt", "queued_spin_lock_slowpath"), false},
		{"no answer to the NMI", otherwise("NMI backtrace for cpu 1", "rcu: Stack dump"), false},
		{"its timer is not overdue", otherwise("kthread timer wakeup didn't happen", "kthread starved"), false},
		{"another processor's timer", otherwise("on cpu=1", "on cpu=0"), false},
		{"another processor in the second", otherwise("1-...!", "0-...!"), false},
		{"it started over in between", seen[:second] + "EFI stub: Loaded initrd\n" + seen[second:], false},
		{"nothing", "", false},
	} {
		v := &VM{cfg: Config{Accel: "tcg"}, console: NewConsole(nil)}
		v.console.Write([]byte(c.console))
		cpu, dead := v.DeadTimer(t.Context())
		if dead != c.want || dead && cpu != 1 {
			t.Errorf("%s: got processor %d, %v; want %v", c.name, cpu, dead, c.want)
		}
	}
}

// TestDeadTimerOfThisRun forgets what was said before the machine was switched
// on, and knows that a real processor loses no timer.
func TestDeadTimerOfThisRun(t *testing.T) {
	b, err := os.ReadFile("testdata/dead-timer.txt")
	if err != nil {
		t.Fatal(err)
	}
	v := &VM{cfg: Config{Accel: "tcg"}, console: NewConsole(nil)}
	v.console.Write(b)
	v.bootAt = len(v.console.Text())
	if cpu, dead := v.DeadTimer(t.Context()); dead {
		t.Errorf("of the run before: got processor %d", cpu)
	}
	v.bootAt, v.cfg.Accel = 0, "kvm"
	if cpu, dead := v.DeadTimer(t.Context()); dead {
		t.Errorf("under KVM: got processor %d", cpu)
	}
}

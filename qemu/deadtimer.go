package qemu

import (
	"context"
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

// EmulatorFault begins what a test's log says of a machine that its emulator
// has stopped: cmd/rerun runs such a test once more.
const EmulatorFault = "EMULATOR FAULT"

// DeadTimer says whether the emulator has stopped the timer of one of the
// guest's processors for good, and of which. QEMU 10.0.2 does so once in some
// thousands of boots. It goes by what the guest's kernel has said since the
// machine was switched on and, where that is of one processor and can say
// nothing any more, by what QEMU says of it, for which it takes some seconds.
// It is false where processors are not emulated. Nothing but a power cycle
// helps.
func (v *VM) DeadTimer(ctx context.Context) (cpu int, dead bool) {
	if v.cfg.Accel != "tcg" {
		return 0, false
	}
	v.mu.Lock()
	from := v.bootAt
	v.mu.Unlock()
	if cpu, dead := deadTimer(v.console.Text()[from:]); dead {
		return cpu, true
	}
	return v.overslept(ctx)
}

// LocalAPIC is what QEMU says of an x86 processor's interrupt controller: its
// timer, what is pending (IRR) and what has not been ended (ISR).
func (v *VM) LocalAPIC(ctx context.Context, cpu int) (text string, err error) {
	ctx, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	err = v.QMP(ctx, "human-monitor-command", map[string]any{"command-line": fmt.Sprintf("info lapic %d", cpu)}, &text)
	return text, err
}

const stallReport = "rcu: INFO: rcu_preempt detected stalls on CPUs/tasks:"

// idleStall is one report of the kernel's stall detector, behind its first
// line, about a processor that has seen no tick, that waits for an interrupt in
// its idle task when it is asked by an NMI, and whose timer should have woken a
// thread long ago. Groups: the processor, how often it has seen to RCU, the
// processor three times more, how often it has seen to timers.
var idleStall = regexp.MustCompile(`(?s)^[^\n]*\n[^\n]*rcu: \t(\d+)-\S*: \(0 ticks this GP\) [^\n]* softirq=(\d+/\d+) ` +
	`.*?\bNMI backtrace for cpu (\d+)\n[^\n]* PID: 0 [^\n]*Comm: swapper/(\d+) ` +
	`.*?RIP: 0010:pv_native_safe_halt\+` +
	`.*?kthread timer wakeup didn't happen for \d+ jiffies!` +
	`.*?Possible timer handling issue on cpu=(\d+) timer-softirq=(\d+)\n`)

// deadTimer wants two such reports in a row of which the second says in no
// word that the processor has moved since; the kernel leaves twenty seconds
// between them. One that a program keeps busy, that is stuck with interrupts
// off, or that is only late is told otherwise.
func deadTimer(console string) (cpu int, dead bool) {
	reports := strings.Split(console, stallReport)
	var last []string
	for _, r := range reports[1:] {
		m := idleStall.FindStringSubmatch(r)
		if m == nil || m[1] != m[3] || m[1] != m[4] || m[1] != m[5] {
			last = nil
			continue
		}
		if last != nil && m[1] == last[1] && m[2] == last[2] && m[6] == last[6] {
			cpu, err := strconv.Atoi(m[1])
			return cpu, err == nil
		}
		last = m
		if strings.Contains(r, "EFI stub:") { // the machine started over behind it
			last = nil
		}
	}
	return 0, false
}

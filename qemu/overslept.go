package qemu

import (
	"context"
	"errors"
	"regexp"
	"strconv"
	"strings"
	"time"
)

const (
	// lookApart is how far two looks at a processor are apart at least.
	lookApart = time.Second
	// looks is how many in a row have to find it asleep in the same state: the
	// moment between the end of a timer and its interrupt is microseconds.
	looks = 5
	// answerTime is how long a look may take: QEMU itself may hang, and whoever
	// waits for the machine has a deadline of their own.
	answerTime = 5 * time.Second
)

// sleep is a processor that waits for an interrupt although its timer has run
// out, as it was found in every look since the first.
type sleep struct {
	state string
	times int
}

// overslept looks at the machine's processors, if the last look is a while ago,
// and again for as long as one of them may have overslept: it has to be known
// before the guest's watchdog resets the machine.
func (v *VM) overslept(ctx context.Context) (cpu int, dead bool) {
	if v.cfg.Board.Arch != "amd64" || time.Since(v.looked) < lookApart {
		return 0, false
	}
	seen := make([]sleep, v.cfg.SMP)
	for {
		v.looked = time.Now()
		longest, err := v.look(ctx, seen)
		switch {
		case err != nil || seen[longest].times == 0:
			return 0, false
		case seen[longest].times >= looks:
			return longest, true
		}
		select {
		case <-time.After(lookApart):
		case <-ctx.Done():
			return 0, false
		}
	}
}

// look counts one more look at each processor, and returns which of them has
// slept for most of them. An error is that the machine is off, hangs, or was
// paused.
func (v *VM) look(ctx context.Context, seen []sleep) (longest int, err error) {
	ctx, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	var machine struct {
		Running bool `json:"running"`
	}
	if err := v.QMP(ctx, "query-status", nil, &machine); err != nil {
		return 0, err
	}
	if !machine.Running {
		return 0, errors.New("the machine is paused")
	}
	for cpu := range seen {
		var registers string
		err := v.QMP(ctx, "human-monitor-command", map[string]any{"command-line": "info registers", "cpu-index": cpu}, &registers)
		if err != nil {
			return 0, err
		}
		apic, err := v.LocalAPIC(ctx, cpu)
		if err != nil {
			return 0, err
		}
		if seen[cpu] = seen[cpu].again(registers, apic); seen[cpu].times > seen[longest].times {
			longest = cpu
		}
	}
	return longest, nil
}

var (
	flags       = regexp.MustCompile(`\b[RE]FL=([0-9a-f]{8}) `)
	timerVector = regexp.MustCompile(`(?m)^LVTT\s+0x([0-9a-f]{8}) `)
	timerCount  = regexp.MustCompile(`initial_count = (\d+) current_count = (\d+)\b`)
)

// again counts one more look. A kernel that means to sleep without a timer
// masks it, and one that has a timer does not leave it run out; a processor
// that does anything at all sets its timer again. One that has ended, in a panic
// or on purpose, waits with interrupts off.
func (s sleep) again(registers, apic string) sleep {
	flags, vector, count := flags.FindStringSubmatch(registers), timerVector.FindStringSubmatch(apic), timerCount.FindStringSubmatch(apic)
	if flags == nil || vector == nil || count == nil || !strings.Contains(registers, " HLT=1") {
		return sleep{}
	}
	const interrupts = 1 << 9          // Intel SDM, volume 1, "EFLAGS Register"
	const masked, oneShot = 1 << 16, 0 // volume 3A, "Local Vector Table"
	eflags, err1 := strconv.ParseUint(flags[1], 16, 32)
	lvt, err2 := strconv.ParseUint(vector[1], 16, 32)
	if err1 != nil || err2 != nil || eflags&interrupts == 0 || lvt&masked != 0 || lvt>>17&3 != oneShot || count[1] == "0" || count[2] != "0" {
		return sleep{}
	}
	if apic != s.state {
		return sleep{state: apic, times: 1}
	}
	s.times++
	return s
}

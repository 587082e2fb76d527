package replication

import (
	"context"
	"math/rand/v2"
	"syscall"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/waysideos/wayside/test/harness"
)

// faults does harm.
type faults struct {
	rnd             *rand.Rand
	up              uplink
	replicator, box *service
	centre          func()
	counts          map[string]int
}

// faultKinds are those of the long form, as often as they are named.
var faultKinds = []string{"cut", "stall", "reset", "reset", "slow", "latency", "kill", "kill", "stop", "kill box", "kill centre", "kill in commit"}

// do does one thing, heals it and waits a moment.
func (f *faults) do(ctx context.Context, kind string) {
	f.counts[kind]++
	pause := time.Duration(200+f.rnd.IntN(2000)) * time.Millisecond
	switch kind {
	case "cut":
		f.up.each((*harness.Proxy).Cut)
		sleep(ctx, pause)
	case "stall":
		f.up.each((*harness.Proxy).Stall)
		sleep(ctx, pause)
	case "reset":
		for range 1 + f.rnd.IntN(5) {
			f.up.each((*harness.Proxy).Reset)
			sleep(ctx, time.Duration(f.rnd.IntN(300))*time.Millisecond)
		}
	case "slow":
		f.up.limit(8000, 0) // 64 kbit/s
		sleep(ctx, pause)
	case "latency":
		f.up.limit(0, 150*time.Millisecond)
		sleep(ctx, pause)
	case "kill":
		f.replicator.end(syscall.SIGKILL)
		f.replicator.start()
	case "stop":
		f.replicator.end(syscall.SIGTERM)
		f.replicator.start()
	case "kill box":
		f.box.end(syscall.SIGKILL)
		f.box.start()
	case "kill centre":
		f.centre()
	case "kill in commit":
		// Between the end of a transaction and its markers: Kafka forgets the
		// markers then, about once in five times.
		f.ends(ctx)
		time.Sleep(time.Duration(f.rnd.IntN(5)) * time.Millisecond)
		f.centre()
	}
	f.up.each((*harness.Proxy).Heal)
	f.up.limit(0, 0)
	sleep(ctx, time.Duration(f.rnd.IntN(1500))*time.Millisecond)
}

// ends returns when the link ends a transaction, or has not for a while.
func (f *faults) ends(ctx context.Context) {
	seen := make(chan struct{}, 1)
	f.up.each(func(p *harness.Proxy) {
		p.Watch(func(key int16) {
			if key == int16(kmsg.EndTxn) {
				select {
				case seen <- struct{}{}:
				default:
				}
			}
		})
	})
	defer f.up.each(func(p *harness.Proxy) { p.Watch(nil) })
	select {
	case <-ctx.Done():
	case <-seen:
	case <-time.After(10 * time.Second):
	}
}

func sleep(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

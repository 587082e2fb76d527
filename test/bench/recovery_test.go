package bench

import (
	"context"
	"fmt"
	"math"
	"sync"
	"syscall"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/kversion"

	"github.com/waysideos/wayside/test/harness"
)

// recovery is one start of a broker that has much to open.
type recovery struct {
	how   string
	ready float64 // seconds from exec until it listens
	first float64 // seconds from exec to the first acks=all answer, from the log with the longest tail
	all   float64 // seconds from exec until it has nothing left to recover
	peak  float64 // memory by then, MB
}

// The starts that are measured.
const (
	killedCold = "kill -9 while written to, cold"
	killedWarm = "kill -9 while written to, warm"
	endedCold  = "clean stop, cold"
	endedWarm  = "clean stop, warm"
)

// recovered is one of the starts; without it, figures that pass no gate.
func (f *footprint) recovered(how string) recovery {
	for _, r := range f.recoveries {
		if r.how == how {
			return r
		}
	}
	return recovery{first: math.NaN(), peak: math.NaN()}
}

// longTopic has one partition of many segments, the last of them full but for
// a little; the others are those of memory.
const (
	longTopic = "long"
	manyTopic = "many"
	tail      = 60 << 20
)

// byName are versions of the protocol that name topics, rather than give ids.
var byName = kgo.MaxVersions(kversion.V3_5_0())

// recoveries measures how a broker comes back, in its control group, with ten
// thousand partitions and one long one.
func (b *bench) recoveries(f *footprint) {
	many, each, long := 10_000, 1_000_000, 4*b.bytes
	if !*full {
		many, each, long = 100, 10_000, 8<<20
	}
	f.open, f.long = many, fmt.Sprintf("%d MB", long/1_000_000)
	dir := b.t.TempDir()
	p := b.startBroker(dir)
	s := &subject{process: p, name: ours, dir: dir}
	b.admin(s, func(ctx context.Context, cl *kadm.Client) error {
		if _, err := cl.CreateTopic(ctx, int32(many), 1, nil, manyTopic); err != nil {
			return err
		}
		_, err := cl.CreateTopic(ctx, 1, 1, nil, longTopic)
		return err
	})
	b.fill(s, longTopic, long)
	b.fill(s, longTopic, tail)
	b.spread(s, many, each)
	kill := func() {
		syscall.Kill(s.pid, syscall.SIGKILL)
		s.stop()
	}
	restart := func(how string, cold bool) {
		if cold {
			b.cold(s)
		}
		s.process = b.comeBack(f, dir, how)
	}
	kill()
	restart(killedCold, true)
	b.spread(s, many, each/10)
	b.fill(s, longTopic, tail)
	kill()
	restart(killedWarm, false)
	s.stop()
	restart(endedCold, true)
	s.stop()
	restart(endedWarm, false)
	s.stop()
}

// spread sends one batch of so many bytes to each of n partitions.
func (b *bench) spread(s *subject, n, bytes int) {
	cl := harness.Client(b.t, s.addr, byName)
	defer cl.Close()
	batch := batchOf(bytes/1000, 1000)
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	const side = 4
	var wg sync.WaitGroup
	for i := range side {
		wg.Go(func() {
			for part := i; part < n; part += side {
				if err := produceOne(ctx, cl, manyTopic, int32(part), 1, batch); err != nil {
					b.t.Errorf("fill partition %d: %v", part, err)
					return
				}
			}
		})
	}
	wg.Wait()
}

func produceOne(ctx context.Context, cl *kgo.Client, topic string, part int32, acks int16, batch []byte) error {
	req := kmsg.NewPtrProduceRequest()
	req.Acks, req.TimeoutMillis = acks, 30000
	req.Topics = []kmsg.ProduceRequestTopic{{Topic: topic, Partitions: []kmsg.ProduceRequestTopicPartition{{Partition: part, Records: batch}}}}
	resp, err := req.RequestWith(ctx, cl)
	if err != nil {
		return err
	}
	return kerr.ErrorForCode(resp.Topics[0].Partitions[0].ErrorCode)
}

// comeBack starts the broker and has it acknowledge a record as soon as it can.
func (b *bench) comeBack(f *footprint, dir, how string) *process {
	r := recovery{how: how}
	begin := time.Now()
	s := b.box(f, dir)
	r.ready = time.Since(begin).Seconds()
	cl := harness.Client(b.t, s.addr, byName)
	defer cl.Close()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := produceOne(ctx, cl, longTopic, 0, -1, batchOf(1, 1000)); err != nil {
		b.t.Errorf("first record after %s: %v", how, err)
	}
	r.first = time.Since(begin).Seconds()
	r.all = b.untilIdle(s, begin)
	r.peak = memoryOf(s.pid).Peak
	f.recoveries = append(f.recoveries, r)
	return s.process
}

// untilIdle waits until the broker uses hardly any CPU time, which is when
// nothing is left to recover; it tells since when, in seconds.
func (b *bench) untilIdle(s *subject, begin time.Time) float64 {
	const look = 200 * time.Millisecond
	last, since, quiet := cpuOf(s.pid), time.Since(begin), 0
	for quiet < 3 && time.Since(begin) < 3*time.Minute {
		time.Sleep(look)
		now := cpuOf(s.pid)
		if now-last > 0.02*look.Seconds() {
			quiet, since = 0, time.Since(begin)
		} else {
			quiet++
		}
		last = now
	}
	return since.Seconds()
}

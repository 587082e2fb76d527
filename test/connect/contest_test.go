package connect

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// contest is one protocol: our connector and Telegraf's input of it, each with
// a process of its own, take the same and write it to the same Kafka broker.
type contest struct {
	name, what string
	// ours is the entry of a profile's list, peer Telegraf's input; %[1]s is
	// the address to listen at, or that of the device.
	protocol, ours, peer string
	// address is a free one; device starts what is polled, or read from,
	// there. nil: the subjects listen.
	address func(testing.TB) string
	device  func(t testing.TB, addr string)
	// load sends for a time and returns how much; nil: what is polled comes
	// by itself.
	load func(t testing.TB, addr string, d time.Duration) int
	// fields are how many values Telegraf puts into one record where we make
	// one of each; 0: one.
	fields int
}

const (
	contestRounds = 3
	contestFor    = 3 * time.Second // with a load
	pollsFor      = 6 * time.Second
)

// outcome is one subject's round.
type outcome struct{ rate, cpu, logCPU, peak, lost float64 }

// TestBenchTelegraf measures every connector that Telegraf has an input for.
func TestBenchTelegraf(t *testing.T) {
	needBench(t)
	telegraf(t) // built before anything is measured
	netSNMP(t)
	rows := ""
	for _, c := range contests {
		var us, them []outcome
		t.Run(strings.NewReplacer(" ", "_", ",", "").Replace(c.name), func(t *testing.T) {
			kafka := edge(t)
			addr := c.address(t)
			if c.device != nil {
				c.device(t, addr)
			}
			for range contestRounds {
				us = append(us, c.round(t, kafka, addr, 1, func(topic string) *process {
					return plant(t, kafka, fmt.Sprintf("connect:\n  %s:\n    - name: bench\n      records: {topic: %s}\n      ", c.protocol, topic)+
						strings.TrimSpace(strings.ReplaceAll(fmt.Sprintf(c.ours, addr), "\n", "\n      "))+"\n")
				}))
				them = append(them, c.round(t, kafka, addr, max(1, c.fields), func(topic string) *process {
					return startTelegraf(t, kafka.addr, topic, fmt.Sprintf(c.peer, addr))
				}))
			}
		})
		if len(them) == contestRounds {
			rows += c.row(us, them)
		}
	}
	t.Log("\n" + contestText + rows)
	if strings.Count(rows, "\n") == len(contests) { // all were asked for, and none failed
		section(t, "telegraf", contestText+rows)
	}
}

const contestText = `## Beside Telegraf

The connector and the input of Telegraf ` + telegrafVersion + ` for the same protocol, each in a
process of its own, with the same input, writing to the same Kafka broker with
acks=all. A value counts when the Kafka broker has it; CPU is per such value,
of the process and of the Kafka broker; memory is the process's peak. Median of
3 rounds in turns; senders and devices run on the same machine. Telegraf
acknowledges what it has in memory, and holds up to 2,000,000 records there;
our connector acknowledges what is on disk. "Lost" is what was sent and did
not come. Where a load has a fixed pace, the rates say only that it was kept.

| protocol | load | values/s: ours, Telegraf | ratio | CPU µs a value: ours + Kafka, Telegraf + Kafka | peak memory: ours, Telegraf | lost: ours, Telegraf |
|---|---|---|---|---|---|---|
`

func (c *contest) row(us, them []outcome) string {
	of := medianOf[outcome]
	rate := func(o outcome) float64 { return o.rate }
	cpu := func(o outcome) float64 { return o.cpu }
	log := func(o outcome) float64 { return o.logCPU }
	peak := func(o outcome) float64 { return o.peak / 1e6 }
	lost := func(o outcome) float64 { return o.lost * 100 }
	return fmt.Sprintf("| %s | %s | %.0f, %.0f | %.2f | %.1f + %.1f, %.1f + %.1f | %.0f MB, %.0f MB | %.1f %%, %.1f %% |\n", c.name, c.what,
		of(us, rate), of(them, rate), of(us, rate)/of(them, rate), of(us, cpu), of(us, log), of(them, cpu), of(them, log),
		of(us, peak), of(them, peak), of(us, lost), of(them, lost))
}

// round measures one process from its start to its end.
func (c *contest) round(t *testing.T, kafka *process, addr string, values int, serve func(topic string) *process) (o outcome) {
	t.Helper()
	topic := fmt.Sprintf("bench-%d", time.Now().UnixNano())
	cl, err := kgo.NewClient(kgo.SeedBrokers(kafka.addr))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	there := func() (n int64) {
		ends, err := kadm.NewClient(cl).ListEndOffsets(t.Context(), topic)
		if err != nil {
			t.Fatal(err)
		}
		ends.Each(func(o kadm.ListedOffset) { n += max(0, o.Offset) })
		return n * int64(values)
	}
	p := serve(topic)
	defer p.stop()
	c.warm(t, addr, p, there)
	pid, log := p.cmd.Process.Pid, kafka.cmd.Process.Pid
	before, cpu, logCPU, began := there(), usageOf(t, pid).cpu, usageOf(t, log).cpu, time.Now()
	sent, took := -1, time.Duration(0)
	if c.load != nil {
		sent = c.load(t, addr, contestFor)
	} else {
		time.Sleep(pollsFor)
	}
	n := there() - before
	took = time.Since(began)
	for quiet := time.Now(); sent >= 0 && n < int64(sent) && time.Since(quiet) < 2*time.Second; time.Sleep(20 * time.Millisecond) {
		if now := there() - before; now > n {
			n, quiet, took = now, time.Now(), time.Since(began)
		}
	}
	if n == 0 {
		t.Fatalf("nothing has come")
	}
	o.rate = float64(n) / took.Seconds()
	o.cpu = float64((usageOf(t, pid).cpu - cpu).Microseconds()) / float64(n)
	o.logCPU = float64((usageOf(t, log).cpu - logCPU).Microseconds()) / float64(n)
	o.peak = float64(usageOf(t, pid).peak)
	if sent > 0 {
		o.lost = max(0, float64(sent)-float64(n)) / float64(sent)
	}
	t.Logf("%s: %.0f records/s, %.1f + %.1f us, %.0f MB, lost %.3f of %d", filepath.Base(p.cmd.Path), o.rate, o.cpu, o.logCPU, o.peak/1e6, o.lost, sent)
	return o
}

// warm waits until what is sent arrives, and what was sent is there.
func (c *contest) warm(t *testing.T, addr string, p *process, there func() int64) {
	t.Helper()
	if c.load != nil && c.device == nil {
		until(t, "the connector to listen", func() bool { return p.ended() || takesDatagrams(t, addr) || dials(addr) })
	}
	if c.load != nil {
		time.Sleep(200 * time.Millisecond) // a subscription of the connector has nothing that tells of it
		c.load(t, addr, 100*time.Millisecond)
	}
	until(t, "records to come", func() bool { return there() > 0 || p.ended() })
	for last := int64(-1); last != there(); time.Sleep(300 * time.Millisecond) {
		if last = there(); c.load == nil {
			break
		}
	}
	if p.ended() {
		t.Fatalf("%s has ended:\n%s", p.cmd.Path, p.out.String())
	}
}

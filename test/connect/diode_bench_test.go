package connect

import (
	"fmt"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// TestBenchDiode carries records over a one-way link of a given rate, which no
// other program here does.
func TestBenchDiode(t *testing.T) {
	needBench(t)
	const n, size = 200_000, 200
	plantSide, officeSide, addr := edge(t), edge(t), freeDatagrams(t)
	cl, err := kgo.NewClient(kgo.SeedBrokers(plantSide.addr), kgo.AllowAutoTopicCreation(), kgo.DefaultProduceTopic("sensors"))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	produce := func(from, to int) {
		t.Helper()
		var rs []*kgo.Record
		for i := from; i < to; i++ {
			rs = append(rs, kgo.StringRecord(text(i, size)))
		}
		if err := cl.ProduceSync(t.Context(), rs...).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	receiver := plant(t, officeSide, fmt.Sprintf("connect: {diode_receive: [{name: in, listen: %q}]}\n", addr))
	until(t, "the receiver to listen", func() bool { return takesDatagrams(t, addr) })
	sender := plant(t, plantSide, fmt.Sprintf("connect: {diode_send: [{name: out, address: %q, topics: [sensors], rate: 20MB/s}]}\n", addr))
	produce(0, 1)
	records(t, officeSide.addr, "sensors", atLeast(1))
	used := func() (send, receive time.Duration) {
		return usageOf(t, sender.cmd.Process.Pid).cpu, usageOf(t, receiver.cmd.Process.Pid).cpu
	}
	send, receive := used()
	began := time.Now()
	produce(1, n+1)
	records(t, officeSide.addr, "sensors", atLeast(n+1))
	took := time.Since(began).Seconds()
	sendNow, receiveNow := used()
	section(t, "diode", fmt.Sprintf(`## One-way UDP

%d records of %d bytes over a link of 20 MB/s, with 25 datagrams added to a
hundred; there is no peer to compare with. CPU is of the connector's process,
memory its peak.

| records/s | CPU µs a record: sender, receiver | memory: sender, receiver |
|---|---|---|
| %.0f | %.1f, %.1f | %d MB, %d MB |
`, n, size, n/took, float64((sendNow-send).Microseconds())/n, float64((receiveNow-receive).Microseconds())/n,
		usageOf(t, sender.cmd.Process.Pid).peak/1e6, usageOf(t, receiver.cmd.Process.Pid).peak/1e6))
}

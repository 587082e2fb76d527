package server

import (
	"hash/crc32"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// TestSums: the sum of any range is the same whether it was taken piece by
// piece or at once.
func TestSums(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	buf := make([]byte, 9*sumBlock+12345)
	for i := range buf {
		buf[i] = byte(rnd.Uint32())
	}
	var s sums
	for n := 0; n < len(buf); n += 1 + rnd.IntN(2*sumBlock) {
		s = s.arrived(buf, n)
	}
	if got := len(s); got < 7 {
		t.Fatalf("%d blocks are summed, want at least 7", got)
	}
	ranges := [][2]int{{0, 0}, {0, len(buf)}, {sumBlock, 2 * sumBlock}, {sumBlock, sumBlock}, {1, sumBlock}, {1, 3*sumBlock - 1}}
	for range 300 {
		from := rnd.IntN(len(buf))
		ranges = append(ranges, [2]int{from, from + rnd.IntN(len(buf)-from)})
	}
	for _, r := range ranges {
		if got, want := s.of(buf[r[0]:r[1]], r[0]), crc32.Checksum(buf[r[0]:r[1]], castagnoli); got != want {
			t.Errorf("bytes %d to %d: sum %08x, want %08x", r[0], r[1], got, want)
		}
	}
}

// TestLargeProduce: of the batches of a request of some megabytes, the one that
// is damaged is refused, wherever it lies, and no other.
func TestLargeProduce(t *testing.T) {
	s := newServer(t)
	s.RequestBytes, s.TransferTimeout = 32<<20, 10*time.Second
	s.memory = newMemory(64 << 20)
	f := newFetcher(t, s)
	f.c.SetDeadline(time.Now().Add(time.Minute))
	f.topic("t", 6)
	for bad := range 6 {
		req := kmsg.NewPtrProduceRequest()
		req.Version, req.Acks = 9, 1
		rt := kmsg.NewProduceRequestTopic()
		rt.Topic = "t"
		for i, size := range []int{100, 900_000, 64 << 10, 200_000, 1000, 1_000_000} {
			b := batchOf(1, size, 0)
			if i == bad {
				b[len(b)*(i+1)/7] ^= 1
			}
			rt.Partitions = append(rt.Partitions, kmsg.ProduceRequestTopicPartition{Partition: int32(i), Records: b})
		}
		req.Topics = []kmsg.ProduceRequestTopic{rt}
		resp := kmsg.NewPtrProduceResponse()
		f.send(req, resp)
		for _, p := range resp.Topics[0].Partitions {
			want := int16(0)
			if p.Partition == int32(bad) {
				want = kerr.CorruptMessage.Code
			}
			if p.ErrorCode != want {
				t.Errorf("batch %d is damaged: partition %d: error %d, want %d", bad, p.Partition, p.ErrorCode, want)
			}
		}
	}
}

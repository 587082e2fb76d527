package connect

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/waysideos/wayside/services/connect/connecttest"
)

// mqttLoad is how a broker is loaded.
type mqttLoad struct {
	name    string
	qos     byte
	clients int
	window  int // messages of a client on their way
}

var mqttLoads = []mqttLoad{
	{"QoS 1, 100 clients, 1 on its way each", 1, 100, 1},
	{"QoS 1, 100 clients, 10 on their way each", 1, 100, 10},
	{"QoS 1, 1000 clients, 1 on its way each", 1, 1000, 1},
	{"QoS 2, 100 clients, 10 on their way each", 2, 100, 10},
}

const (
	mqttPayload = 1024
	mqttRounds  = 3
	mqttFor     = 2 * time.Second
)

// mqttResult is of one round.
type mqttResult struct{ rate, cpu, logCPU, rss float64 }

// TestBenchMQTT publishes 1 KiB messages into our broker, which acknowledges
// what is on the disk of the Kafka broker beside it, and into mosquitto, which
// acknowledges what it has in memory, in turns.
func TestBenchMQTT(t *testing.T) {
	needBench(t)
	kafka := edge(t)
	ours := daemon(t, "mqtt", "--listen", "127.0.0.1:0", "--broker", kafka.addr)
	addr := connecttest.FreeAddress(t)
	_, port, _ := net.SplitHostPort(addr)
	conf := filepath.Join(t.TempDir(), "mosquitto.conf")
	write(t, conf, "listener "+port+" 127.0.0.1\nallow_anonymous true\nmax_inflight_messages 0\nmax_queued_messages 0\n")
	peer := start(t, tool(t, "mosquitto"), "-c", conf)
	until(t, "mosquitto to serve", func() bool {
		c, err := net.Dial("tcp", addr)
		if err == nil {
			c.Close()
		}
		return err == nil
	})
	text := "## MQTT\n\nMessages of 1 KiB published, nobody subscribes. `waysided mqtt` acknowledges what the\n" +
		"Kafka broker beside it has on disk, mosquitto what it has in memory. Median of " + fmt.Sprint(mqttRounds) +
		" rounds\nin turns; the client runs on the same machine.\n\n" +
		"| load | messages/s: ours, mosquitto | ratio | CPU µs a message: mqtt + Kafka broker, mosquitto | memory: mqtt, mosquitto |\n|---|---|---|---|---|\n"
	for _, load := range mqttLoads {
		var us, them []mqttResult
		for range mqttRounds {
			us = append(us, measureMQTT(t, load, ours.addr, ours, kafka))
			them = append(them, measureMQTT(t, load, addr, peer, nil))
		}
		of := medianOf[mqttResult]
		rate := func(r mqttResult) float64 { return r.rate }
		cpu := func(r mqttResult) float64 { return r.cpu }
		rss := func(r mqttResult) float64 { return r.rss }
		text += fmt.Sprintf("| %s | %.0f, %.0f | %.2f | %.0f + %.0f, %.0f | %.0f MB, %.0f MB |\n", load.name,
			of(us, rate), of(them, rate), of(us, rate)/of(them, rate),
			of(us, cpu), of(us, func(r mqttResult) float64 { return r.logCPU }), of(them, cpu), of(us, rss), of(them, rss))
	}
	t.Log("\n" + text)
	section(t, "mqtt", text)
}

func measureMQTT(t *testing.T, load mqttLoad, addr string, p, log *process) (r mqttResult) {
	t.Helper()
	conns := make([]net.Conn, load.clients)
	for i := range conns {
		conns[i] = mqttConnect(t, addr, fmt.Sprintf("bench-%d", i))
		defer conns[i].Close()
	}
	before, logBefore := usageOf(t, p.cmd.Process.Pid), usage{}
	if log != nil {
		logBefore = usageOf(t, log.cmd.Process.Pid)
	}
	var done atomic.Int64
	var wg sync.WaitGroup
	end := time.Now().Add(mqttFor)
	for i, conn := range conns {
		wg.Go(func() {
			if err := mqttPublish(conn, load, fmt.Sprintf("bench/%d", i), end, &done); err != nil {
				t.Errorf("publish to %s: %v", addr, err)
			}
		})
	}
	began := time.Now()
	time.Sleep(time.Until(end))
	r.rss = float64(usageOf(t, p.cmd.Process.Pid).rss) / 1e6
	wg.Wait()
	took, n := time.Since(began), float64(done.Load())
	r.rate = n / took.Seconds()
	r.cpu = float64((usageOf(t, p.cmd.Process.Pid).cpu - before.cpu).Microseconds()) / n
	if log != nil {
		r.logCPU = float64((usageOf(t, log.cmd.Process.Pid).cpu - logBefore.cpu).Microseconds()) / n
	}
	return r
}

func mqttConnect(t *testing.T, addr, id string) net.Conn {
	t.Helper()
	conn, err := mqttDial(addr, id)
	if err != nil {
		t.Fatal(err)
	}
	return conn
}

// mqttDial is a session of MQTT 3.1.1 that is new.
func mqttDial(addr, id string) (net.Conn, error) {
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		return nil, err
	}
	body := append([]byte("\x00\x04MQTT\x04\x02\x00\x3c"), byte(len(id)>>8), byte(len(id)))
	body = append(body, id...)
	if _, err := conn.Write(append([]byte{0x10, byte(len(body))}, body...)); err != nil {
		return nil, err
	}
	ack := make([]byte, 4)
	if _, err := io.ReadFull(conn, ack); err != nil || ack[3] != 0 {
		return nil, fmt.Errorf("connect to %s: % x, %v", addr, ack, err)
	}
	return conn, nil
}

// mqttPublish keeps a window of messages on their way until end, and counts
// those that are complete.
func mqttPublish(conn net.Conn, load mqttLoad, topic string, end time.Time, done *atomic.Int64) error {
	n := 2 + len(topic) + 2 + mqttPayload
	packet := binary.AppendUvarint([]byte{0x30 | load.qos<<1}, uint64(n))
	packet = append(binary.BigEndian.AppendUint16(packet, uint16(len(topic))), topic...)
	at := len(packet)
	packet = append(packet, make([]byte, 2+mqttPayload)...)
	w, r := bufio.NewWriter(conn), bufio.NewReader(conn)
	_ = conn.SetDeadline(end.Add(30 * time.Second))
	ack, next, flying := make([]byte, 4), uint16(0), 0
	for {
		for ; flying < load.window && time.Now().Before(end); flying++ {
			next = next%60000 + 1
			binary.BigEndian.PutUint16(packet[at:], next)
			w.Write(packet)
		}
		if flying == 0 {
			return nil
		}
		if err := w.Flush(); err != nil {
			return err
		}
		for more := true; more; more = r.Buffered() >= 4 {
			if _, err := io.ReadFull(r, ack); err != nil {
				return err
			}
			switch ack[0] {
			case 0x40, 0x70: // PUBACK, PUBCOMP
				flying--
				done.Add(1)
			case 0x50: // PUBREC
				w.Write([]byte{0x62, 2, ack[2], ack[3]})
			}
		}
	}
}

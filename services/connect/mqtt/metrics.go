package mqtt

import "github.com/prometheus/client_golang/prometheus"

// Reasons a message is not in Kafka.
const (
	noRoute   = "no route"
	noTopic   = "no topic"                   // of a record that a publication takes
	forbidden = "not allowed"                // by the access rules
	badRecord = "not accepted by the broker" // too large for its topic, and the like
	overflow  = "buffer full"                // QoS 0 and wills only
	failed    = "not stored"                 // QoS 0 and wills; others are sent again by the device
)

type metrics struct {
	messages, bytes, refused *prometheus.CounterVec
	turnedAway, unacked      prometheus.Counter
	unretained, dropped      prometheus.Counter
	denied                   prometheus.Counter
	wait                     prometheus.Histogram
}

func newMetrics(reg prometheus.Registerer, connected func() int) (*metrics, error) {
	if reg == nil {
		reg = prometheus.NewRegistry()
	}
	opts := func(name, help string) prometheus.CounterOpts {
		return prometheus.CounterOpts{Namespace: "wayside", Subsystem: "mqtt", Name: name, Help: help}
	}
	m := &metrics{
		messages:   prometheus.NewCounterVec(opts("messages_total", "Messages stored in Kafka."), []string{"topic", "qos"}),
		bytes:      prometheus.NewCounterVec(opts("bytes_total", "Payload bytes of these messages."), []string{"topic"}),
		refused:    prometheus.NewCounterVec(opts("refused_messages_total", "Messages that are not in Kafka."), []string{"reason"}),
		turnedAway: prometheus.NewCounter(opts("turned_away_total", "Connections closed because too many were open.")),
		unacked:    prometheus.NewCounter(opts("unacknowledged_disconnects_total", "Devices disconnected, to send again, because Kafka did not take a message.")),
		unretained: prometheus.NewCounter(opts("unretained_total", "Messages not kept as retained for want of space.")),
		dropped:    prometheus.NewCounter(opts("dropped_total", "Messages not brought to a subscriber: QoS 0 for one that is too slow, too large for it, in a batch too large to be unpacked, or of a shared subscription that nobody is there for.")),
		denied:     prometheus.NewCounter(opts("denied_total", "Clients that did not say who they are, or said it wrongly.")),
		wait: prometheus.NewHistogram(prometheus.HistogramOpts{
			Namespace: "wayside", Subsystem: "mqtt", Name: "ack_seconds",
			Help:    "From a QoS 1 or 2 message to its acknowledgement.",
			Buckets: prometheus.ExponentialBuckets(0.001, 4, 8),
		}),
	}
	clients := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Namespace: "wayside", Subsystem: "mqtt", Name: "clients", Help: "Devices connected.",
	}, func() float64 { return float64(connected()) })
	for _, c := range []prometheus.Collector{m.messages, m.bytes, m.refused, m.turnedAway, m.unacked, m.unretained, m.dropped, m.denied, m.wait, clients} {
		if err := reg.Register(c); err != nil {
			return nil, err
		}
	}
	return m, nil
}

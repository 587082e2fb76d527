package mqtt

import (
	"log/slog"
	"time"

	mochi "github.com/mochi-mqtt/server/v2"
)

// What devices may make this service hold. Everything here is memory: the
// service's MemoryMax stands behind it.
const (
	maxClients    = 2000
	maxHandshakes = 64      // connections that have not yet said who they are
	maxPacket     = 1000000 // bytes; with its headers it fits maxBatch
	maxBatch      = 1048588 // Kafka's default message.max.bytes
	// window is how many QoS 1 and 2 messages of one device may wait for
	// Kafka: the Receive Maximum told to MQTT 5, back-pressure for MQTT 3.
	window = 256
	// Towards subscribers: messages waiting to be written, and QoS 1 and 2
	// messages unacknowledged or kept for one that is offline. Both are kept
	// in memory; a reader that must not miss anything reads Kafka.
	maxPending     = 256
	maxInflight    = 100
	sessionExpiry  = time.Hour
	maxRetained    = 16 << 20 // bytes of retained payloads; not kept over a restart
	maxBuffered    = 16 << 20 // bytes waiting for Kafka, all devices
	maxFireForget  = maxBuffered / 2
	connectTimeout = 10 * time.Second // from accept to a whole CONNECT
	writeTimeout   = 10 * time.Second // for one acknowledgement
	stopGrace      = 2 * time.Second

	maxBufferedRecords = 50000
	// linger lets the messages of many devices share a batch, and a sync of
	// the disk; it is what a lone message waits longer.
	linger = 2 * time.Millisecond
)

func newServer(log *slog.Logger) *mochi.Server {
	caps := mochi.NewDefaultServerCapabilities()
	caps.MaximumClients = maxClients
	caps.MaximumPacketSize = maxPacket
	caps.ReceiveMaximum = window
	caps.MaximumInflight = maxInflight
	caps.MaximumClientWritesPending = maxPending // a channel of this size per client: the library's default costs 64 KiB
	caps.MaximumSessionExpiryInterval = uint32(sessionExpiry / time.Second)
	caps.MaximumMessageExpiryInterval = 0 // the default would drop retained messages after a day
	caps.TopicAliasMaximum = 0
	return mochi.New(&mochi.Options{
		Capabilities:           caps,
		SysTopicResendInterval: 60, // seconds
		Logger:                 slog.New(quiet{log.Handler()}),
	})
}

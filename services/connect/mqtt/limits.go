package mqtt

import (
	"log/slog"
	"math"
	"time"

	mochi "github.com/mochi-mqtt/server/v2"

	"github.com/waysideos/wayside/services/connect/unpack"
)

// What devices may make this service hold. Everything here is memory: the
// service's MemoryMax stands behind it.
const (
	maxClients    = 2000
	maxHandshakes = 128       // connections of a listener that have not yet said who they are
	maxConnect    = 128 << 10 // bytes of CONNECT: a will of 64 KiB and what stands around it
	maxPacket     = 1000000   // bytes; with its headers it fits maxBatch
	maxBatch      = 1048588   // Kafka's default message.max.bytes
	maxAliases    = 16        // topic aliases of an MQTT 5 client
	// window is how many QoS 1 and 2 messages of one device may wait for
	// Kafka: the Receive Maximum told to MQTT 5, back-pressure for MQTT 3.
	window        = 256
	maxUnreleased = 4 * window // QoS 2 messages of one device between PUBLISH and PUBREL

	// Towards subscribers: messages in memory, and those unacknowledged. What
	// goes beyond stays in Kafka until there is room.
	maxPending   = 256
	maxInflight  = 100
	maxRoom      = 16 << 20 // bytes of messages waiting for all subscribers
	maxFetch     = 512 << 10
	maxFollowers = 4 // sessions that read what they missed, at a time

	maxSessions      = 4096
	sessionExpiry    = 7 * 24 * time.Hour // the most that a session is kept for who is away
	maxSubscriptions = 500                // of a client
	maxFilterBytes   = 256 << 10          // of all of these
	maxLevels        = 64                 // of a filter: each is a node of the index, half a KiB
	maxRetained      = 16 << 20           // bytes of retained messages
	maxIndex         = 24 << 20           // bytes of all subscriptions: 2,000 clients with 5 of 4 levels have half of it
	maxWills         = 8 << 20            // bytes of all wills, but for small ones

	maxBuffered    = 16 << 20 // bytes waiting for Kafka, all devices
	maxFireForget  = maxBuffered / 2
	maxStateBytes  = 8 << 20          // changes of the state, waiting for Kafka
	connectTimeout = 10 * time.Second // that it is waited for until a whole CONNECT, TLS included
	connectLeast   = time.Second      // the time it may be silent for while others wait
	writeTimeout   = 10 * time.Second // of one write to a device
	loginPause     = 100 * time.Millisecond
	positionEvery  = 5 * time.Second  // positions of QoS 1 are written; a power cut repeats what was acknowledged since
	willGrace      = 30 * time.Second // after a restart, for clients to come back before their wills are sent
	discoverEvery  = time.Second
	stopGrace      = 2 * time.Second

	maxBufferedRecords = 50000
	// linger lets the messages of many devices share a batch, and a sync of
	// the disk; it is what a lone message waits longer. What comes while a batch
	// is on its way waits for it anyway. With 2 ms a hundred devices that send one
	// at a time got a third fewer messages through; other loads showed nothing.
	linger = 500 * time.Microsecond
)

// unpacked is what all readers of this service hold of compressed batches that
// they have unpacked. Messages that wait do not count: they have been copied.
var unpacked = unpack.Limits{Batch: 8 << 20, All: 24 << 20, Each: 12 << 20, Own: 1 << 20}

// newServer sets up the library. Its queues are only for its own $SYS topics:
// messages of devices never pass through them.
func newServer(log *slog.Logger) *mochi.Server {
	caps := mochi.NewDefaultServerCapabilities()
	caps.MaximumClients = maxClients
	caps.MaximumPacketSize = maxPacket
	caps.ReceiveMaximum = window
	caps.MaximumInflight = maxInflight
	caps.MaximumClientWritesPending = 32
	caps.MaximumSessionExpiryInterval = math.MaxUint32 // sessions are ended by expire (clients.go)
	caps.MaximumMessageExpiryInterval = 0
	caps.TopicAliasMaximum = maxAliases
	return mochi.New(&mochi.Options{
		Capabilities:            caps,
		SysTopicResendInterval:  60, // seconds
		ClientNetReadBufferSize: 1024,
		Logger:                  slog.New(quiet{log.Handler()}),
	})
}

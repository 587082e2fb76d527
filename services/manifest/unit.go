package manifest

import (
	"io/fs"
	"time"
)

// Unit is one service as its .service file declares it. Names of units are
// written without their suffix. docs/formats/units.md lists the keys.
type Unit struct {
	Name        string // of the file, without ".service"
	File        string // where it was read, for messages
	Description string
	After       []string // services that must be ready, or have failed, before the first start
	Requires    []string // services that must be ready before the first start

	ExecStart []string // absolute path and arguments
	Type      Type

	User                string // "" is root
	Group               string // "" is the user's own
	SupplementaryGroups []string

	Restart         Restart
	RestartDelay    time.Duration // RestartSec: first delay, doubled by every failure
	RestartMaxDelay time.Duration // RestartMaxDelaySec: where doubling ends

	StartAhead   bool          // see StartFD
	TimeoutStart time.Duration // 0 waits for ever
	TimeoutStop  time.Duration // TERM to KILL; 0 waits for ever
	Watchdog     time.Duration // longest silence between keepalives; 0 is off

	MemoryMax  int64 // bytes; 0 is no limit
	MemoryHigh int64 // bytes; 0 is no limit
	CPUWeight  int   // 1..10000; 0 leaves the kernel's 100
	TasksMax   int64 // 0 is no limit

	StateDirectory       []string // below /var/lib
	StateDirectoryMode   fs.FileMode
	RuntimeDirectory     []string // below /run, removed when the service ends
	RuntimeDirectoryMode fs.FileMode

	Environment []string // KEY=value
	Credentials []Credential

	AmbientCapabilities []Capability
	// BoundingSet holds the capabilities a service can ever have. It limits
	// only if LimitBounding is set: an empty set and no set differ.
	BoundingSet     []Capability
	LimitBounding   bool
	NoNewPrivileges bool

	LimitNOFILE    uint64 // soft and hard; 0 leaves it
	OOMScoreAdjust int    // -1000..1000

	// Sockets lists the socket units handed to the service, in the order of
	// their file descriptors. ReadDir adds those that name the service.
	Sockets []string
}

// Socket is one .socket file: listeners that init makes and hands over.
type Socket struct {
	Name        string // of the file, without ".socket"
	File        string // where it was read, for messages
	Description string
	// Listen holds ListenStream as written: a port (all addresses, IPv4 and
	// IPv6), address:port, or the absolute path of a Unix socket.
	Listen  []string
	FDName  string // in LISTEN_FDNAMES; default: the file's name
	Service string // default: the service of the same name

	User, Group string      // of a Unix socket; "" is root
	Mode        fs.FileMode // of a Unix socket; default 0666
}

// Type says when a service counts as ready.
type Type string

const (
	Simple Type = "simple" // as soon as it runs
	Notify Type = "notify" // when it sends READY=1
)

// StartFD names the environment variable by which the first process of a unit
// that says X-StartAhead is told which of its descriptors to read before it does
// anything: a byte lets it begin, the end without one has it exit.
const StartFD = "WAYSIDE_START_FD"

// Restart says after which end a service is started again.
type Restart string

const (
	RestartNo        Restart = "no"
	RestartOnFailure Restart = "on-failure"
	RestartAlways    Restart = "always"
)

// Credential is a file that the service gets to read as
// $CREDENTIALS_DIRECTORY/ID, whoever owns the original.
type Credential struct {
	ID   string
	Path string // absolute
}

// Defaults of keys that a unit leaves out: systemd's own, but for the growth
// of the restart delay, which systemd has off.
const (
	DefaultRestartDelay    = 100 * time.Millisecond
	DefaultRestartMaxDelay = time.Minute
	DefaultTimeout         = 90 * time.Second
)

func newUnit(name, file string) Unit {
	return Unit{
		Name: name, File: file, Type: Simple, Restart: RestartNo,
		RestartDelay: DefaultRestartDelay, RestartMaxDelay: DefaultRestartMaxDelay,
		TimeoutStart: DefaultTimeout, TimeoutStop: DefaultTimeout,
		StateDirectoryMode: 0o755, RuntimeDirectoryMode: 0o755,
	}
}

func newSocket(name, file string) Socket {
	return Socket{Name: name, File: file, FDName: name + socketSuffix, Service: name, Mode: 0o666}
}
